//! The rules in force at the gateway, with where each route leads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use farebox_core::rules::{Gate, Lookup, RouteIndex, RuleSet, canonicalize};
use farebox_core::terms::Unmatched;
use farebox_pricing::{Finding, HttpUrl, RouteUpstream, Severity, Snapshot};
use http::uri::{Authority, Scheme};

use super::credential::Authorization;

/// One set of rules. A request finishes on what it started with.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) rules: Arc<RuleSet>,
    /// By route.
    targets: Vec<Option<Target>>,
    /// Of what no route matches, where that passes.
    fallback: Option<Target>,
}

/// Where a route leads.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Path before every request's own, without trailing slash.
    pub(super) base: String,
    pub(super) route: RouteUpstream,
    pub(super) authorization: Option<Authorization>,
}

/// What a request path leads to.
pub(super) enum Place<'a> {
    /// Nowhere; only the rules can answer.
    Answered,
    /// To this upstream.
    Target(&'a Target, Option<RouteIndex>),
    /// Somewhere nobody knows.
    Unknown(Option<RouteIndex>),
}

/// What the loader puts in force and every request takes.
#[derive(Debug)]
pub struct Deployments {
    current: RwLock<Arc<Deployment>>,
    past: Mutex<Past>,
    /// Upstream of routes that name none.
    default: Option<HttpUrl>,
    /// How long a proxy in front may go on asking for what it asked for before.
    behind: Duration,
    /// A request has come.
    was_reached: AtomicBool,
}

/// What was in force before.
#[derive(Debug, Default)]
struct Past {
    /// What a request may still be using.
    used: Vec<Weak<Deployment>>,
    /// What a buyer may have been asked for, with when it was replaced; the last one first.
    asked: Vec<(Instant, Arc<Deployment>)>,
}

/// Longer than a change takes to reach a Traefik: it is published at most every 2 s, and polled every 5 s as
/// `traefik/traefik.yaml` is shipped.
pub(super) const BEHIND: Duration = Duration::from_secs(15);
/// Of rules that change every two seconds, those of [`BEHIND`].
const MOST_ASKED: usize = 8;

// === impl Deployment ===

impl Deployment {
    fn new(rules: Arc<RuleSet>, upstreams: &[RouteUpstream], default: Option<&HttpUrl>) -> Self {
        let target = |route: &RouteUpstream| Target::new(route, route.url.as_ref().or(default)?);
        Self {
            rules,
            targets: upstreams.iter().map(target).collect(),
            fallback: target(&RouteUpstream::default()),
        }
    }

    /// What the rules make of a path as the client sent it.
    pub(super) fn place(&self, path: &str) -> Place<'_> {
        if !self.rules.is_loaded() {
            return Place::Answered;
        }
        let Ok(path) = canonicalize(path.as_bytes()) else { return Place::Answered };
        match self.rules.lookup(&path) {
            Lookup::Route(index) => {
                let place = index.0 as usize;
                match self.targets.get(place).and_then(Option::as_ref) {
                    _ if !self.rules.routes.get(place).is_some_and(|route| forwards(route.gate)) => {
                        Place::Answered
                    }
                    Some(target) => Place::Target(target, Some(index)),
                    None => Place::Unknown(Some(index)),
                }
            }
            Lookup::Unmatched if self.rules.settings.unmatched == Unmatched::Pass => {
                self.fallback.as_ref().map_or(Place::Unknown(None), |target| Place::Target(target, None))
            }
            Lookup::Unmatched | Lookup::Protected | Lookup::Ambiguous => Place::Answered,
        }
    }
}

/// Whether a route ever sends a request on.
const fn forwards(gate: Gate) -> bool {
    matches!(gate, Gate::Paid | Gate::Free)
}

// === impl Target ===

impl Target {
    fn new(route: &RouteUpstream, url: &HttpUrl) -> Option<Self> {
        Some(Self {
            scheme: if url.https { Scheme::HTTPS } else { Scheme::HTTP },
            authority: url.authority().parse().ok()?,
            base: url.path.clone(),
            route: route.clone(),
            authorization: route.credential.clone().map(Authorization::new),
        })
    }

    /// The target the upstream gets, for one as the exchange forwards it.
    pub(super) fn path(&self, method: &str, target: &str) -> String {
        [self.base.as_str(), self.route.target(method, target).as_str()].concat()
    }

    /// Whether a request can be sent there at all.
    pub(super) async fn is_usable(&self) -> bool {
        match &self.authorization {
            None => true,
            Some(authorization) => authorization.is_usable().await,
        }
    }
}

// === impl Deployments ===

impl Deployments {
    /// Nothing is in force: everything is answered 503.
    ///
    /// A proxy in front enforces the rules before these for up to `behind`.
    pub fn new(default: Option<HttpUrl>, behind: Duration) -> Self {
        let closed = Deployment::new(Arc::new(RuleSet::closed()), &[], None);
        let was_reached = AtomicBool::new(false);
        Self { current: RwLock::new(Arc::new(closed)), past: Mutex::default(), default, behind, was_reached }
    }

    /// Puts a load in force. `rules` are compiled from a push of `snapshot`.
    pub fn apply(&self, rules: Arc<RuleSet>, snapshot: &Snapshot) {
        self.replace(Deployment::new(rules, &snapshot.upstreams, self.default.as_ref()));
    }

    /// The rules say what they said before, but perhaps not where their routes lead.
    pub fn reroute(&self, snapshot: &Snapshot) {
        self.apply(self.current().rules.clone(), snapshot);
    }

    /// The generation in force; `None` before the first load.
    pub fn generation(&self) -> Option<u64> {
        let current = self.current();
        current.rules.is_loaded().then_some(current.rules.generation)
    }

    /// A request has come.
    pub(crate) fn reached(&self) {
        self.was_reached.store(true, Ordering::Relaxed);
    }

    /// Whether a request has ever come.
    pub fn was_reached(&self) -> bool {
        self.was_reached.load(Ordering::Relaxed)
    }

    /// Whether there are routes, and none of them leads anywhere.
    pub fn leads_nowhere(&self) -> bool {
        let current = self.current();
        let routes = current.rules.routes.iter().zip(&current.targets);
        let mut targets =
            routes.filter(|(route, _)| forwards(route.gate)).map(|(_, target)| target).peekable();
        targets.peek().is_some() && targets.all(Option::is_none)
    }

    /// Patterns of the routes in force that lead nowhere and are answered 502.
    pub fn without_upstream(&self) -> Vec<String> {
        let current = self.current();
        let routes = current.rules.routes.iter().zip(&current.targets);
        let lost = routes.filter(|(route, target)| forwards(route.gate) && target.is_none());
        lost.map(|(route, _)| route.pattern.to_string()).collect()
    }

    /// The oldest generation a request may still be counted under.
    pub fn oldest_generation(&self) -> u64 {
        let current = self.current().rules.generation;
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.forget(self.behind);
        let in_use = past.used.iter().filter_map(Weak::upgrade).map(|deployment| deployment.rules.generation);
        in_use.min().map_or(current, |oldest| oldest.min(current))
    }

    /// What an operator should know of where routes lead.
    pub async fn findings(&self, snapshot: &Snapshot) -> Vec<Finding> {
        let mut findings = Vec::new();
        for ((route, upstream), line) in
            snapshot.routes.iter().zip(&snapshot.upstreams).zip(&snapshot.route_lines)
        {
            if !forwards(route.gate) {
                continue;
            }
            let mut warn = |key: &str, message: String| {
                findings.push(Finding {
                    severity: Severity::Warning,
                    line: *line,
                    key: format!("{}: {key}", route.pattern),
                    message,
                });
            };
            if upstream.url.is_none() && self.default.is_none() {
                let message = "is missing, and so is gateway.upstream: the gateway answers 502";
                warn("upstreamURL", message.to_owned());
            }
            if let Some(credential) = &upstream.credential
                && let Err(error) = Authorization::new(credential.clone()).value().await
            {
                warn("upstreamAuth", format!("{error}: the gateway answers 502 until it can be read"));
            }
        }
        findings
    }

    pub(super) fn current(&self) -> Arc<Deployment> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a proxy in front may have asked for, the last one first.
    pub(super) fn asked_before(&self) -> Vec<Arc<Deployment>> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.forget(self.behind);
        past.asked.iter().map(|(_, deployment)| deployment.clone()).collect()
    }

    fn replace(&self, deployment: Deployment) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.used.retain(|deployment| deployment.strong_count() > 0);
        past.used.push(Arc::downgrade(&current));
        if current.rules.is_loaded() && current.rules.generation != deployment.rules.generation {
            past.asked.insert(0, (Instant::now(), current.clone()));
            past.asked.truncate(MOST_ASKED);
        }
        past.forget(self.behind);
        *current = Arc::new(deployment);
    }
}

// === impl Past ===

impl Past {
    /// Lets go of what nobody is asked for any more.
    fn forget(&mut self, behind: Duration) {
        self.asked.retain(|(replaced, _)| replaced.elapsed() < behind);
    }
}
