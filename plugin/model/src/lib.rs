//! A small world around [`farebox_core::payment::step`], explored whole: no mock-up of the machine, the machine.
//!
//! Two proxies with requests, two companions with what they know in memory, one ledger, one facilitator that lies
//! and a chain that does not, buyers who send a payment again, an adversary with a second authorization of a nonce
//! and with junk for a signature, an operator, and time. Every order of their steps is tried; at every step a proxy
//! or a companion may die, a reply, a report or the acknowledgement of a transaction may be lost.
//!
//! * `cast`: the payments and the bodies of their calls.
//! * `ledger`: the record, small.
//! * `state`: the world at one moment.
//! * [`Model`]: what may happen next.
//! * `write`: what a companion writes down and says: the protocol of the relay around the machine.
//! * [`Breach`]: what must never happen.
//! * [`Fault`]: what is wrong on purpose, so that it is known that it would be found.
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
