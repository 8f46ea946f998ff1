//! The handles of all parts, and what they say at one moment.

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
    /// It was told to stop and takes nothing new soon.
    pub(crate) is_stopping: Arc<AtomicBool>,
    /// The rules in force.
    pub rules: Handle<RulesState>,
    /// What is known of the facilitators.
    pub facilitators: Handle<FacilitatorStates>,
    /// How the ledger is.
    pub ledger: Handle<LedgerHealth>,
    /// Where the companion is a proxy itself.
    pub gateway: Handle<Option<GatewayState>>,
    /// What is known of the proxies.
    pub published: Handle<PublishState>,
    /// What was counted.
    pub counted: Handle<Counts>,
    /// The spools that are read.
    pub spools: Handle<SpoolsState>,
}

/// All of it but what was counted: a reader sees it before or after a load, never a mix.
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
    /// What is known before anything has started. `pricing` is the place of the pricing file, as people see it.
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

    /// From now on `/readyz` says that the companion stops.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Locks everything but what is counted, in the order of [`Handle`]. Payments wait meanwhile.
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

    /// What the relay needs of it.
    pub fn for_relay(&self) -> RelayParts {
        let Self { rules, facilitators, ledger, .. } = self.clone();
        RelayParts { rules, facilitators, ledger }
    }

    /// What counting needs of it.
    pub fn for_counts(&self) -> CountsParts {
        let Self { rules, ledger, published, counted, spools, .. } = self.clone();
        CountsParts { rules, ledger, published, counted, spools }
    }

    /// What the loader needs of it.
    pub fn for_loading(&self) -> LoadingParts {
        let Self { rules, facilitators, ledger, counted, .. } = self.clone();
        LoadingParts { rules, facilitators, ledger, counted }
    }
}
