//! Requests and their results.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::host::{Instance, Shared};

/// A request as Traefik passes it to a middleware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) uri: Vec<u8>,
    /// Lower-case names with their values, sorted; Traefik's own order is random.
    pub headers: BTreeMap<String, Vec<Vec<u8>>>,
    pub(crate) peer: String,
}

/// The guest's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// Status; 0 until it is set.
    pub status: u16,
    /// As they went out with the status.
    pub headers: BTreeMap<String, Vec<u8>>,
    /// Everything that was written.
    pub body: Vec<u8>,
}

/// What the guest did with a request.
#[derive(Debug)]
pub enum Sent {
    /// It answered.
    Replied(Reply),
    /// It passed the request on.
    Passed(Passed),
    /// It trapped: Traefik answers 500.
    Trapped(String),
}

/// A request under way to the router's service. No other request uses its instance until this is
/// dropped.
#[derive(Debug)]
pub struct Passed {
    /// As the service gets it.
    pub request: Request,
    pub(super) context: i32,
    pub(super) instance: Option<Rc<Instance>>,
    pub(super) shared: Shared,
}

// === impl Request ===

impl Request {
    /// `GET` of a request target on `api.example.com`, over plaintext from loopback.
    pub fn get(uri: impl AsRef<[u8]>) -> Self {
        Self::with_method("GET", uri)
    }

    /// Any method.
    pub fn with_method(method: &str, uri: impl AsRef<[u8]>) -> Self {
        let request = Self {
            method: method.to_owned(),
            uri: uri.as_ref().to_vec(),
            headers: BTreeMap::new(),
            peer: "127.0.0.1:40000".to_owned(),
        };
        request
            .header("host", "api.example.com")
            .header("user-agent", "farebox-tests")
            .header("x-forwarded-proto", "http")
    }

    /// Adds a header line; values are bytes.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.entry(name.to_ascii_lowercase()).or_default().push(value.as_ref().to_vec());
        self
    }

    /// From another address, `ip:port`.
    #[must_use]
    pub fn from_peer(self, peer: &str) -> Self {
        Self { peer: peer.to_owned(), ..self }
    }

    /// The first value of a name.
    pub fn get_header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name)?.first().map(Vec::as_slice)
    }

    /// The request target, lossily as text.
    pub fn uri(&self) -> String {
        String::from_utf8_lossy(&self.uri).into_owned()
    }

    /// Whether a body may follow, for which the plugin's own answer must not wait.
    pub fn may_have_a_body(&self) -> bool {
        self.headers.contains_key("content-length") || !matches!(self.method.as_str(), "GET" | "HEAD")
    }

    /// Method, target and header lines as the core has them.
    pub fn lines(&self) -> Vec<(&str, &[u8])> {
        let lines = self.headers.iter();
        let lines =
            lines.flat_map(|(name, values)| values.iter().map(|value| (name.as_str(), value.as_slice())));
        [(":method", self.method.as_bytes()), (":path", self.uri.as_slice())]
            .into_iter()
            .chain(lines)
            .collect()
    }
}

// === impl Reply ===

impl Reply {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?).ok()
    }
}

// === impl Sent ===

impl Sent {
    /// Panics unless the guest answered.
    #[track_caller]
    pub fn expect_reply(self) -> Reply {
        match self {
            Self::Replied(reply) => reply,
            other => panic!("the guest did not answer: {other:?}"),
        }
    }

    /// Panics unless the guest passed the request on.
    #[track_caller]
    pub fn expect_passed(self) -> Passed {
        match self {
            Self::Passed(passed) => passed,
            other => panic!("the guest did not pass the request on: {other:?}"),
        }
    }
}

// === impl Passed ===

impl Drop for Passed {
    /// The service has answered: the guest sees the response, and its instance returns to the pool.
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.respond(self.context);
            self.shared.borrow_mut().pool.push(instance);
        }
    }
}
