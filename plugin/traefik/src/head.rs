//! Reading a request's headers for the core.

use std::net::SocketAddr;

use farebox_core::exchange::{RequestHead, Transport};
use http_wasm_guest::host::{Bytes, Request};

/// A request head. It owns its data, because the host returns copies.
pub(crate) struct Captured {
    method: Bytes,
    uri: Bytes,
    headers: Vec<(Bytes, Vec<Bytes>)>,
    peer: Option<SocketAddr>,
}

// === impl Captured ===

impl Captured {
    /// Reads the head. The peer costs a call, so it is read only if the rules require secure transport.
    pub(crate) fn read(request: &Request, secure_only: bool) -> Self {
        let peer = secure_only.then(|| request.source_addr());
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.header.entries_iter().collect(),
            peer: peer.and_then(|address| core::str::from_utf8(&address).ok()?.parse().ok()),
        }
    }

    /// The lines, with pseudo-headers. `host` is the authority in this host.
    pub(crate) fn lines(&self) -> Vec<(&str, &[u8])> {
        let mut lines: Vec<(&str, &[u8])> = Vec::with_capacity(self.headers.len() + 2);
        lines.push((":method", &self.method));
        lines.push((":path", &self.uri));
        for (name, values) in &self.headers {
            // A name that is not text is not a header that the core knows.
            let Ok(name) = core::str::from_utf8(name) else { continue };
            lines.extend(values.iter().map(|value| (name, value.as_ref())));
        }
        lines
    }

    /// Whether a body may follow. The host does not show a body in chunks.
    pub(crate) fn may_have_a_body(&self) -> bool {
        let is_told = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
        is_told || !matches!(&self.method[..], b"GET" | b"HEAD")
    }

    /// The head of these lines. Traefik says how a request arrived in a header that it accepts only from
    /// addresses that its entry point trusts.
    pub(crate) fn head<'a>(&self, lines: &'a [(&'a str, &'a [u8])]) -> RequestHead<'a> {
        let is_tls = |value: &[u8]| matches!(value, b"https" | b"wss");
        let tls = lines.iter().any(|(name, value)| *name == "x-forwarded-proto" && is_tls(value));
        RequestHead { headers: lines, transport: Transport { tls, peer: self.peer.map(|peer| peer.ip()) } }
    }
}
