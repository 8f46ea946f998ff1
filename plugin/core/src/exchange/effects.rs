//! Effects: what a shell has to do next.

use super::{Calling, Delivering, Passing, Reserving, Upstream};
use crate::metrics::Stamp;
use crate::protocol::Operation;
use crate::replay::{KeyChange, ReplayKey};
use std::borrow::Cow;

/// The result of one event. Carry out `stamps`, then `keys`, then `next`.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    /// What to count.
    pub stamps: Vec<Stamp>,
    /// Changes to reservations this request holds.
    pub keys: Vec<(ReplayKey, KeyChange)>,
    /// What to do.
    pub next: Next,
}

/// The one thing to do next.
#[derive(Debug)]
pub enum Next {
    /// Send the request to the upstream with these edits; nothing is settled for it and its response
    /// goes through untouched.
    Forward(HeaderEdits, Passing),
    /// Send the request to the upstream with these edits, then hand the response head to the state.
    Serve(HeaderEdits, Box<Upstream>),
    /// Answer the client. Final.
    Reply(Reply),
    /// Reserve a replay key, then call [`Reserving::reserved`].
    Reserve(Box<Reserving>),
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

/// A response the filter makes itself. It replaces everything the upstream sent.
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
    /// Headers for a relay: what is bought, under which rules. A facilitator gets none.
    pub headers: Vec<(&'static str, String)>,
}
