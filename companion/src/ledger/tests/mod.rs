//! One suite for both databases. What the machine decides is tested with the machine; here it is whether the ledger
//! keeps what it decided, whoever dies.

mod batches;
mod book;
mod books;
mod crashes;
mod flushes;
mod histories;
mod life;
mod migration;
mod retention;
mod settlement;
mod trouble;

pub(crate) use book::{Book, HOLDER, HOUR, MINUTE, NOW, OTHER, claim, claim_by, key, sale, settled, unknown};
