//! Helpers of the end-to-end tests: a client that sends exactly the given bytes, payments, the
//! numbers of an offer, and the health of the workers.

mod certificates;
mod health;
mod ledger;
mod numbers;
mod purchase;
mod raw;
mod settlement;
mod upstream;

pub(crate) use certificates::certificates;
pub(crate) use health::assert_workers_live;
pub(crate) use ledger::in_ledger;
pub(crate) use numbers::{Calls, Tally};
pub(crate) use purchase::Payment;
pub(crate) use raw::{Answer, Request, begin, exchange, talk, text};
pub(crate) use settlement::Settlement;
pub(crate) use upstream::{Arrived, Upstream};
