//! Everything `/metrics`, `/readyz` and `/status` tell: a reader sees the state before or after a load, never a mix.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farebox_core::rules::Gate;
use farebox_core::terms::Tuple;
use farebox_pricing::{Finding, Snapshot};
use tracing::{error, info, warn};

use crate::clock::unix_seconds;
use crate::counts::{Counts, DropReason, SpoolState};
use crate::gateway::Deployments;
use crate::ledger::LedgerError;
use crate::publish::discovery::Discovery;
use crate::publish::{Proxies, TraefikState};
use crate::rules::Offered;
use crate::settings::Listen;

/// Shared by everything that loads, counts, publishes and serves.
///
/// Payments ask the state, and for a moment only. What is counted has a lock of its own, which adding up and pages of
/// metrics hold for long. Who needs both takes that first.
#[derive(Debug, Clone)]
pub struct Shared {
    state: Arc<Mutex<State>>,
    counted: Arc<Mutex<Counts>>,
}

/// What the companion knows.
#[derive(Debug)]
pub struct State {
    /// Unix seconds.
    pub started_at: u64,
    /// Place of the pricing file, as people see it.
    pub pricing: String,
    /// It was told to stop and takes nothing new soon.
    pub is_stopping: bool,
    /// The rules in force; `None` until the first load succeeds.
    pub active: Option<Active>,
    /// What the rules in force refuse for a while, though the pricing file does not name it.
    pub kept_closed: Option<KeptClosed>,
    /// The terms that are and were published.
    pub offered: Offered,
    /// The last load attempt.
    pub last_attempt: Option<Arc<Attempt>>,
    /// When attempts began to fail, Unix seconds; `None` while the last one succeeded.
    pub config_err_since: Option<u64>,
    /// When a load was last applied or found unchanged, Unix seconds.
    pub last_success_at: Option<u64>,
    /// Load attempts by result, in the order of [`ReloadResult::ALL`].
    pub reloads: [u64; 3],
    /// Why the last push could not be written; `None` once it was.
    pub publish_error: Option<String>,
    /// Once every chain something is sold on was open. What closes or comes later closes alone, and is no reason to send
    /// clients of the others elsewhere.
    was_open: bool,
    /// The facilitators of the active rules.
    pub facilitators: Vec<FacilitatorState>,
    /// CAIP-2 ids of the chains something is sold on and none of whose facilitators lists them.
    pub unlisted_networks: Vec<String>,
    /// What is wrong with the credentials of facilitators, by address.
    pub credentials: BTreeMap<String, CredentialState>,
    /// The last reply of a facilitator that was no verdict, by address.
    pub bad_replies: BTreeMap<String, BadReply>,
    /// The last call of a facilitator if no reply came, by address.
    pub failed_calls: BTreeMap<String, FailedCall>,
    /// Proxies call the facilitator themselves, and each keeps its payments.
    pub settles_direct: bool,
    /// Why the ledger cannot be used; `None` while it can, or if there is none.
    pub ledger_error: Option<String>,
    /// That the ledger's database was seen to go back, if it was.
    pub ledger_went_back: Option<String>,
    /// Every proxy that reports.
    pub proxies: Proxies,
    /// What proxies said that get their rules over gRPC.
    pub discovery: Discovery,
    /// Where the companion is a proxy itself.
    pub gateway: Option<GatewayState>,
    /// What became of the rules in Traefik; `None` if it is not among the proxies.
    pub traefik: Option<TraefikState>,
    /// The spools that are read.
    pub spools: Vec<SpoolState>,
    /// Why none can be found; `None` while they can, or if there are none.
    pub spool_error: Option<String>,
}

/// The rules in force.
#[derive(Debug, Clone)]
pub struct Active {
    /// See [`farebox_core::rules::PushedRules::generation`].
    pub generation: u64,
    /// Content hash of the push.
    pub hash: String,
    /// The resolved rules.
    pub snapshot: Arc<Snapshot>,
    /// Unix seconds.
    pub applied_at: u64,
}

/// Why nothing is for sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NothingForSale {
    /// The pricing file sells nothing.
    Meant(String),
    /// What it sells was left out.
    Mistaken(String),
}

/// Paths that stay closed for a while, because a file may be written in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptClosed {
    /// Prefixes and globs.
    pub places: Vec<String>,
    /// Unix seconds.
    pub until: u64,
}

/// One load attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// What came of it.
    pub result: ReloadResult,
    /// Unix seconds.
    pub at: u64,
    /// From the content of the file to rules in force and on their way to the proxies, with the time a
    /// facilitator that was not known yet was waited for.
    pub took: Duration,
    /// Why it was rejected, if not by a finding.
    pub error: Option<String>,
    /// What the file was found to hold.
    pub findings: Vec<Finding>,
}

/// `result` of `config_reloads_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadResult {
    /// New rules are in force.
    Applied,
    /// The rules say what they said before.
    Unchanged,
    /// The last good rules stay.
    Rejected,
}

/// Whether a facilitator's kinds are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FacilitatorState {
    /// Its address.
    pub url: String,
    /// CAIP-2 ids of the chains it is used for.
    pub networks: Vec<String>,
    /// `version scheme network` of each kind; `None` until loaded.
    pub kinds: Option<Vec<String>>,
    /// Unix seconds.
    pub loaded_at: Option<u64>,
    /// Why the last attempt to load them failed.
    pub last_error: Option<String>,
    /// When attempts began to fail, Unix seconds; `None` while the last one succeeded.
    pub failing_since: Option<u64>,
}

/// A chain on which no payment is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedChain {
    /// CAIP-2 id.
    pub network: String,
    /// Why, with what each of its facilitators did.
    pub cause: String,
    /// What is sold on it, as `offer_namespace/offer_name`.
    pub offers: Vec<String>,
}

/// The gateway, as others see it.
#[derive(Debug, Clone)]
pub struct GatewayState {
    /// Where it listens.
    pub address: Listen,
    /// Its rules; always those of the last load that was applied.
    pub deployments: Arc<Deployments>,
}

/// What is wrong with the credential of a facilitator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialState {
    /// Why it cannot be used.
    pub unusable: Option<String>,
    /// What the facilitator said to it; `None` again once a call is accepted.
    pub refused: Option<String>,
    /// When that was last logged, Unix seconds.
    pub logged_at: u64,
}

/// A call of a facilitator to which no reply came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCall {
    /// The endpoint: `verify` or `settle`.
    pub operation: &'static str,
    /// Why.
    pub error: String,
    /// When, Unix seconds.
    pub at: u64,
}

/// A reply of a facilitator that is no verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReply {
    /// The endpoint: `verify` or `settle`.
    pub operation: &'static str,
    /// HTTP status.
    pub status: u16,
    /// Whether it calls our request malformed.
    pub malformed: bool,
    /// What it says, printable and cut.
    pub words: String,
    /// Its id of the call.
    pub correlation: Option<String>,
    /// When it came, Unix seconds.
    pub at: u64,
    /// When one of this facilitator was last logged, Unix seconds.
    pub logged_at: u64,
}

/// Seconds without an answer after which a facilitator is dead rather than restarting.
const DEAD_SECONDS: u64 = 30;

// === impl Shared ===

impl Shared {
    /// Shares a state.
    pub fn new(state: State) -> Self {
        Self { counted: Arc::default(), state: Arc::new(Mutex::new(state)) }
    }

    /// Locks what is counted; see [`Shared`] for the order. Never held across an await or a write to a file.
    pub fn counted(&self) -> MutexGuard<'_, Counts> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks it. Never held across an await or a write to a file.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// The state before the first load.
    pub fn new(pricing: String) -> Self {
        Self {
            started_at: unix_seconds(),
            pricing,
            is_stopping: false,
            active: None,
            kept_closed: None,
            offered: Offered::default(),
            last_attempt: None,
            config_err_since: None,
            last_success_at: None,
            reloads: [0; 3],
            publish_error: None,
            was_open: false,
            facilitators: Vec::new(),
            unlisted_networks: Vec::new(),
            credentials: BTreeMap::new(),
            bad_replies: BTreeMap::new(),
            failed_calls: BTreeMap::new(),
            settles_direct: false,
            ledger_error: None,
            ledger_went_back: None,
            proxies: Proxies::default(),
            discovery: Discovery::default(),
            gateway: None,
            traefik: None,
            spools: Vec::new(),
            spool_error: None,
        }
    }

    /// The ledger failed: for readiness, and once for the log, where `so` says what follows from it.
    pub fn ledger_fails(&mut self, error: &LedgerError, so: &str) {
        let error = error.to_string();
        if self.ledger_error.as_ref() != Some(&error) {
            error!("{error}{so}");
            self.ledger_error = Some(error);
        }
    }

    /// The ledger was written. What could only be read says nothing of that.
    pub fn ledger_works(&mut self) {
        if self.ledger_error.take().is_some() {
            info!("the ledger works again");
        }
    }

    /// Puts rules in force, whose series have these births.
    pub fn publish(&mut self, rules: Active, series: &[Tuple]) {
        self.offered.publish(&rules.snapshot, series, Instant::now());
        self.active = Some(rules);
    }

    /// Notes what is known of the facilitators of the rules.
    pub fn facilitators_are(&mut self, all: Vec<FacilitatorState>, unlisted: Vec<String>) {
        for network in unlisted.iter().filter(|network| !self.unlisted_networks.contains(network)) {
            warn!("no facilitator used for {network} lists it among its kinds: its payments may be refused");
        }
        let before = self.closed();
        self.facilitators = all;
        self.unlisted_networks = unlisted;
        let closed = self.closed();
        self.was_open |= closed.is_empty();
        for chain in closed.iter().filter(|chain| !before.iter().any(|known| known.network == chain.network))
        {
            warn!("{}", chain.cause);
        }
        for chain in before.iter().filter(|chain| !closed.iter().any(|known| known.network == chain.network))
        {
            info!("payments on {} are taken now", chain.network);
        }
    }

    /// What is wrong with how payments are kept; `None` if nothing is.
    pub fn settlement_error(&self, now: u64) -> Option<String> {
        let processes = self.proxies.processes(now);
        (self.settles_direct && processes.len() > 1).then(|| {
            let names: Vec<&str> = processes.iter().map(|(proxy, _)| *proxy).collect();
            format!(
                "settlement: direct is for one Envoy process, and {} report here: {}. One payment is served once by \
                 each of them; use settlement: relay",
                names.len(),
                names.join(", ")
            )
        })
    }

    /// Notes a load attempt.
    pub fn attempted(&mut self, attempt: Attempt) {
        self.reloads[attempt.result as usize] += 1;
        if attempt.result == ReloadResult::Rejected {
            self.config_err_since.get_or_insert(attempt.at);
        } else {
            self.config_err_since = None;
            self.last_success_at = Some(attempt.at);
        }
        self.last_attempt = Some(Arc::new(attempt));
    }

    /// Values and lines that are not counted, with those of reports.
    pub fn dropped(&self, counts: &Counts, reason: DropReason) -> u64 {
        let of_spool = |spool: &SpoolState| match reason {
            DropReason::Malformed => spool.malformed,
            DropReason::Lost => spool.lost,
            DropReason::Pruned | DropReason::StaleGeneration => 0,
        };
        self.spools.iter().map(of_spool).fold(counts.dropped(reason), u64::saturating_add)
    }

    /// Why the companion is not ready; `None` if it is.
    pub fn not_ready(&self) -> Option<String> {
        if self.is_stopping {
            return Some("the companion is stopping".to_owned());
        }
        if self.active.is_none() {
            let cause = match &self.last_attempt {
                None => "no attempt has finished yet".to_owned(),
                Some(attempt) => attempt.cause(&self.pricing),
            };
            return Some(format!("configuration not loaded: {cause}"));
        }
        let traefik = self.traefik.as_ref().and_then(|traefik| traefik.publish_error.as_ref());
        if let Some(error) = self.publish_error.as_ref().or(traefik) {
            return Some(format!("configuration not published: {error}"));
        }
        let now = unix_seconds();
        // Where proxies settle by themselves, they sell without it.
        self.ledger_error
            .clone()
            .filter(|_| !self.settles_direct)
            .or_else(|| self.all_left_out())
            .or_else(|| self.unpayable())
            .or_else(|| self.not_open_yet())
            .or_else(|| self.all_facilitators_dead(now))
            .or_else(|| self.nothing_enforced(now))
            .or_else(|| self.refused_by_traefik())
            .or_else(|| self.leads_nowhere())
            .or_else(|| self.gateway_unreachable())
    }

    /// Why nothing at all is for sale; that is a fault where mistakes in the pricing file left out every paid route.
    pub fn nothing_for_sale(&self) -> Option<NothingForSale> {
        let snapshot = &self.active.as_ref()?.snapshot;
        if snapshot.routes.iter().any(|route| route.gate == Gate::Paid) {
            return None;
        }
        let pricing = &self.pricing;
        Some(match snapshot.skipped.first() {
            None => NothingForSale::Meant(format!("nothing is for sale: {pricing} has no paid route")),
            Some(first) => NothingForSale::Mistaken(format!(
                "nothing is for sale: every paid route of {pricing} was left out, {} for {} in line {}",
                first.pattern,
                first.reason.as_str(),
                first.line
            )),
        })
    }

    fn all_left_out(&self) -> Option<String> {
        match self.nothing_for_sale()? {
            NothingForSale::Meant(_) => None,
            NothingForSale::Mistaken(cause) => Some(cause),
        }
    }

    /// Why nothing at all can be sold: not one facilitator has answered for a while. One chain that is left sells.
    fn all_facilitators_dead(&self, now: u64) -> Option<String> {
        let is_dead = |of: &FacilitatorState| {
            of.failing_since.is_some_and(|since| now.saturating_sub(since) >= DEAD_SECONDS)
        };
        let used = || self.facilitators.iter().filter(|of| !of.networks.is_empty());
        if used().next().is_none() || !used().all(is_dead) {
            return None;
        }
        let says = |of: &FacilitatorState| {
            format!("{} ({})", of.url, of.last_error.as_deref().unwrap_or("no answer"))
        };
        Some(format!(
            "no payment can be verified: no facilitator answers: {}",
            used().map(says).collect::<Vec<_>>().join(", ")
        ))
    }

    /// Why no proxy sells, as far as those that report tell. Where the companion is one itself, it does.
    fn nothing_enforced(&self, now: u64) -> Option<String> {
        if self.gateway.is_some() {
            return None;
        }
        // Proxies on other machines may wait for the companion to be ready, before they can come to it.
        let are_there = self.discovery.address.is_none() || self.discovery.has_acknowledged(now);
        let known = || self.proxies.iter().filter(|proxy| are_there || proxy.is_up(now));
        let refused = if self.proxies.were_refused(now) {
            "; in the last minute the relay refused a call without the words of relay.secret: let the cluster `farebox` show \
             them, see relay-secret.yaml in envoy/README.md"
        } else {
            ""
        };
        if self.proxies.none_reports(now) && are_there {
            return Some(format!(
                "no proxy sells: none reports; see whether Envoy runs, envoy.wasm names the plugin where Envoy sees it, the \
                 filter is in the chain of its listener, and its cluster `farebox` leads to relay.listen{refused}"
            ));
        }
        let named = known().min_by_key(|proxy| !proxy.is_up(now))?;
        let trouble = named.sells_nothing(now)?;
        known()
            .all(|proxy| proxy.sells_nothing(now).is_some())
            .then(|| format!("no proxy sells: {} {trouble}{refused}", named.name))
    }

    /// Why the companion is not ready, where no other line of the log says it.
    pub fn unlogged(&self, now: u64) -> Option<String> {
        self.all_left_out()
            .or_else(|| self.all_facilitators_dead(now))
            .or_else(|| self.nothing_enforced(now).filter(|_| self.proxies.iter().next().is_none()))
            .or_else(|| self.leads_nowhere())
            .filter(|_| !self.is_stopping)
    }

    /// Why Traefik has none of the routers by which something is sold.
    fn refused_by_traefik(&self) -> Option<String> {
        let loaded = self.traefik.as_ref()?.api.as_ref()?.as_ref().ok()?;
        let error = loaded.error.as_ref().filter(|_| !self.proxies.are_pushed_to())?;
        Some(format!("Traefik refused the rules: {error}"))
    }

    /// Why the gateway answers every request it would sell with 502. An Envoy has upstreams of its own.
    fn leads_nowhere(&self) -> Option<String> {
        let gateway = self.gateway.as_ref().filter(|gateway| gateway.deployments.leads_nowhere())?;
        (!self.proxies.are_pushed_to()).then(|| {
            format!(
                "the gateway at {} sells nothing: no route has an upstream; set gateway.upstream, or upstreamURL of each \
                 route",
                gateway.address
            )
        })
    }

    /// Why Traefik cannot lead anybody to the gateway. Once somebody came there, it can.
    fn gateway_unreachable(&self) -> Option<String> {
        let was_reached = self.gateway.as_ref().is_some_and(|gateway| gateway.deployments.was_reached());
        self.traefik.as_ref()?.gateway_error.clone().filter(|_| !was_reached)
    }

    /// Why the companion has not sold on every chain yet.
    fn not_open_yet(&self) -> Option<String> {
        let causes = || self.closed().into_iter().map(|chain| chain.cause).collect::<Vec<_>>().join("; ");
        Some(causes()).filter(|causes| !self.was_open && !causes.is_empty())
    }

    /// The chains on which no payment is taken because none of their facilitators has said yet what it supports.
    pub fn closed(&self) -> Vec<ClosedChain> {
        let networks: BTreeSet<_> = self.facilitators.iter().flat_map(|of| &of.networks).collect();
        let chain = |network: &String| {
            let cause = self.closed_for(network)?;
            let keep_set = self.active.as_ref().map(|active| active.snapshot.keep_set()).unwrap_or_default();
            let of_chain = keep_set.into_iter().filter(|tuple| tuple.chain == *network);
            let offers: BTreeSet<_> =
                of_chain.map(|tuple| format!("{}/{}", tuple.offer_namespace, tuple.offer_name)).collect();
            Some(ClosedChain { network: network.clone(), cause, offers: offers.into_iter().collect() })
        };
        networks.into_iter().filter_map(chain).collect()
    }

    /// Why no payment is taken on the chain with this CAIP-2 id; `None` if it is open.
    pub fn closed_for(&self, network: &str) -> Option<String> {
        let used: Vec<_> =
            self.facilitators.iter().filter(|of| of.networks.iter().any(|used| used == network)).collect();
        if used.is_empty() || used.iter().any(|of| of.kinds.is_some()) {
            return None;
        }
        let says = |of: &&FacilitatorState| {
            format!("{} ({})", of.url, of.last_error.as_deref().unwrap_or("not answered yet"))
        };
        let says = used.iter().map(says).collect::<Vec<_>>().join(", ");
        Some(format!("no payment on {network} is taken: no facilitator has said what it supports: {says}"))
    }

    /// Why nobody can pay on a chain: each of its facilitators needs a credential that cannot be used.
    fn unpayable(&self) -> Option<String> {
        let unusable = |of: &FacilitatorState| self.credentials.get(&of.url)?.unusable.clone();
        let networks: BTreeSet<_> = self.facilitators.iter().flat_map(|of| &of.networks).collect();
        networks.into_iter().find_map(|network| {
            let mut used = self.facilitators.iter().filter(|of| of.networks.contains(network));
            let error = unusable(used.next()?)?;
            used.all(|of| unusable(of).is_some())
                .then(|| format!("no payment on {network} can be verified: {error}"))
        })
    }
}

// === impl KeptClosed ===

impl KeptClosed {
    /// Says so.
    pub fn describe(&self, pricing: &str) -> String {
        const NAMED: usize = 10;

        let named = self.places.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match self.places.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!(
            "{named}{more} stay closed (403) until {} (Unix time), because a file may be written in parts: they were sold or \
             closed, {pricing} does not name them any more, and unmatched paths pass",
            self.until
        )
    }
}

// === impl Attempt ===

impl Attempt {
    /// The first thing that rejected it, with its place.
    pub fn cause(&self, pricing: &str) -> String {
        use farebox_pricing::Severity;

        if let Some(error) = &self.error {
            return error.clone();
        }
        let first = self.findings.iter().find(|finding| finding.severity == Severity::Reject);
        first.map_or_else(|| "nothing is wrong".to_owned(), |finding| describe(pricing, finding))
    }
}

// === impl ReloadResult ===

impl ReloadResult {
    /// Every result, in exposition order.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Unchanged, Self::Rejected];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
        }
    }
}

/// `file:line: key: message`.
pub fn describe(pricing: &str, finding: &Finding) -> String {
    format!("{pricing}:{}: {}: {}", finding.line, finding.key, finding.message)
}
