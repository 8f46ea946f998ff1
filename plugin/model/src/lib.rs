//! A small world around [`farebox_core::payment::step`], explored completely. It runs the machine itself, not a
//! copy.
//!
//! The world has two proxies with requests, two companions with state in memory, one ledger, one facilitator that
//! lies, a true chain, buyers who send a payment again, an adversary with a second authorization of a nonce and
//! with invalid signatures, an operator, and time. Every order of their steps is tried. At every step a proxy or a
//! companion may die, and a reply, a report or the acknowledgement of a transaction may be lost.
//!
//! * `cast`: the payments and the bodies of their calls.
//! * `ledger`: the small form of the record.
//! * `state`: the world at one moment.
//! * [`Model`]: what may happen next.
//! * `write`: what a companion records and answers: the protocol of the relay around the machine.
//! * [`Breach`]: what must never happen.
//! * [`Fault`]: deliberate faults, which show that the model would find such a fault.
#![forbid(unsafe_code)]

mod cast;
mod fault;
mod ledger;
mod model;
mod property;
mod state;
mod write;

pub use cast::Payment;
pub use fault::Fault;
pub use model::{Action, Bounds, Explored, Model, Verdict};
pub use property::Breach;
pub use state::{Came, World};
