//! Reading the proxies: every interval, while a push is under way, and whenever `/metrics` is read.
//!
//! Proxies are read side by side and each reading is shared by all who ask for one while it is under way, so a
//! proxy that does not answer delays nobody but itself. Where there is a ledger, what was read is saved there
//! before it is shown.

mod clock;
mod discovery;
#[cfg(test)]
mod discovery_tests;
mod envoy;
mod saving;
#[cfg(test)]
mod saving_tests;
mod spool;
mod target;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farebox_core::metrics::HostSeries;
use futures_util::stream::{self, StreamExt};
use tracing::{info, warn};

use crate::aggregate::{Aggregate, DropReason, Process, Refused, Report};
use crate::gateway::{Deployments, Meters};
use crate::ledger::{Ledger, TotalsOf};
use crate::publish::{ProxyState, PushState};
use crate::settings::{DnsName, Proxy};
use crate::state::{Shared, State, unix_seconds};

use clock::Clock;
use discovery::{Answer, Resolver};
use saving::Saver;
use target::Target;

pub use envoy::CollectError;
pub use spool::{SpoolError, SpoolState, Spools};

/// One reading of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The generation it enforces, if its filter has been configured.
    pub generation: Option<u64>,
    /// Configurations it has refused since it started.
    pub rejected: u64,
    /// Its clock less the companion's, seconds: as little as it can be.
    pub clock: Option<i64>,
    /// Whether its own health check of the relay succeeds, if it has one.
    pub relay_is_healthy: Option<bool>,
    /// Its counters.
    pub report: Report,
}

/// Reads every proxy into the shared state.
#[derive(Debug)]
pub struct Collector {
    client: reqwest::Client,
    /// Counts the money where the relay settles.
    ledger: Option<Ledger>,
    /// The rules by which its counters were last tidied.
    tidied: Mutex<Option<u64>>,
    /// The rules of the companion as a proxy, and what it counts.
    gateway: Option<(Arc<Deployments>, Arc<Meters>)>,
    /// Why the ledger does not count what the gateway counted.
    unreported: Mutex<Option<String>>,
    saver: Option<Saver>,
    /// Counts what shells without counters of their own have decided.
    spools: Option<Spools>,
    clock: Clock,
    names: Vec<DnsName>,
    announced: Option<u16>,
    /// What is asked of an Envoy.
    stats: envoy::Query,
    resolver: Resolver,
    /// What each name failed with when it was last asked.
    failures: Mutex<Vec<Option<String>>>,
    targets: Mutex<Vec<Arc<Target>>>,
    state: Shared,
}

/// Name of the ledger as a source; no proxy can have it, as theirs are printable.
const LEDGER: &str = "the ledger";
/// How long a reader of `/metrics` waits for fresh values. Values of a proxy that is slower come next time.
const ON_DEMAND_LIMIT: Duration = Duration::from_millis(500);
/// How long one request to a proxy may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Proxies read at the same time.
const CONCURRENT: usize = 64;

// === impl Collector ===

impl Collector {
    /// A collector of these proxies, which the state knows already.
    pub fn new(proxies: Vec<Proxy>, state: Shared) -> Result<Self, reqwest::Error> {
        // Proxies are neighbours: a web proxy of the environment has no business between. No connection is
        // kept: after a hot restart an old one leads to the old process for as long as that drains.
        let client =
            crate::http::client_builder().no_proxy().pool_max_idle_per_host(0).timeout(REQUEST_LIMIT);
        let targets = proxies.into_iter().map(|proxy| Arc::new(Target::new(proxy, None))).collect();
        Ok(Self {
            client: client.build()?,
            clock: Clock::start(),
            names: Vec::new(),
            announced: None,
            stats: envoy::Query::new(None),
            resolver: Resolver::system(),
            failures: Mutex::default(),
            targets: Mutex::new(targets),
            ledger: None,
            tidied: Mutex::default(),
            gateway: None,
            unreported: Mutex::default(),
            saver: None,
            spools: None,
            state,
        })
    }

    /// Also collects from a ledger, and saves there what the aggregate of the state, which was restored from
    /// it, adds up.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger, totals: TotalsOf) -> Self {
        Self { ledger: Some(ledger), saver: Some(Saver::new(totals)), ..self }
    }

    /// Also has the ledger count what a gateway counts, and heeds what that may still count.
    #[must_use]
    pub fn with_gateway(self, gateway: Option<(Arc<Deployments>, Arc<Meters>)>) -> Self {
        Self { gateway, ..self }
    }

    /// Also collects from spools.
    #[must_use]
    pub fn with_spools(self, spools: Spools) -> Self {
        Self { spools: Some(spools), ..self }
    }

    /// Reads the proxies behind these names as well, whatever they stand for at the time.
    #[must_use]
    pub fn discovering(mut self, names: Vec<DnsName>) -> Self {
        self.failures = Mutex::new(vec![None; names.len()]);
        self.names = names;
        self
    }

    /// Also reads whether proxies reach the relay, to which this cluster of theirs leads.
    #[must_use]
    pub fn relaying_by(self, cluster: Option<&str>) -> Self {
        Self { stats: envoy::Query::new(cluster), ..self }
    }

    /// Reads the proxies that have a stream for rules as well, at this port.
    #[must_use]
    pub fn announced_at(self, port: Option<u16>) -> Self {
        Self { announced: port, ..self }
    }

    /// Reads every proxy once, and saves what they say. Callers that arrive while a proxy is being read share
    /// its next reading.
    pub async fn collect(&self) {
        self.read_all().await;
        if let Some(saver) = &self.saver {
            saver.save(&self.state).await;
        }
    }

    /// Fresh values for a reader who will not wait long.
    pub async fn collect_on_demand(&self) {
        let _ = tokio::time::timeout(ON_DEMAND_LIMIT, self.read_all()).await;
        if let Some(saver) = &self.saver {
            saver.save_on_demand(&self.state).await;
        }
    }

    async fn read_all(&self) {
        // Whatever is older has been written down before it is read.
        let gateway = self.gateway.as_ref().map(|(deployments, _)| deployments.oldest_generation());
        let mut targets = self.targets();
        // Those that cost time come last.
        targets.sort_by_key(|target| target.has_failed());
        let readings = targets
            .into_iter()
            .map(|target| async move { target.share(self.read(&target.proxy)).await })
            .collect::<Vec<_>>();
        let proxies = stream::iter(readings).buffer_unordered(CONCURRENT).collect::<()>();
        // Beside the proxies: one of them that is dead must not keep the money from a reader in a hurry.
        tokio::join!(proxies, self.collect_ledger());
        self.tidy(gateway);
    }

    /// Collects for ever.
    pub async fn run(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A slow resolver holds up no reading.
            let found = async {
                if self.discover().await {
                    self.collect().await;
                }
            };
            tokio::join!(found, self.collect());
        }
    }

    /// Looks up the names, and who announced itself. Whether there are proxies that were not known.
    pub async fn discover(&self) -> bool {
        if self.names.is_empty() && self.announced.is_none() {
            return false;
        }
        let mut answers = self.resolver.resolve(&self.names).await;
        self.log_failures(&answers);
        // Like one name more.
        let announced = self.announced.map(|port| self.state.lock().discovery.announced(port));
        answers.extend(announced.map(Answer::Proxies));
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.iter().for_each(|target| target.hear(&answers));
        let mut new = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            let Answer::Proxies(found) = answer else { continue };
            for proxy in found {
                // The same proxy may be listed, or behind two names.
                let same = |target: &Arc<Target>| {
                    target.proxy.stats == proxy.stats || target.proxy.name == proxy.name
                };
                if !targets.iter().any(same) {
                    new.push(proxy.clone());
                    targets.push(Arc::new(Target::new(proxy, Some(index))));
                }
            }
        }
        drop(targets);
        let is_news = !new.is_empty();
        let mut state = self.state.lock();
        new.into_iter().for_each(|proxy| join(&mut state, proxy));
        is_news
    }

    fn targets(&self) -> Vec<Arc<Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self, proxy: &Proxy) -> bool {
        let reading = envoy::read(&self.client, &self.clock, &proxy.stats, &self.stats).await;
        let succeeded = reading.is_ok();
        let mut counted = self.state.counted();
        let mut state = self.state.lock();
        let Some(known) = state.proxies.iter_mut().find(|known| known.name == proxy.name) else {
            return false;
        };
        match reading {
            Ok(reading) => {
                known.reported(&reading);
                drop(state);
                let refused = counted.ingest(&proxy.name, reading.report);
                refused.iter().for_each(|refused| log_refused(&proxy.name, refused));
            }
            Err(error) => known.unreadable(error.to_string()),
        }
        succeeded
    }

    /// The ledger's counters go on over restarts, so they are one life of one source.
    async fn collect_ledger(&self) {
        let Some(ledger) = &self.ledger else { return };
        self.report(ledger).await;
        match ledger.counters().await {
            Ok(values) => {
                let (refused, gone) = self.take_in(ledger, values);
                refused.iter().for_each(|refused| log_refused(LEDGER, refused));
                if let Err(error) = ledger.forget_counters(&gone).await {
                    warn!("counters of removed offers cannot be deleted: {error}");
                }
            }
            Err(error) => warn!("the counters of the ledger cannot be read: {error}"),
        }
    }

    /// What of the ledger's counters is refused, and which of them nobody needs any more.
    fn take_in(
        &self,
        ledger: &Ledger,
        values: Vec<(HostSeries, u64)>,
    ) -> (Vec<Refused>, BTreeSet<HostSeries>) {
        let series: Vec<_> = values.iter().map(|(series, _)| series.clone()).collect();
        let process = Process::lasting();
        let report = Report { process, read_at: unix_seconds(), values, malformed: Vec::new() };
        let mut counted = self.state.counted();
        let generation = {
            let mut state = self.state.lock();
            state.ledger_went_back = ledger.went_back();
            state.active.as_ref().map(|active| active.generation)
        };
        let refused = counted.ingest(LEDGER, report);
        let gone = self.gone(&counted, generation, &series);
        (refused, gone)
    }

    /// Counters of offers that are gone, once for each set of rules: what is still counted under them is refused, and
    /// no total misses it.
    fn gone(
        &self,
        counted: &Aggregate,
        generation: Option<u64>,
        series: &[HostSeries],
    ) -> BTreeSet<HostSeries> {
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if generation.is_none() || *tidied == generation {
            return BTreeSet::new();
        }
        *tidied = generation;
        series.iter().filter(|series| !counted.keeps(series)).cloned().collect()
    }

    /// Has the ledger count what counts elsewhere.
    async fn report(&self, ledger: &Ledger) {
        if let Some(spools) = &self.spools {
            spools.read().await;
        }
        let Some((_, meters)) = &self.gateway else { return };
        let error = meters.report(ledger).await.err().map(|error| error.to_string());
        let mut unreported = self.unreported.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error.as_ref().filter(|_| *unreported != error) {
            warn!("what the gateway counted waits for the ledger: {error}");
        }
        *unreported = error;
    }

    /// Lets go of what no proxy needs any more. Removals matter as long as a proxy that may still report
    /// enforces older rules; `gateway` is the oldest generation the gateway may still count under.
    fn tidy(&self, gateway: Option<u64>) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|target| {
            let over = target.is_over();
            if over {
                info!(proxy = target.proxy.name, "proxy is gone; what it counted stays");
            }
            !over
        });
        let mut counted = self.state.counted();
        let mut state = self.state.lock();
        let now = unix_seconds();
        let is_read = |known: &ProxyState| targets.iter().any(|target| target.proxy.name == known.name);
        state.proxies.retain(|known| known.is_known(now) || is_read(known));
        // Nobody waits for one that is gone to take a push.
        state
            .proxies
            .iter_mut()
            .filter(|known| !is_read(known))
            .for_each(|known| known.push = PushState::Idle);
        let living = state.proxies.iter().filter(|proxy| proxy.is_known(now));
        let enforced = living.map(|proxy| proxy.confirmed.unwrap_or(0)).chain(gateway).min();
        drop(state);
        counted.forget_removals(enforced);
        counted.forget_silent(self.clock.unix_seconds());
    }

    /// Once per kind of failure, not once per look-up.
    fn log_failures(&self, answers: &[Answer]) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for ((name, answer), known) in self.names.iter().zip(answers).zip(failures.iter_mut()) {
            let failure = match answer {
                Answer::Failed(error) => Some(error.clone()),
                Answer::Proxies(_) => None,
            };
            if let Some(error) = failure.as_ref().filter(|_| *known != failure) {
                warn!(name = name.host, "proxies behind this name cannot be looked up: {error}");
            }
            *known = failure;
        }
    }
}

/// A proxy was found. It reads the same file as the others.
fn join(state: &mut State, proxy: Proxy) {
    info!(proxy = proxy.name, "proxy found");
    if state.proxies.iter().any(|known| known.name == proxy.name) {
        return;
    }
    let pushed = state.proxies.iter().filter_map(|known| known.pushed).max();
    state.proxies.push(ProxyState::new(proxy.name, proxy.stats).joining(pushed));
    state.log_settlement_error();
}

/// Refused money is written down with tuple and amount; other refusals only count.
fn log_refused(proxy: &str, refused: &Refused) {
    let HostSeries::Charged(tuple, amount) = &refused.series else { return };
    let reason = match refused.reason {
        DropReason::Pruned => "the offer is gone",
        DropReason::StaleGeneration => "the offer was removed and added again since",
        DropReason::Malformed | DropReason::Lost => "unreadable",
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
