//! What the companion itself brings to the ledger, and what a reader of `/metrics` gets from there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farebox_core::metrics::MetricSeries;
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

use super::{CountsParts, Spools};
use crate::clock::unix_seconds;
use crate::gateway::Meters;
use crate::ledger::{Ledger, LedgerError};

/// Brings what gateway and spools count to the ledger, and its counters to the state.
#[derive(Debug)]
pub struct Gatherer {
    ledger: Ledger,
    gateway: Option<Arc<Meters>>,
    spools: Option<Spools>,
    /// Why the ledger does not count what the gateway counted.
    unreported: Mutex<Option<String>>,
    state: CountsParts,
    reading: tokio::sync::Mutex<()>,
}

/// How often it is brought.
const EVERY: Duration = Duration::from_secs(1);
/// How long a reader of `/metrics` waits for fresh values.
const ON_DEMAND_LIMIT: Duration = Duration::from_millis(500);

// === impl Gatherer ===

impl Gatherer {
    /// Brings the counters of a ledger to the state.
    pub fn new(ledger: Ledger, state: CountsParts) -> Self {
        let (unreported, reading) = Default::default();
        Self { ledger, gateway: None, spools: None, unreported, state, reading }
    }

    /// Also brings what a gateway counts to the ledger.
    #[must_use]
    pub fn with_gateway(self, gateway: Option<Arc<Meters>>) -> Self {
        Self { gateway, ..self }
    }

    /// Also brings what spools count to the ledger.
    #[must_use]
    pub fn with_spools(self, spools: Option<Spools>) -> Self {
        Self { spools, ..self }
    }

    /// Has the ledger count what counts elsewhere.
    pub async fn gather(&self) {
        if let Some(spools) = &self.spools {
            spools.read().await;
        }
        let Some(meters) = &self.gateway else { return };
        let error = meters
            .report(&self.ledger, |changes| self.state.counted.lock().admit(changes))
            .await
            .err()
            .map(|error| error.to_string());
        let mut unreported = self.unreported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error.as_ref().filter(|_| *unreported != error) {
            warn!("what the gateway counted waits for the ledger: {error}");
        }
        *unreported = error;
    }

    /// Fresh values for a reader who does not wait long. Where they take longer, the last ones have to do, and the next
    /// reader gets these.
    pub async fn show(self: &Arc<Self>) {
        let own = Arc::clone(self);
        let fresh = tokio::spawn(async move {
            // One reading at a time: whoever comes meanwhile shares it.
            let Ok(_reading) = own.reading.try_lock() else {
                drop(own.reading.lock().await);
                return;
            };
            own.gather().await;
            if let Err(error) = own.read().await {
                warn!("the counters of the ledger cannot be read: {error}");
            }
        });
        let _ = tokio::time::timeout(ON_DEMAND_LIMIT, fresh).await;
    }

    /// Gathers for ever. After each load it removes from the ledger what is gone.
    pub async fn run(&self) {
        let (mut tidied, mut told) = (None, None);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.gather().await;
            let generation = {
                let (settles_direct, now) = (self.state.ledger.lock().settles_direct, unix_seconds());
                let error = {
                    let mut published = self.state.published.lock();
                    published.proxies.watch(now);
                    published.settlement_error(settles_direct, now)
                };
                if let Some(error) = error.as_ref().filter(|_| told != error) {
                    error!("{error}");
                }
                told = error;
                self.state.rules.lock().active.as_ref().map(|active| active.generation)
            };
            if generation != tidied {
                match self.tidy().await {
                    Ok(()) => tidied = generation,
                    Err(error) => warn!("counters of removed offers cannot be deleted: {error}"),
                }
            }
            self.check().await;
        }
    }

    /// Where nobody else looks whether the ledger works, because nobody settles by it.
    async fn check(&self) {
        if !self.state.ledger.lock().settles_direct {
            return;
        }
        let checked = self.ledger.check().await;
        let mut health = self.state.ledger.lock();
        match checked {
            Ok(()) => health.works(),
            Err(error) => health.fails(&error, "; counts wait for it"),
        }
    }

    async fn read(&self) -> Result<BTreeSet<MetricSeries>, LedgerError> {
        let counters = self.ledger.counters().await?;
        let gone = self.state.counted.lock().read(counters);
        self.state.ledger.lock().went_back = self.ledger.went_back();
        Ok(gone)
    }

    /// Deletes the counters of what is gone.
    pub(crate) async fn tidy(&self) -> Result<(), LedgerError> {
        let gone = self.read().await?;
        self.ledger.forget_counters(&gone).await
    }
}
