//! The handles of all parts, and their state at one moment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use crate::clock::unix_seconds;
use crate::counts::{Counts, CountsParts, SpoolsState};
use crate::facilitator::FacilitatorStates;
use crate::gateway::GatewayState;
use crate::handle::Handle;
use crate::ledger::LedgerHealth;
use crate::loading::LoadingParts;
use crate::publish::PublishState;
use crate::relay::RelayParts;
use crate::rules::RulesState;

/// The handles of all parts.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Unix seconds.
    pub(crate) started_at: u64,
    /// The companion has got a signal to stop.
    pub(crate) is_stopping: Arc<AtomicBool>,
    /// The rules in force.
    pub rules: Handle<RulesState>,
    /// The state of the facilitators.
    pub facilitators: Handle<FacilitatorStates>,
    /// The state of the ledger.
    pub ledger: Handle<LedgerHealth>,
    /// The companion's own gateway.
    pub gateway: Handle<Option<GatewayState>>,
    /// The state of the proxies.
    pub published: Handle<PublishState>,
    /// The counts.
    pub counted: Handle<Counts>,
    /// The spools.
    pub spools: Handle<SpoolsState>,
}

/// All states but the counts, locked together, so that a reader sees the state before or after a load and never
/// a mix.
#[derive(Debug)]
pub struct Facts<'a> {
    pub(super) started_at: u64,
    pub(super) is_stopping: bool,
    pub(crate) rules: MutexGuard<'a, RulesState>,
    pub(crate) facilitators: MutexGuard<'a, FacilitatorStates>,
    pub(crate) ledger: MutexGuard<'a, LedgerHealth>,
    pub(crate) gateway: MutexGuard<'a, Option<GatewayState>>,
    pub(crate) published: MutexGuard<'a, PublishState>,
    pub(crate) spools: MutexGuard<'a, SpoolsState>,
}

// === impl Shared ===

impl Shared {
    /// The state before any part has started. `pricing` is the path of the pricing file, for messages.
    pub fn new(pricing: String) -> Self {
        Self {
            started_at: unix_seconds(),
            is_stopping: Arc::default(),
            rules: Handle::new(RulesState::new(pricing)),
            facilitators: Handle::default(),
            ledger: Handle::default(),
            gateway: Handle::default(),
            published: Handle::default(),
            counted: Handle::default(),
            spools: Handle::default(),
        }
    }

    /// Notes that the companion stops; `/readyz` says so from now on.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Locks all states but the counts, in the order of [`Handle`]. Payments wait meanwhile.
    pub fn lock(&self) -> Facts<'_> {
        Facts {
            started_at: self.started_at,
            is_stopping: self.is_stopping.load(Ordering::Relaxed),
            rules: self.rules.lock(),
            facilitators: self.facilitators.lock(),
            ledger: self.ledger.lock(),
            gateway: self.gateway.lock(),
            published: self.published.lock(),
            spools: self.spools.lock(),
        }
    }

    /// The handles for the relay.
    pub fn for_relay(&self) -> RelayParts {
        let Self { rules, facilitators, ledger, .. } = self.clone();
        RelayParts { rules, facilitators, ledger }
    }

    /// The handles for counting.
    pub fn for_counts(&self) -> CountsParts {
        let Self { rules, ledger, published, counted, spools, .. } = self.clone();
        CountsParts { rules, ledger, published, counted, spools }
    }

    /// The handles for the loader.
    pub fn for_loading(&self) -> LoadingParts {
        let Self { rules, facilitators, ledger, counted, .. } = self.clone();
        LoadingParts { rules, facilitators, ledger, counted }
    }
}
