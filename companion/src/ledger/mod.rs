//! What became of every payment, kept where it survives: SQLite in a file, or PostgreSQL for several companions.
//!
//! All decisions are [`farebox_core::payment::step`]'s. The ledger loads a record, has it stepped and writes what
//! follows, in one transaction; SQL decides nothing. One writer takes all steps that wait, in their order, and
//! commits them together, so that durability costs a batch and not a payment:
//!
//! ```text
//! step, note ─► queue ─► load the keys' rows ─► step in memory ─► write rows and counters ─► commit ─► answers
//!                                                                                        └► flush  ─► answers
//! ```
//!
//! What moves money, and everything that is told of it, is answered when it is on disk. A reservation is answered when
//! it is committed: a machine that loses its power forgets it, and then nobody can settle it. What a step counts is
//! counted in its transaction.
//!
//! Beside the payments are the counters, to which reports add ([`Ledger::apply`]): added up over all companions they are
//! the totals.

mod batch;
mod books;
pub mod command;
mod commit;
mod error;
mod flush;
mod health;
mod migrations;
mod options;
mod place;
mod report;
mod row;
mod rules;
mod settlement;
mod spools;
mod sql;
mod steps;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod witness;
mod writer;

use farebox_core::payment::{Answer, Claim};
use farebox_core::terms::Tuple;

pub use books::{Books, Entry, Filter, Total};
pub use error::LedgerError;
pub use farebox_core::payment::PaymentKey;
pub use health::LedgerHealth;
pub use options::{Clock, LedgerOptions};
pub use rules::PublishedRules;
pub use settlement::{AtStake, LOOKED_AT};
pub use spools::{Checkpoint, FileMark, SpoolFile, SpoolsOf};
pub use store::Ledger;

pub(crate) use spools::new_run;

/// What is sold, for the books and the counters: needed where a step may make a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// The offer that is bought, with the birth of its series. [`farebox_core::payment::Terms::offer`] is that of
    /// the same offer.
    pub tuple: Tuple,
    /// Generation of the rules it is bought under.
    pub generation: u64,
    /// The proxy that brought the payment.
    pub proxy: String,
    /// Names the purchase, by the `payment-identifier` extension. A claim of another payment for it finds its twin.
    pub identifier: Option<String>,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// The machine's answer.
    pub answer: Answer,
    /// The facilitator on record: it settles, nobody else is ever asked.
    pub facilitator: Option<String>,
    /// The record is gone after this step: nothing was charged.
    pub freed: bool,
    /// The answer rests on more than a reservation, so it was not told before that was on disk.
    pub lasts: bool,
    /// What is behind the call that is to be made: its end brings it, in case the record is gone by then.
    pub behind: Option<Box<(Claim, Sale)>>,
}
