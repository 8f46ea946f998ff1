//! One request's life, as a state machine without I/O.
//!
//! A shell starts an exchange with [`begin`](fn@begin) and carries out the [`Turn`] that it returns: first every
//! stamp, then every note, then the one [`Next`]. Each state is consumed by its event. So a state that must not
//! settle has no method for it, and no state can resume twice.
//!
//! ```text
//! begin ─┬─ Reply                                   challenge, refusal, block, preflight
//!        ├─ Forward(Passing)                        free, unmatched pass
//!        ├─ Call(verify) ─ answered                 a relay keeps the payments
//!        └─ Step(claim) ─ stepped ─┬─ Reply         this shell keeps them: used, in use, no room
//!                                  ├─ Call(verify) ─ answered
//!                                  ├─ Call(settle) ─ answered      an earlier outcome is unknown
//!                                  └─ Serve                        redeemed
//! Call(verify) ─ answered ─┬─ Serve | Reply
//!                          └─ settlement                           upfront
//! settlement = Call(settle), with a relay; else Step(begin) ─ stepped ─ Call(settle) ─ answered ─ Step(ended)
//!              ─ Serve(Upstream)                                   before the upstream
//!              ─ Release(Delivering)                               after it
//!              ─ Reply
//! Serve(Upstream) ─ response ─┬─ settlement
//!                             ├─ Release(Delivering)               settled before
//!                             ├─ Release                           error, redirect
//!                             └─ Reply                             no usable answer
//! Call(settle) ─ answered ─ Call(settle)            once, if the facilitator says it is pending
//! Calling, Upstream ─ abandoned                     the client went away
//! Call(settle) ─ orphaned ─ Orphan ─ answered       the same, where the shell hears of its call nevertheless
//! Delivering ─ ended                                the stream is over
//! ```
//!
//! All indexes in stamps refer to the [`crate::rules::RuleSet`] given to [`begin`](fn@begin), which a shell keeps
//! for as long as the exchange lives.
//!
//! Every refusal is a row of [`refusal`]: cause → who is at fault → status → body → metric reason.

pub mod refusal;

mod attempt;
mod begin;
mod cors;
mod effects;
mod head;
mod paying;
mod reply;
mod response;
mod seen;
mod serving;
mod strip;
mod url;
mod ways;

pub use begin::{Arrival, ambiguous_body, begin, unroutable};
pub use effects::{Call, HeaderEdits, Next, Note, Reply, Turn};
pub use head::{RequestHead, ResponseHead, ResponseOrigin, Transport};
pub use paying::{Calling, Late, Orphan, Stepping};
pub use reply::internal;
pub use seen::may_leave_unread;
pub use serving::{Abandoned, Delivering, Passing, Upstream};
pub use strip::{forged_names, to_gateway};

#[cfg(test)]
mod tests;
