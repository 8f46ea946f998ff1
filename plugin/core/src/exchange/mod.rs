//! One request's life, as a state machine without I/O.
//!
//! A shell starts it with [`begin`] and carries out the [`Turn`] it gets: first every stamp, then every
//! key change, then the one [`Next`]. Each state is consumed by the event it waits for, so a state that
//! cannot settle has no way to settle, and nothing resumes twice.
//!
//! ```text
//! begin ─┬─ Reply                                   challenge, refusal, block
//!        ├─ Forward(Passing)                        free, preflight, unmatched pass
//!        └─ Reserve ─ reserved ─┬─ Call(verify) ─ answered ─ Forward(Serving)
//!                               ├─ Call(settle) ─ answered ─ Forward(Paid)       upfront, or unresolved before
//!                               └─ Forward(Paid)                                 redeemed
//! Serving ─ response ─┬─ Call(settle) ─ answered ─ Release(Delivering) | Reply
//!                     └─ Release(Done)                                           error, redirect
//! Paid    ─ response ─── Release(Delivering)
//! any     ─ abandoned ── the client went away
//! ```
//!
//! Every refusal is a row of [`refusal`]: cause → who is at fault → status → body → metric reason.

pub mod refusal;

mod begin;
mod effects;
mod head;
mod paying;
mod serving;

pub use begin::begin;
pub use effects::{Call, HeaderEdits, Next, Reply, Turn};
pub use head::{RequestHead, ResponseHead, ResponseOrigin, Transport};
pub use paying::{Answer, Calling, Reserving};
pub use serving::{Abandoned, Delivering, Passing, Upstream};
