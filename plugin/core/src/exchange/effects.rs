//! Effects: the next steps of a shell.

use super::{Calling, Delivering, Passing, Stepping, Upstream};
use crate::metrics::Stamp;
use crate::payment::{Ending, Event, Holder, PaymentKey};
use crate::protocol::Operation;
use std::borrow::Cow;

/// The result of one event. Carry out `stamps`, then `notes`, then `next`.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    /// What to count.
    pub stamps: Vec<Stamp>,
    /// Events for the store of payments.
    pub notes: Vec<Note>,
    /// The next step.
    pub next: Next,
}

/// An event of a payment whose answer changes nothing for the request. With a relay every note is the end of a
/// request, which the shell sends to the relay without waiting. Without a relay the event goes into the shell's
/// own store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The key of the payment.
    pub key: PaymentKey,
    /// [`crate::payment::tuple_hash`] of the tuple the payment is counted under.
    pub tuple: u32,
    /// The request.
    pub holder: Holder,
    /// The event.
    pub event: Event,
}

impl Note {
    /// The ending for the relay, if the event is an end. With a relay every event is an end.
    pub fn ending(&self) -> Option<Ending> {
        match self.event {
            Event::Over(holder, end) => Some(Ending { key: self.key.clone(), holder, end }),
            _ => None,
        }
    }
}

/// The one thing to do next.
#[derive(Debug)]
pub enum Next {
    /// Send the request to the upstream with these edits. Nothing is settled, and the response is not changed.
    Forward(HeaderEdits, Passing),
    /// Send the request to the upstream with these edits, then call [`Upstream::response`].
    Serve(HeaderEdits, Box<Upstream>),
    /// Answer the client. Final.
    Reply(Reply),
    /// Step the payment in the shell's own store, then call [`Stepping::stepped`]. Not with a relay.
    Step(Box<Stepping>),
    /// Call the facilitator, then call [`Calling::answered`].
    Call(Box<Calling>),
    /// Let the held response go with these edits; `Some` if its delivery has to be reported.
    Release(HeaderEdits, Option<Delivering>),
}

/// Edits of a header block. Removals first, then sets (which replace every copy).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Names to remove, as they appear in the head (lower case).
    pub remove: Vec<String>,
    /// Names to set, lower case; `:path` may be among those of a request.
    pub set: Vec<(Cow<'static, str>, String)>,
}

/// A response that Farebox itself makes. It replaces everything from the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers, complete but for content-length. Names in lower case; none comes from the upstream.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Body; empty for HEAD.
    pub body: Vec<u8>,
}

/// One facilitator call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which endpoint.
    pub operation: Operation,
    /// JSON body.
    pub body: Vec<u8>,
    /// Deadline, milliseconds.
    pub timeout_ms: u32,
    /// Headers for a relay, with offer, route and rules. A facilitator gets none.
    pub headers: Vec<(&'static str, String)>,
}
