//! The only place that puts rules in force: after a change of the file, or when the kinds of a facilitator become
//! known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use farebox_core::rules::RuleSet;
use farebox_core::terms::{Tuple, Unmatched};
use farebox_pricing::{Severity, Snapshot, load_with};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::LoadingParts;
use super::in_use::InUse;
use crate::clock::unix_seconds;
use crate::counts::Keys;
use crate::gateway::Deployments;
use crate::ledger::{Ledger, LedgerError, PublishedRules};
use crate::publish::{Publication, Published};
use crate::rules::{
    Active, AllKnown, Attempt, Candidate, KeptClosed, NothingForSale, Readiness, ReloadResult, describe,
};
use crate::settings::Settings;

/// The source of a candidate, for the label `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The pricing file.
    File,
}

/// Loads candidates and puts them in force.
#[derive(Debug)]
pub struct Loader {
    settings: Arc<Settings>,
    state: LoadingParts,
    readiness: Readiness,
    publications: watch::Sender<Option<Publication>>,
    /// The companion's own gateway.
    gateway: Option<Arc<Deployments>>,
    /// The last publication of an earlier run.
    last_published: Option<Published>,
    /// The last rejected candidate, so that it is logged only once.
    last_rejected: Option<Candidate>,
    /// The ledger, by which companions agree on generations.
    ledger: Option<Ledger>,
    /// A load that was postponed because the ledger failed.
    postponed: Option<Postponed>,
    /// A file in force whose removed paths are still kept closed.
    hold: Option<Hold>,
}

/// A file that no longer names paths that were sold or closed, while unmatched paths pass. The file may be only a part
/// that is still being written.
#[derive(Debug)]
struct Hold {
    text: String,
    /// When these paths open.
    until: Instant,
}

/// A load to repeat when the ledger works again.
#[derive(Debug)]
enum Postponed {
    /// The load of a candidate.
    Load(Candidate),
    /// A new push of the active rules, because the kinds of their facilitator changed.
    Push,
}

/// Why rules are not put in force.
enum Refusal {
    /// The rules are unusable.
    Unusable(String),
    /// The ledger failed: the last good rules stay, and the load is tried again.
    Ledger(LedgerError),
}

/// The numbers of a push.
struct Numbers {
    generation: u64,
    births: BTreeMap<Tuple, u64>,
}

/// How long a load waits for the kinds of a new facilitator, so that paid routes do not answer 503 until the kinds are
/// known. The wait is short, because removed offers must be gone two seconds after the change, even if a new
/// facilitator does not answer.
const KINDS_LIMIT: Duration = Duration::from_secs(1);
/// How long a file must stay unchanged before paths pass unpaid only because the file does not name them.
const HOLD: Duration = Duration::from_secs(10);

// === impl Loader ===

impl Loader {
    /// Makes a loader without rules.
    pub fn new(
        settings: Arc<Settings>,
        state: LoadingParts,
        readiness: Readiness,
        publications: watch::Sender<Option<Publication>>,
        last_published: Option<Published>,
    ) -> Self {
        Self {
            settings,
            state,
            readiness,
            publications,
            last_published,
            last_rejected: None,
            ledger: None,
            postponed: None,
            hold: None,
            gateway: None,
        }
    }

    /// Also puts rules in force at a gateway.
    #[must_use]
    pub fn with_gateway(self, gateway: Option<Arc<Deployments>>) -> Self {
        Self { gateway, ..self }
    }

    /// Agrees on generations with every companion of this ledger. All of them should load the same file.
    #[must_use]
    pub fn sharing(mut self, ledger: Option<Ledger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// See [`Readiness::changes`].
    pub fn facilitator_changes(&self) -> watch::Receiver<AllKnown> {
        self.readiness.changes()
    }

    /// Loads a candidate. A rejected one changes nothing but the record of the attempt.
    pub async fn reload(&mut self, source: Source, candidate: Candidate) {
        let Source::File = source;
        let started = Instant::now();
        let mut findings = Vec::new();
        self.postponed = None;
        let outcome = match &candidate {
            Err(error) => Err(Some(error.clone())),
            Ok(text) => {
                let loaded = load_with(text, &self.settings.loading());
                findings = loaded.findings;
                match loaded.snapshot {
                    None => Err(None),
                    Some(snapshot) => {
                        if let Some(gateway) = &self.gateway {
                            findings.extend(gateway.findings(&snapshot).await);
                            findings.sort_by_key(|finding| finding.line);
                        }
                        self.readiness.wait(&self.in_use(&snapshot).urls(), KINDS_LIMIT).await;
                        self.put_in_force(text, snapshot).await.map_err(|refusal| {
                            if let Refusal::Ledger(_) = refusal {
                                self.postponed = Some(Postponed::Load(candidate.clone()));
                            }
                            Some(refusal.to_string())
                        })
                    }
                }
            }
        };
        let (result, error) = match outcome {
            Ok(result) => (result, None),
            Err(error) => (ReloadResult::Rejected, error),
        };
        let attempt = Attempt { result, at: unix_seconds(), took: started.elapsed(), error, findings };
        self.log(&attempt, &candidate);
        self.state.rules.lock().attempted(attempt);
        if result == ReloadResult::Rejected {
            self.last_rejected = Some(candidate);
            // The facilitators of a rejected file are dropped again.
            if let Some(active) = &self.state.rules.lock().active {
                self.readiness.want(&self.in_use(&active.snapshot).urls());
            }
        } else {
            self.last_rejected = None;
        }
    }

    async fn put_in_force(&mut self, text: &str, mut snapshot: Snapshot) -> Result<ReloadResult, Refusal> {
        let kept = match self.may_be_a_part(text) {
            Some(until) => {
                let earlier = self.protected_before().await.map_err(Refusal::Ledger)?;
                let places = snapshot.keep_protected(&earlier);
                (!places.is_empty()).then_some((places, until))
            }
            None => None,
        };
        let result = self.apply(Arc::new(snapshot)).await?;
        self.hold(text, kept);
        Ok(result)
    }

    /// If unmatched paths pass: until when paths that were sold or closed stay closed although this file does not name
    /// them.
    fn may_be_a_part(&self, text: &str) -> Option<Instant> {
        if self.settings.filter.unmatched != Unmatched::Pass {
            return None;
        }
        let is_other = |rejected: &Candidate| rejected.as_ref().map(String::as_str) != Ok(text);
        let was_replaced = self.last_rejected.as_ref().is_some_and(is_other);
        let same = self.hold.as_ref().filter(|hold| hold.text == text && !was_replaced);
        let until = same.map_or_else(|| Instant::now() + HOLD, |hold| hold.until);
        (until > Instant::now()).then_some(until)
    }

    /// The paths that were sold or closed by the rules in force, or else by those of an earlier run or of another
    /// companion.
    async fn protected_before(&self) -> Result<BTreeSet<String>, LedgerError> {
        let active = self.state.rules.lock().active.as_ref().map(|active| active.snapshot.clone());
        if let Some(snapshot) = active {
            return Ok(snapshot.protected.iter().cloned().collect());
        }
        let of_ledger = match &self.ledger {
            Some(ledger) => ledger.latest_rules().await?.map(|rules| rules.protected),
            None => None,
        };
        let published = self.last_published.iter().flat_map(|last| last.protected.iter().cloned());
        Ok(of_ledger.unwrap_or_default().into_iter().chain(published).collect())
    }

    /// Notes the paths that the rules in force keep closed for a while.
    fn hold(&mut self, text: &str, kept: Option<(Vec<String>, Instant)>) {
        let until = kept.as_ref().map(|(_, until)| *until);
        self.hold = until.map(|until| Hold { text: text.to_owned(), until });
        let kept = kept.map(|(places, until)| {
            let left = until.saturating_duration_since(Instant::now()).as_secs();
            KeptClosed { places, until: unix_seconds() + left }
        });
        let mut state = self.state.rules.lock();
        if let Some(kept) = kept.as_ref().filter(|kept| state.kept_closed.as_ref() != Some(*kept)) {
            warn!("{}", kept.describe(&state.pricing));
        } else if kept.is_none() && state.kept_closed.is_some() {
            info!("what {} does not name passes now", state.pricing);
        }
        state.kept_closed = kept;
    }

    fn note_writing(&self, since: Option<u64>) {
        let mut state = self.state.rules.lock();
        let known = std::mem::replace(&mut state.written_since, since);
        if let (None, Some(writing)) = (known, state.being_written()) {
            warn!("{writing}");
        }
    }

    /// Pushes the active rules again if new kinds of the facilitator change them.
    pub async fn facilitator_changed(&mut self) {
        let active = self.state.rules.lock().active.as_ref().map(|active| active.snapshot.clone());
        if let Some(snapshot) = active
            && let Err(refusal) = self.apply(snapshot).await
        {
            error!("the active rules cannot be pushed again: {refusal}");
            if let Refusal::Ledger(_) = refusal {
                self.postponed.get_or_insert(Postponed::Push);
            }
        }
    }

    /// Follows the other companions of the ledger: takes over the later generation of rules that equal the active ones.
    /// Before that, repeats a postponed load, and opens paths whose time is over, unless a program is writing the file
    /// (since `written_since`, Unix seconds). Call this often.
    pub async fn follow(&mut self, written_since: Option<u64>) {
        self.note_writing(written_since);
        let is_quiet = self.last_rejected.is_none() && written_since.is_none();
        let is_over = |hold: &&Hold| hold.until <= Instant::now() && is_quiet;
        if let Some(text) = self.hold.as_ref().filter(is_over).map(|hold| hold.text.clone()) {
            return self.reload(Source::File, Ok(text)).await;
        }
        let Some(ledger) = &self.ledger else { return };
        // `/readyz` shows the reason, from the relay.
        let Ok(latest) = ledger.latest_generation().await else { return };
        match self.postponed.take() {
            Some(Postponed::Load(candidate)) => return self.reload(Source::File, candidate).await,
            Some(Postponed::Push) => return self.facilitator_changed().await,
            None => {}
        }
        let is_ahead = |(generation, hash): (u64, String)| {
            let state = self.state.rules.lock();
            let active = state.active.as_ref();
            active.is_some_and(|active| active.hash == hash && active.generation < generation)
        };
        if latest.is_some_and(is_ahead) {
            self.facilitator_changed().await;
        }
    }

    /// Puts a snapshot in force: new generation, keep set, zeros and removals under one lock, then the push.
    async fn apply(&mut self, snapshot: Arc<Snapshot>) -> Result<ReloadResult, Refusal> {
        let (in_use, known) = (self.in_use(&snapshot), self.readiness.known());
        let ready = in_use.is_ready(&known);
        let endpoint = self
            .settings
            .facilitator
            .endpoint(snapshot.facilitator_url.as_deref(), ready)
            .map_err(|error| Refusal::Unusable(format!("facilitatorURL {error}")))?;
        let v1_networks = in_use.v1_networks(&known);
        let draft = snapshot.draft(&self.settings.pushed_filter(), &endpoint, &v1_networks);
        let hash = draft.hash.clone();

        // Proxies compile the same rules with the same code. So rules that a proxy would refuse are refused here, with
        // a reason, before they are published.
        let compile = |pushed| {
            RuleSet::compile(pushed)
                .map_err(|error| Refusal::Unusable(format!("the rules cannot be pushed: {error}")))
        };
        let checked = match self.ledger {
            Some(_) => Some(compile(draft.clone().numbered(1, &BTreeMap::new()))?),
            None => None,
        };

        let keys = Keys::from(&*snapshot);
        let agreed = match &self.ledger {
            Some(ledger) => {
                Some(self.agree(ledger, &hash, &keys, &snapshot.protected).await.map_err(Refusal::Ledger)?)
            }
            None => None,
        };
        let Numbers { generation, births } = {
            let mut state = self.state.rules.lock();
            self.state.facilitators.lock().are(in_use.states(&known), in_use.unlisted(&known));
            let agreed_generation = agreed.as_ref().map(|numbers| numbers.generation);
            if let Some(active) = state.active.as_mut().filter(|active| {
                active.hash == hash && agreed_generation.is_none_or(|agreed| active.generation >= agreed)
            }) {
                // Lines, upstreams and skipped routes may differ although the push is the same.
                self.redirect(&snapshot);
                active.snapshot = snapshot.clone();
                return Ok(ReloadResult::Unchanged);
            }
            // Without a ledger nothing is counted, and every tuple is born with each load.
            agreed.unwrap_or_else(|| {
                let generation = self.next_generation(state.active.as_ref());
                Numbers { generation, births: keys.births(generation, &BTreeMap::new()) }
            })
        };
        let pushed = draft.numbered(generation, &births);
        let rules = match checked {
            Some(rules) => rules.numbered_as(&pushed),
            None => compile(pushed.clone())?,
        };

        let mut counted = self.state.counted.lock();
        let mut state = self.state.rules.lock();
        counted.apply(births.clone(), keys.offers);
        if let Some(gateway) = &self.gateway {
            gateway.apply(Arc::new(rules), &snapshot);
        }
        let upstreams = snapshot.upstreams.as_slice().into();
        let active = Active { generation, hash, snapshot, applied_at: unix_seconds() };
        state.publish(active, &pushed.tuples);
        drop((state, counted));
        if self.ledger.is_some() {
            self.last_published = Some(Published { generation, births, ..Published::default() });
        }
        self.publications.send_replace(Some(Publication { rules: Arc::new(pushed), upstreams }));
        Ok(ReloadResult::Applied)
    }

    fn in_use(&self, snapshot: &Snapshot) -> InUse {
        InUse::of(self.settings.relayed(), snapshot)
    }

    /// Publishes the same rules with other upstreams, if these differ.
    fn redirect(&self, snapshot: &Snapshot) {
        if let Some(gateway) = &self.gateway {
            gateway.reroute(snapshot);
        }
        self.publications.send_if_modified(|current| match current {
            Some(current) if *current.upstreams != *snapshot.upstreams => {
                current.upstreams = snapshot.upstreams.as_slice().into();
                true
            }
            _ => false,
        });
    }

    /// The generation of the next push, higher than any before it.
    fn next_generation(&self, active: Option<&Active>) -> u64 {
        match (active, &self.last_published) {
            (Some(active), _) => active.generation + 1,
            (None, Some(last)) => (last.generation + 1).max(unix_seconds() * 1000),
            (None, None) => unix_seconds() * 1000,
        }
    }

    /// Gets the generation and births of a push for all companions of a ledger: those of the latest rules if these are
    /// equal, else the next generation. If several companions load the same file at once, one of them sets the numbers
    /// for all.
    async fn agree(
        &self,
        ledger: &Ledger,
        hash: &str,
        keys: &Keys,
        protected: &[String],
    ) -> Result<Numbers, LedgerError> {
        loop {
            let latest = ledger.latest_rules().await?;
            // An older version of this companion may have published under a higher generation.
            let own = self.last_published.as_ref().map_or(0, |last| last.generation);
            let previous = latest.as_ref().map_or(0, |latest| latest.generation);
            if let Some(latest) = &latest {
                let active = self
                    .state
                    .rules
                    .lock()
                    .active
                    .as_ref()
                    .map(|active| (active.hash == hash, active.generation));
                if latest.hash == hash && latest.generation >= own {
                    let PublishedRules { generation, births, .. } = latest.clone();
                    return Ok(Numbers { generation, births });
                }
                // Another companion has loaded a different file; the file of this companion did not change.
                if let Some((true, generation)) = active {
                    return Ok(Numbers { generation, births: BTreeMap::new() });
                }
            }
            let before = latest.map(|latest| latest.births);
            let before = before.or_else(|| self.last_published.as_ref().map(|last| last.births.clone()));
            let generation = self.next_generation(self.state.rules.lock().active.as_ref()).max(previous + 1);
            let births = keys.births(generation, &before.unwrap_or_default());
            let numbers = Numbers { generation, births };
            let rules = PublishedRules {
                generation,
                hash: hash.to_owned(),
                births: numbers.births.clone(),
                protected: protected.to_vec(),
            };
            if ledger.publish_rules(&rules, previous).await? {
                return Ok(numbers);
            }
        }
    }

    fn log(&self, attempt: &Attempt, candidate: &Candidate) {
        let state = self.state.rules.lock();
        let pricing = &state.pricing;
        match attempt.result {
            ReloadResult::Applied => {
                attempt.findings.iter().for_each(|finding| warn!("{}", describe(pricing, finding)));
                if let Some(active) = &state.active {
                    info!(
                        generation = active.generation,
                        routes = active.snapshot.routes.len(),
                        skipped = active.snapshot.skipped.len(),
                        facilitator = active.snapshot.facilitator_url.as_deref().unwrap_or("none"),
                        "rules loaded"
                    );
                    for used in
                        self.state.facilitators.lock().all.iter().filter(|used| used.is_for_development)
                    {
                        let chains = used.networks.join(", ");
                        warn!(
                            url = used.url,
                            chains, "FOR DEVELOPMENT: what is sold on these chains is given away"
                        );
                    }
                    if let Some(NothingForSale::Meant(why)) = state.nothing_for_sale() {
                        warn!("{why}");
                    }
                    if let Some(replaced) = &active.snapshot.replaced_facilitator {
                        let used = active.snapshot.facilitator_url.as_deref().unwrap_or("none");
                        warn!("the facilitator is {used}, by the settings; the pricing file says {replaced}");
                    }
                }
            }
            ReloadResult::Unchanged => info!("rules unchanged"),
            ReloadResult::Rejected if self.last_rejected.as_ref() == Some(candidate) => {}
            ReloadResult::Rejected => {
                let rejects = attempt.findings.iter().filter(|finding| finding.severity == Severity::Reject);
                rejects.for_each(|finding| error!("{}", describe(pricing, finding)));
                let cause = attempt.error.as_deref().unwrap_or("see the findings");
                match state.active {
                    Some(_) => error!("rules rejected, the last good stay in force: {cause}"),
                    None => error!("rules rejected, and no rules are in force: nothing is sold: {cause}"),
                }
            }
        }
    }
}

// === impl Refusal ===

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unusable(cause) => f.write_str(cause),
            Self::Ledger(error) => write!(f, "their generation is not agreed upon: {error}"),
        }
    }
}
