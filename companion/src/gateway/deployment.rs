//! The rules in force at the gateway, with the upstream of each route.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use farebox_core::rules::{Gate, Lookup, RouteIndex, RuleSet, canonicalize};
use farebox_core::terms::Unmatched;
use farebox_pricing::{Finding, HttpUrl, RouteUpstream, Severity, Snapshot};
use http::uri::{Authority, Scheme};

use super::credential::Authorization;

/// One set of rules. A request uses one deployment from its start to its end.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) rules: Arc<RuleSet>,
    /// The upstream of each route.
    targets: Vec<Option<Target>>,
    /// The upstream for paths that no route matches, if these pass.
    fallback: Option<Target>,
}

/// An upstream.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// The path prefix of the upstream, without trailing slash.
    pub(super) base: String,
    pub(super) route: RouteUpstream,
    pub(super) authorization: Option<Authorization>,
}

/// The destination of a request path.
pub(super) enum Place<'a> {
    /// None; the rules answer the request.
    Answered,
    /// To this upstream.
    Target(&'a Target, Option<RouteIndex>),
    /// An upstream that is not configured.
    Unknown(Option<RouteIndex>),
}

/// The rules in force: the loader sets them, and every request takes them.
#[derive(Debug)]
pub struct Deployments {
    current: RwLock<Arc<Deployment>>,
    past: Mutex<Past>,
    /// Upstream of routes that name none.
    default: Option<HttpUrl>,
    /// How long a proxy in front may still use old rules.
    behind: Duration,
    /// Whether a request has ever come.
    was_reached: AtomicBool,
}

/// Earlier deployments.
#[derive(Debug, Default)]
struct Past {
    /// Deployments that a request may still use.
    used: Vec<Weak<Deployment>>,
    /// Deployments whose terms a buyer may still have, with the time of their replacement, the newest first.
    asked: Vec<(Instant, Arc<Deployment>)>,
}

/// Longer than a change needs to reach a Traefik: changes are published at most every 2 s, and polled every
/// 5 s with the shipped `traefik/traefik.yaml`.
pub(super) const BEHIND: Duration = Duration::from_secs(15);
/// Number of deployments within [`BEHIND`] if the rules change every two seconds.
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

    /// The destination of a path as the client sent it.
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

/// Whether a route with this gate sends requests on.
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

    /// The target for the upstream, from the target that the exchange forwards.
    pub(super) fn path(&self, method: &str, target: &str) -> String {
        [self.base.as_str(), self.route.target(method, target).as_str()].concat()
    }

    /// Whether a request can be sent to this upstream.
    pub(super) async fn is_usable(&self) -> bool {
        match &self.authorization {
            None => true,
            Some(authorization) => authorization.is_usable().await,
        }
    }
}

// === impl Deployments ===

impl Deployments {
    /// Makes deployments without rules: every request is answered 503.
    ///
    /// A proxy in front may enforce old rules for up to `behind`.
    pub fn new(default: Option<HttpUrl>, behind: Duration) -> Self {
        let closed = Deployment::new(Arc::new(RuleSet::closed()), &[], None);
        let was_reached = AtomicBool::new(false);
        Self { current: RwLock::new(Arc::new(closed)), past: Mutex::default(), default, behind, was_reached }
    }

    /// Puts a load in force. `rules` are compiled from a push of `snapshot`.
    pub fn apply(&self, rules: Arc<RuleSet>, snapshot: &Snapshot) {
        self.replace(Deployment::new(rules, &snapshot.upstreams, self.default.as_ref()));
    }

    /// Takes new upstreams for unchanged rules.
    pub fn reroute(&self, snapshot: &Snapshot) {
        self.apply(self.current().rules.clone(), snapshot);
    }

    /// The generation in force; `None` before the first load.
    pub fn generation(&self) -> Option<u64> {
        let current = self.current();
        current.rules.is_loaded().then_some(current.rules.generation)
    }

    /// Notes that a request has come.
    pub(crate) fn reached(&self) {
        self.was_reached.store(true, Ordering::Relaxed);
    }

    /// Whether a request has ever come.
    pub fn was_reached(&self) -> bool {
        self.was_reached.load(Ordering::Relaxed)
    }

    /// Whether there are routes, and none has an upstream.
    pub fn leads_nowhere(&self) -> bool {
        let current = self.current();
        let routes = current.rules.routes.iter().zip(&current.targets);
        let mut targets =
            routes.filter(|(route, _)| forwards(route.gate)).map(|(_, target)| target).peekable();
        targets.peek().is_some() && targets.all(Option::is_none)
    }

    /// Patterns of the routes in force that have no upstream and are answered 502.
    pub fn without_upstream(&self) -> Vec<String> {
        let current = self.current();
        let routes = current.rules.routes.iter().zip(&current.targets);
        let lost = routes.filter(|(route, target)| forwards(route.gate) && target.is_none());
        lost.map(|(route, _)| route.pattern.to_string()).collect()
    }

    /// The oldest generation under which a request may still be counted.
    pub fn oldest_generation(&self) -> u64 {
        let current = self.current().rules.generation;
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.forget(self.behind);
        let in_use = past.used.iter().filter_map(Weak::upgrade).map(|deployment| deployment.rules.generation);
        in_use.min().map_or(current, |oldest| oldest.min(current))
    }

    /// Findings about the upstreams of the routes, for the operator.
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

    /// The deployments that a proxy in front may still use, the newest first.
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
    /// Drops deployments that no proxy uses any more.
    fn forget(&mut self, behind: Duration) {
        self.asked.retain(|(replaced, _)| replaced.elapsed() < behind);
    }
}
