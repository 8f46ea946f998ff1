//! What became of every payment, kept where it survives: SQLite in a file, or PostgreSQL for several companions.
//!
//! A payment is keyed by what a chain lets be used once: (chain, contract, payer, nonce). Its life:
//!
//! ```text
//! reserved ─► verified ─► settling ─┬─► settled
//!     │           │                 ├─► refused      free to be reserved again
//!     └───────────┴─► (released)    └─► unknown ─► settled, refused, or expired
//! ```
//!
//! Every step is one conditional statement, so two companions on one database cannot both take it. What a step
//! counts is counted in its transaction. All times are given by the caller.
//!
//! Beside the payments are each companion's totals, see [`Ledger::take_over_totals`].

mod claim;
pub mod command;
#[cfg(test)]
mod facilitator_tests;
mod query;
mod rules;
mod settle;
mod spools;
mod store;
#[cfg(test)]
mod tests;
mod totals;
#[cfg(test)]
mod totals_tests;
#[cfg(test)]
mod trouble_tests;

use farebox_core::rules::Tuple;

pub use query::{Entry, Filter, Total};
pub use rules::PublishedRules;
pub use settle::Open;
pub use spools::{Checkpoint, FileId, Spooled};
pub use store::{Ledger, LedgerError};
pub use totals::TotalsOf;

pub(crate) use store::file_of;

/// What a chain lets be used once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentKey {
    /// CAIP-2 id.
    pub network: String,
    /// The token (EIP-3009) or the Permit2 contract; lower-case hex like the two below.
    pub contract: String,
    /// Who pays.
    pub payer: String,
    /// 32 bytes.
    pub nonce: String,
}

/// A payment somebody wants to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is used up.
    pub key: PaymentKey,
    /// One life of one proxy. It sees to it that it uses a payment once at a time.
    pub holder: String,
    /// One use of the payment by its holder.
    pub attempt: String,
    /// The offer that is bought, with the birth of its series.
    pub tuple: Tuple,
    /// Generation of the rules it is bought under.
    pub generation: u64,
    /// Token contract.
    pub asset: String,
    /// Atomic units, decimal.
    pub amount: String,
    /// Who is paid.
    pub pay_to: String,
    /// Unix seconds at which the authorization ends.
    pub ends: u64,
}

/// The answer to a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// It is the holder's until its lease ends.
    Fresh,
    /// It was settled and nobody was told: it buys one answer without another settlement.
    Redeem,
    /// Another holder is using it.
    InFlight,
    /// It has bought its answer.
    Used,
    /// It may have been settled; the reconciliation goes on.
    Unknown {
        /// Transaction, if one is known.
        transaction: Option<String>,
    },
}

/// The answer to the wish to settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Call the facilitator. `again` says that an earlier call may have moved the money.
    Call {
        /// Whether to read the reply as that of a repeated call.
        again: bool,
    },
    /// It is settled already, for this holder.
    Settled {
        /// As recorded.
        transaction: String,
    },
    /// A call of the same holder is under way; wait for it.
    Joined,
    /// Another holder is using it.
    InFlight,
    /// It has bought its answer.
    Used,
}

/// How a settlement ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Money moved.
    Settled {
        /// Transaction hash.
        transaction: String,
    },
    /// No money moved.
    Refused {
        /// Code of the facilitator.
        reason: String,
    },
    /// Nobody knows yet.
    Unknown {
        /// Transaction, if one is known.
        transaction: Option<String>,
        /// For people.
        reason: String,
    },
    /// Nobody will ever know from asking: the authorization ended long ago. An operator has to look it up.
    Expired,
}
