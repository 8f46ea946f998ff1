//! A request a test sends.

use super::abi::Headers;

/// A request head, with how it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) headers: Headers,
    pub(crate) peer: String,
    pub(crate) tls: bool,
}

// === impl Request ===

impl Request {
    /// `GET` of a path on `api.example.com`, over plaintext from loopback.
    pub fn get(path: &str) -> Self {
        Self::with_method("GET", path)
    }

    /// Any method.
    pub fn with_method(method: &str, path: &str) -> Self {
        let headers = Headers::from_pairs([
            (":authority", "api.example.com"),
            (":path", path),
            (":method", method),
            (":scheme", "http"),
            ("user-agent", "farebox-tests"),
            ("x-forwarded-proto", "http"),
            ("x-request-id", "5a1f0a3e-0000-4000-8000-000000000000"),
        ]);
        Self { headers, peer: "127.0.0.1:40000".to_owned(), tls: false }
    }

    /// Adds a header line; values are bytes.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value);
        self
    }

    /// Replaces every line of a name by one.
    #[must_use]
    pub fn replacing(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// The peer's address and port.
    #[must_use]
    pub fn from_peer(mut self, peer: &str) -> Self {
        peer.clone_into(&mut self.peer);
        self
    }

    /// Over TLS.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        self.tls = true;
        self.headers.set(":scheme", "https");
        self
    }
}
