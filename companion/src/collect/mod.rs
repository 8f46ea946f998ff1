//! Reading the proxies: every interval, while a push is under way, and whenever `/metrics` is read.

mod envoy;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farebox_core::metrics::HostSeries;
use futures_util::future::join_all;
use tokio::sync::Mutex;
use tracing::warn;

use crate::aggregate::{DropReason, Refused, Report};
use crate::ledger::Ledger;
use crate::settings::Proxy;
use crate::state::{Shared, unix_seconds};

pub use envoy::CollectError;

/// One reading of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The generation it enforces, if its filter has been configured.
    pub generation: Option<u64>,
    /// Configurations it has refused since it started.
    pub rejected: u64,
    /// Its counters.
    pub report: Report,
}

/// Reads every proxy into the shared state, one round at a time.
#[derive(Debug)]
pub struct Collector {
    client: reqwest::Client,
    proxies: Vec<Proxy>,
    /// Counts the money where the relay settles.
    ledger: Option<Ledger>,
    state: Shared,
    rounds: AtomicU64,
    flight: Mutex<()>,
}

/// Name of the ledger as a source; no proxy can have it, as theirs are printable.
const LEDGER: &str = "the ledger";
/// How long a reader of `/metrics` waits for fresh values. Values of a proxy that is slower come next time.
const ON_DEMAND_LIMIT: Duration = Duration::from_millis(500);
/// How long one request to a proxy may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

// === impl Collector ===

impl Collector {
    /// A collector of these proxies.
    pub fn new(proxies: Vec<Proxy>, state: Shared) -> Result<Self, reqwest::Error> {
        // Proxies are neighbours: a web proxy of the environment has no business between.
        let client = crate::http::client_builder().no_proxy().timeout(REQUEST_LIMIT).build()?;
        Ok(Self { client, proxies, ledger: None, state, rounds: AtomicU64::new(0), flight: Mutex::new(()) })
    }

    /// Also collects from a ledger.
    #[must_use]
    pub fn with_ledger(self, ledger: Option<Ledger>) -> Self {
        Self { ledger, ..self }
    }

    /// Reads every proxy once. Callers that arrive while a round is under way share the next one.
    pub async fn collect(&self) {
        let arrived = self.rounds.load(Ordering::Acquire);
        let _flight = self.flight.lock().await;
        if self.rounds.load(Ordering::Acquire) > arrived {
            return;
        }
        self.rounds.fetch_add(1, Ordering::AcqRel);
        join_all(self.proxies.iter().map(|proxy| self.collect_one(proxy))).await;
        // After the proxies: what they served is charged by now.
        self.collect_ledger().await;
        self.forget_removals();
    }

    /// Fresh values for a reader who will not wait long.
    pub async fn collect_on_demand(&self) {
        let _ = tokio::time::timeout(ON_DEMAND_LIMIT, self.collect()).await;
    }

    /// Collects for ever.
    pub async fn run(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.collect().await;
        }
    }

    async fn collect_one(&self, proxy: &Proxy) {
        let reading = envoy::read(&self.client, &proxy.stats).await;
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(known) = state.proxies.iter_mut().find(|known| known.name == proxy.name) else { return };
        match reading {
            Ok(reading) => {
                known.reported(&reading);
                let refused = state.aggregate.ingest(&proxy.name, reading.report);
                refused.iter().for_each(|refused| log_refused(&proxy.name, refused));
            }
            Err(error) => known.unreadable(error.to_string()),
        }
    }

    /// The ledger's counters go on over restarts, so they are one life of one source.
    async fn collect_ledger(&self) {
        let Some(ledger) = &self.ledger else { return };
        match ledger.counters().await {
            Ok(values) => {
                let report = Report { values, ..Report::default() };
                let mut state = self.state.lock();
                let refused = state.aggregate.ingest(LEDGER, report);
                drop(state);
                refused.iter().for_each(|refused| log_refused(LEDGER, refused));
            }
            Err(error) => warn!("the counters of the ledger cannot be read: {error}"),
        }
    }

    /// Removals matter as long as a proxy that may still report enforces older rules.
    fn forget_removals(&self) {
        let mut state = self.state.lock();
        let now = unix_seconds();
        let living = state.proxies.iter().filter(|proxy| proxy.is_known(now));
        let enforced = living.map(|proxy| proxy.confirmed.unwrap_or(0)).min();
        state.aggregate.forget_removals(enforced);
    }
}

/// Refused money is written down with tuple and amount; other refusals only count.
fn log_refused(proxy: &str, refused: &Refused) {
    let HostSeries::Charged(tuple, amount) = &refused.series else { return };
    let reason = match refused.reason {
        DropReason::Pruned => "the offer is gone",
        DropReason::StaleGeneration => "the offer was removed and added again since",
        DropReason::Malformed => "unreadable",
    };
    warn!(
        proxy,
        offer_namespace = tuple.offer_namespace,
        offer_name = tuple.offer_name,
        chain = tuple.chain,
        asset = tuple.asset_symbol,
        %amount,
        charges = refused.growth,
        removed_in = refused.removed_in,
        "late charges are in no metric: {reason}"
    );
}
