//! The parts of a story: a request, the actions of facilitator and upstream, and the result.

use super::super::{HeaderEdits, Reply, Transport};
use crate::metrics::Stamp;
use crate::protocol::Operation;

/// The facilitator's action for the next call.
#[derive(Debug, Clone)]
pub(super) enum Does {
    Says(u16, String),
    TimesOut,
    Unreachable,
    Cuts,
    NotSent,
    /// This action, and the client leaves during the call.
    AsClientLeaves(Box<Self>),
}

/// The upstream's action.
#[derive(Debug, Clone)]
pub(super) enum Up {
    Answers(u16, Vec<(&'static str, &'static str)>),
    /// The upstream answers, and breaks off in the body.
    Breaks(u16),
    Unreachable,
    TimesOut,
    ClientGone,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) transport: Transport,
}

/// The result of one request.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) stamps: Vec<Stamp>,
    /// The calls to the facilitator.
    pub(super) calls: Vec<(Operation, Vec<u8>)>,
    /// How often the store of payments was asked.
    pub(super) asked: usize,
    /// Edits of the forwarded request, if it was.
    pub(super) forwarded: Option<HeaderEdits>,
    pub(super) upstream_status: u16,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum End {
    Reply(Reply),
    /// Edits of the released response and its status.
    Released(u16, HeaderEdits),
    /// A free request.
    Passed,
    ClientGone,
}

pub(super) fn request(path: &str) -> Request {
    Request { method: "GET", path: path.into(), headers: Vec::new(), transport: Transport::default() }
}

/// Stamps in short: `PaymentPresented@0 PaymentFailed(PaymentInvalid)@0`.
pub(super) fn short(stamps: &[Stamp]) -> String {
    let text = |stamp: &Stamp| match stamp {
        Stamp::Tuple(tuple, counter) => format!("{counter:?}@{}", tuple.0),
        Stamp::Charged(charge) => format!("Charged@{}", charge.0),
        Stamp::LastSuccess(tuple, _) => format!("LastSuccess@{}", tuple.0),
        Stamp::Blocked(None, reason) => format!("Blocked({reason:?})"),
        Stamp::Blocked(Some(offer), reason) => format!("Blocked({reason:?})@{}", offer.0),
        Stamp::Call(operation, outcome, millis) => format!("{operation:?}({outcome:?},{millis})"),
    };
    stamps.iter().map(text).collect::<Vec<_>>().join(" ")
}

// === impl Request ===

impl Request {
    pub(super) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }
    pub(super) fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }
    pub(super) fn paying(self, payment: &str) -> Self {
        self.with("payment-signature", payment)
    }
    pub(super) fn lines(&self) -> Vec<(String, Vec<u8>)> {
        let pseudo = [(":method", self.method), (":path", &self.path), (":authority", "api.example")];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        pseudo.into_iter().chain(self.headers.iter().cloned()).collect()
    }
}

// === impl Story ===

impl Story {
    pub(super) const fn new() -> Self {
        Self {
            stamps: Vec::new(),
            calls: Vec::new(),
            asked: 0,
            forwarded: None,
            upstream_status: 0,
            end: End::ClientGone,
        }
    }
    pub(super) fn short(&self) -> String {
        short(&self.stamps)
    }
    pub(super) fn reply(&self) -> &Reply {
        match &self.end {
            End::Reply(reply) => reply,
            other => panic!("not a reply of ours: {other:?}"),
        }
    }
    pub(super) fn released(&self) -> (u16, &HeaderEdits) {
        match &self.end {
            End::Released(status, edits) => (*status, edits),
            other => panic!("nothing was released: {other:?}"),
        }
    }
    pub(super) fn status(&self) -> u16 {
        match &self.end {
            End::Reply(reply) => reply.status,
            End::Released(status, _) => *status,
            other => panic!("no response: {other:?}"),
        }
    }
    /// A header that Farebox set on the response.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let set = match &self.end {
            End::Reply(reply) => &reply.headers,
            End::Released(_, edits) => &edits.set,
            End::Passed | End::ClientGone => return None,
        };
        set.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    pub(super) fn body(&self) -> serde_json::Value {
        serde_json::from_slice(&self.reply().body).unwrap()
    }
    /// Whether the answer asks for another payment.
    pub(super) fn is_priced(&self) -> bool {
        self.header("payment-required").is_some()
    }
    /// The receipt; both headers must have the same.
    pub(super) fn receipt(&self) -> Option<serde_json::Value> {
        let value = self.header("payment-response");
        assert_eq!(value, self.header("x-payment-response"));
        let bytes = crate::protocol::decode_base64(value?.as_bytes()).unwrap();
        Some(serde_json::from_slice(&bytes).unwrap())
    }
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.calls.iter().map(|(operation, _)| *operation).collect()
    }
}

/// Usual answers of a facilitator.
pub(super) fn valid() -> Does {
    Does::Says(200, r#"{"isValid":true,"payer":"0x0"}"#.into())
}
pub(super) fn invalid(reason: &str) -> Does {
    Does::Says(200, format!(r#"{{"isValid":false,"invalidReason":"{reason}"}}"#))
}
pub(super) fn settled(chain: u64, transaction: &str) -> Does {
    Does::Says(
        200,
        format!(
            r#"{{"success":true,"transaction":"{transaction}","network":"eip155:{chain}","payer":"0x0"}}"#
        ),
    )
}
pub(super) fn refuses(reason: &str) -> Does {
    Does::Says(200, format!(r#"{{"success":false,"errorReason":"{reason}","transaction":"","network":""}}"#))
}
pub(super) fn pending(transaction: &str) -> Does {
    Does::Says(
        200,
        format!(
            r#"{{"success":false,"errorReason":"settlement_pending","transaction":"{transaction}","network":""}}"#
        ),
    )
}
pub(super) fn ok() -> Up {
    Up::Answers(200, vec![("content-type", "application/json")])
}

// === impl Does ===

impl Does {
    /// This action, while the client leaves.
    pub(super) fn while_client_leaves(self) -> Self {
        Self::AsClientLeaves(Box::new(self))
    }
}
