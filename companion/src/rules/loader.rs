//! The one function that puts rules in force, whatever the reason: a changed file, or a facilitator whose kinds
//! became known.

use std::sync::Arc;
use std::time::Duration;

use farebox_core::rules::{LoadOptions, RuleSet, Severity, Snapshot, load_with};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::readiness::{AllKnown, Known, Readiness};
use super::watch::Candidate;
use crate::aggregate::Keys;
use crate::publish::{Publication, Published};
use crate::settings::Settings;
use crate::state::{Active, Attempt, FacilitatorState, ReloadResult, Shared, describe, unix_seconds};

/// Where a candidate comes from: the `source` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The pricing file.
    File,
}

/// Loads candidates and puts them in force.
#[derive(Debug)]
pub struct Loader {
    settings: Arc<Settings>,
    state: Shared,
    readiness: Readiness,
    publications: watch::Sender<Option<Publication>>,
    /// What an earlier run published.
    last_published: Option<Published>,
    /// The candidate that was last rejected; it is logged once.
    last_rejected: Option<Candidate>,
}

/// How long a load waits for the kinds of a facilitator it has not used before, so that paid routes do not
/// answer 503 for a moment only because nobody has asked yet. What a file removes must be gone two seconds
/// after the change, also if it names another facilitator that does not answer.
const KINDS_LIMIT: Duration = Duration::from_secs(1);

// === impl Loader ===

impl Loader {
    /// A loader that has loaded nothing.
    pub fn new(
        settings: Arc<Settings>,
        state: Shared,
        readiness: Readiness,
        publications: watch::Sender<Option<Publication>>,
        last_published: Option<Published>,
    ) -> Self {
        Self { settings, state, readiness, publications, last_published, last_rejected: None }
    }

    /// See [`Readiness::changes`].
    pub fn facilitator_changes(&self) -> watch::Receiver<AllKnown> {
        self.readiness.changes()
    }

    /// Loads a candidate. A rejected one changes nothing but the record of the attempt.
    pub async fn reload(&mut self, source: Source, candidate: Candidate) {
        let Source::File = source;
        let mut findings = Vec::new();
        let outcome = match &candidate {
            Err(error) => Err(Some(error.clone())),
            Ok(text) => {
                let options = LoadOptions { facilitator_url: self.settings.facilitator.url.clone() };
                let loaded = load_with(text, &options);
                findings = loaded.findings;
                match loaded.snapshot {
                    None => Err(None),
                    Some(snapshot) => {
                        self.readiness.wait(&snapshot.facilitator_url, KINDS_LIMIT).await;
                        self.apply(Arc::new(snapshot)).map_err(Some)
                    }
                }
            }
        };
        let (result, error) = match outcome {
            Ok(result) => (result, None),
            Err(error) => (ReloadResult::Rejected, error),
        };
        let attempt = Attempt { result, at: unix_seconds(), error, findings };
        self.log(&attempt, &candidate);
        self.state.lock().attempted(attempt);
        if result == ReloadResult::Rejected {
            self.last_rejected = Some(candidate);
            // The facilitator of a rejected file is not asked any more.
            if let Some(active) = &self.state.lock().active {
                self.readiness.want(&active.snapshot.facilitator_url);
            }
        } else {
            self.last_rejected = None;
        }
    }

    /// Something new is known of the facilitator: the active rules are pushed again if that changes them.
    pub fn facilitator_changed(&self) {
        let active = self.state.lock().active.as_ref().map(|active| active.snapshot.clone());
        if let Some(snapshot) = active
            && let Err(error) = self.apply(snapshot)
        {
            error!("the active rules cannot be pushed again: {error}");
        }
    }

    /// Puts a snapshot in force: new generation, keep-set, zeros and removals under one lock, then the push.
    fn apply(&self, snapshot: Arc<Snapshot>) -> Result<ReloadResult, String> {
        let known = self.readiness.known(&snapshot.facilitator_url);
        let ready = known.supported.is_some();
        let endpoint = self
            .settings
            .facilitator
            .endpoint(&snapshot.facilitator_url, ready)
            .map_err(|error| format!("facilitatorURL {error}"))?;
        let (filter, v1_networks) = (&self.settings.filter, known.v1_networks());
        let hash = snapshot.hash(filter, &endpoint, &v1_networks);

        let keys = Keys::from(&*snapshot);
        let (generation, swept, births) = {
            let mut state = self.state.lock();
            state.facilitator = FacilitatorState::from(&known);
            if let Some(active) = state.active.as_mut().filter(|active| active.hash == hash) {
                // Lines, skipped parts and upstreams may differ where the push does not.
                self.redirect(&snapshot);
                active.snapshot = snapshot;
                return Ok(ReloadResult::Unchanged);
            }
            let (generation, swept) = self.next_generation(state.active.as_ref());
            (generation, swept, state.aggregate.births(generation, &keys))
        };

        // The proxy compiles the same rules with the same code: what it would refuse is refused here, with a reason.
        let pushed = snapshot.push(generation, filter, &endpoint, &births, &v1_networks);
        RuleSet::compile(pushed.clone()).map_err(|error| format!("the rules cannot be pushed: {error}"))?;

        let mut state = self.state.lock();
        let removed = state.aggregate.apply(generation, keys);
        let swept = if removed > 0 { generation } else { swept };
        let upstreams = snapshot.upstreams.as_slice().into();
        state.active = Some(Active { generation, hash, snapshot, applied_at: unix_seconds(), swept });
        drop(state);
        self.publications.send_replace(Some(Publication { rules: Arc::new(pushed), upstreams, swept }));
        Ok(ReloadResult::Applied)
    }

    /// Publishes the same rules with other upstreams, if these differ.
    fn redirect(&self, snapshot: &Snapshot) {
        self.publications.send_if_modified(|current| match current {
            Some(current) if *current.upstreams != *snapshot.upstreams => {
                current.upstreams = snapshot.upstreams.as_slice().into();
                true
            }
            _ => false,
        });
    }

    /// The generation of the next push, higher than any before it, and the last one that removed a series.
    fn next_generation(&self, active: Option<&Active>) -> (u64, u64) {
        match (active, &self.last_published) {
            (Some(active), _) => (active.generation + 1, active.swept),
            (None, Some(last)) => ((last.generation + 1).max(unix_seconds() * 1000), last.swept),
            (None, None) => (unix_seconds() * 1000, 0),
        }
    }

    fn log(&self, attempt: &Attempt, candidate: &Candidate) {
        let state = self.state.lock();
        let pricing = &state.pricing;
        match attempt.result {
            ReloadResult::Applied => {
                attempt.findings.iter().for_each(|finding| warn!("{}", describe(pricing, finding)));
                if let Some(active) = &state.active {
                    info!(
                        generation = active.generation,
                        routes = active.snapshot.routes.len(),
                        skipped = active.snapshot.skipped.len(),
                        facilitator = active.snapshot.facilitator_url,
                        "rules loaded"
                    );
                }
            }
            ReloadResult::Unchanged => info!("rules unchanged"),
            ReloadResult::Rejected if self.last_rejected.as_ref() == Some(candidate) => {}
            ReloadResult::Rejected => {
                let rejects = attempt.findings.iter().filter(|finding| finding.severity == Severity::Reject);
                rejects.for_each(|finding| error!("{}", describe(pricing, finding)));
                let cause = attempt.error.as_deref().unwrap_or("see the findings");
                error!("rules rejected, the last good stay in force: {cause}");
            }
        }
    }
}

impl From<&Known> for FacilitatorState {
    fn from(known: &Known) -> Self {
        let kinds = known.supported.as_ref().map(|supported| {
            let kind = |kind: &crate::facilitator::SupportedKind| {
                format!("v{} {} {}", kind.x402_version, kind.scheme, kind.network)
            };
            supported.kinds.iter().map(kind).collect()
        });
        Self {
            url: known.url.clone(),
            kinds,
            loaded_at: known.loaded_at,
            last_error: known.last_error.clone(),
        }
    }
}
