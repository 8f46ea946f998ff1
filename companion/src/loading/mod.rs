//! Loading: the only way to put rules in force, in the ledger, at the gateway, in the counts, and at the
//! proxies.

use crate::counts::Counts;
use crate::facilitator::FacilitatorStates;
use crate::handle::Handle;
use crate::ledger::LedgerHealth;
use crate::rules::RulesState;

mod in_use;
mod loader;
mod waiting;

pub use loader::{Loader, Source};
pub use waiting::open_ledger;

/// The parts in which the loader puts rules in force.
#[derive(Debug, Clone)]
pub struct LoadingParts {
    /// The rules in force.
    pub rules: Handle<RulesState>,
    /// The states of their facilitators.
    pub facilitators: Handle<FacilitatorStates>,
    /// The state of the ledger.
    pub ledger: Handle<LedgerHealth>,
    /// The counts, with the live series.
    pub counted: Handle<Counts>,
}

#[cfg(test)]
mod loader_tests;
#[cfg(test)]
mod sharing_tests;
