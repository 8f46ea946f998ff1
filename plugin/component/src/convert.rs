//! Between the words of the interface and those of the core.

use farebox_core::exchange::{Calling, HeaderEdits, Reply, RequestHead, Transport};
use farebox_core::protocol::RELAY_HOLDER;
use farebox_core::terms;

use crate::bindings::exports::farebox::x402::gate::{Answer, Edits, Flow, Payment, Request};

/// What a payment can come in.
const PAYMENT: [&str; 2] = ["payment-signature", "x-payment"];

/// A request head as the core has it.
pub(crate) struct Head<'a> {
    request: &'a Request,
    /// Names of the lines in lower case, with their values.
    lines: Vec<(String, &'a [u8])>,
}

// === impl Head ===

impl<'a> Head<'a> {
    /// The whole head. A pseudo-header among the lines is dropped: what a client could slip in there would have
    /// one target priced and another served.
    pub(crate) fn new(request: &'a Request) -> Self {
        let lines = request.headers.iter().filter(|line| !line.name.starts_with(':'));
        let lines = lines.map(|line| (line.name.to_ascii_lowercase(), line.value.as_slice())).collect();
        Self { request, lines }
    }

    /// The head as if nobody offered to pay.
    pub(crate) fn without_payment(request: &'a Request) -> Self {
        let mut head = Self::new(request);
        head.lines.retain(|(name, _)| !PAYMENT.contains(&name.as_str()));
        head
    }

    /// Calls `with` with it, because the core borrows a list of borrowed lines.
    pub(crate) fn as_core<T>(&self, with: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let Request { method, target, authority, tls, peer, .. } = self.request;
        let pseudo = [
            (":method", method.as_bytes()),
            (":path", target.as_slice()),
            (":authority", authority.as_bytes()),
        ];
        let lines = self.lines.iter().map(|(name, value)| (name.as_str(), *value));
        let headers: Vec<_> = pseudo.into_iter().chain(lines).collect();
        let peer = peer.as_deref().and_then(|address| address.parse().ok());
        with(&RequestHead { headers: &headers, transport: Transport { tls: *tls, peer } })
    }
}

// === impl Answer ===

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let headers = reply.headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
        Self { status: reply.status, headers, body: reply.body }
    }
}

// === impl Edits ===

impl From<HeaderEdits> for Edits {
    fn from(edits: HeaderEdits) -> Self {
        let set = edits.set.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
        Self { remove: edits.remove, set }
    }
}

/// A payment with what has to happen before it is served.
pub(crate) fn payment(calling: &Calling) -> Payment {
    let (call, (key, claim)) = (calling.call(), calling.claim());
    // The host names its requests itself: one name for all would make them one request to a relay.
    let headers = call.headers.iter().filter(|(name, _)| *name != RELAY_HOLDER);
    Payment {
        key: key.0.to_vec(),
        fingerprint: claim.fingerprint.0.to_vec(),
        offer: claim.terms.offer,
        route: claim.terms.route,
        ends: claim.ends,
        unless_known: calling.unless_known().map(Into::into),
        flow: match claim.terms.flow {
            terms::Flow::Authorization => Flow::Authorization,
            terms::Flow::Upfront => Flow::Upfront,
        },
        body: call.body.clone(),
        headers: headers.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        timeout_ms: call.timeout_ms,
        edits: calling.edits_once_paid().into(),
    }
}
