//! The one way by which rules come in force: in the ledger, at the gateway, in the counts, and at the proxies.

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
    /// What is known of their facilitators.
    pub facilitators: Handle<FacilitatorStates>,
    /// How the ledger is.
    pub ledger: Handle<LedgerHealth>,
    /// Which series live.
    pub counted: Handle<Counts>,
}

#[cfg(test)]
mod loader_tests;
#[cfg(test)]
mod sharing_tests;
