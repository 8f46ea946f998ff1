//! Loading a pricing file: the one function for every reload path.

use std::collections::{BTreeSet, HashMap, HashSet};

use farebox_core::evm::{Address, Network, chain_by_name, default_asset, is_named_chain};
use farebox_core::rules::pattern::Pattern;
use farebox_core::rules::{Gate, PushedRoute, canonical_text};
use farebox_core::terms::Tuple;

use super::chain::read_chain;
use super::coverage::Coverage;
use super::mixed;
use super::option::{CHECKSUM_FAILS, Defaults, NO_CHECKSUM, lacks_checksum, read_address};
use super::pricing_file::{self, At, PricingFile, Unlock, WHOLE_FILE};
use super::resolve::{self, Route};
use super::{HttpUrl, RouteUpstream, SkipReason, SkipScope, Skipped, Snapshot, yaml};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A warning only; every route is in force.
    Warning,
    /// One route or payment option is left out; its paths are refused.
    Skip,
    /// The whole file is rejected and the last good rules stay.
    Reject,
}

/// One fault or doubt found by a load, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// 1-based line in the file.
    pub line: usize,
    /// Key path, e.g. `routes[2].payments[0].price`.
    pub key: String,
    /// What is wrong and how to correct it. Never holds a secret.
    pub message: String,
}

/// The result of loading: every finding at once, and the snapshot unless something rejects.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// In file order.
    pub findings: Vec<Finding>,
    /// `None` if any finding is a [`Severity::Reject`].
    pub snapshot: Option<Snapshot>,
}

/// Values for a load that are not in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOptions {
    /// Replaces `facilitatorURL`. The same rules apply to it.
    pub facilitator_url: Option<String>,
    /// Chains whose payments go to other facilitators.
    pub served_elsewhere: BTreeSet<Network>,
    /// A facilitator on another machine may be called without TLS.
    pub plain_http: bool,
    /// How long a settlement may take, seconds.
    pub settle_timeout: u64,
    /// See [`farebox_core::terms::Settings::replay_horizon_seconds`].
    pub replay_horizon: u64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        let replay_horizon = farebox_core::terms::Settings::default().replay_horizon_seconds;
        Self {
            facilitator_url: None,
            served_elsewhere: BTreeSet::new(),
            plain_http: false,
            settle_timeout: 60,
            replay_horizon,
        }
    }
}

/// What to do about a chain without a registry asset.
const COMPLETE_ASSET: &str = "set `network` on each route instead, with assetAddress, assetSymbol, assetDecimals, \
                              assetTransferMethod, eip712Name and eip712Version";

/// Parses, resolves and validates a pricing file.
pub fn load(text: &str) -> Loaded {
    load_with(text, &LoadOptions::default())
}

/// As [`load`], with values that do not come from the file.
pub fn load_with(text: &str, options: &LoadOptions) -> Loaded {
    let mut loader = Loader::default();
    let snapshot = loader.snapshot(text, options);
    let mut findings = loader.findings;
    // The sort is stable, so findings of one line keep their order.
    findings.sort_by_key(|finding| finding.line);
    let rejected = findings.iter().any(|finding| finding.severity == Severity::Reject);
    Loaded { findings, snapshot: snapshot.filter(|_| !rejected) }
}

// === impl Severity ===

impl Severity {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Skip => "skipped",
            Self::Reject => "rejected",
        }
    }
}

// === impl Finding ===

impl core::fmt::Display for Finding {
    /// Writes `line: severity: key: message`, for use after a file name and a colon.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}: {}: {}", self.line, self.severity.as_str(), self.key, self.message)
    }
}

// === impl Loaded ===

impl Loaded {
    /// How many findings have a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

#[derive(Default)]
struct Loader {
    findings: Vec<Finding>,
}

// === impl Loader ===

impl Loader {
    fn find(&mut self, severity: Severity, line: usize, key: &str, message: impl Into<String>) {
        self.findings.push(Finding { severity, line, key: key.to_owned(), message: message.into() });
    }

    fn snapshot(&mut self, text: &str, options: &LoadOptions) -> Option<Snapshot> {
        let file = self.file(text)?;
        let (facilitator_url, replaced_facilitator) =
            self.facilitator_url(file.facilitator_url.as_ref(), options);
        let LoadOptions { settle_timeout, replay_horizon, .. } = *options;
        let defaults = Defaults {
            wallet: self.wallet(&file),
            chain: self.chain(file.chain.as_ref()),
            settle_timeout,
            replay_horizon,
        };
        if let Some(typed) = file.verify_only.as_ref().filter(|typed| typed.value) {
            let message = "has no effect: a verified payment is always settled";
            self.find(Severity::Warning, typed.line, "verifyOnly", message);
        }
        let mut skipped = Vec::new();
        let mut not_pushed = Vec::new();
        let mut routes = Vec::with_capacity(file.routes.len() + 1);
        routes.extend(self.unlock(file.unlock.as_ref(), &mut skipped));
        for entry in &file.routes {
            let findings = &mut self.findings;
            routes.extend(resolve::resolve(entry, &defaults, findings, &mut skipped, &mut not_pushed));
        }
        self.compare(&routes);
        if facilitator_url.is_none() {
            self.needs_facilitator(&file, &routes, options);
        }
        let protected = protected(&routes);
        let tuples = number_tuples(&mut routes);
        Some(Snapshot {
            facilitator_url,
            replaced_facilitator,
            require_secure_transport: file.require_secure_transport.is_some_and(|typed| typed.value),
            route_lines: routes.iter().map(|route| route.line).collect(),
            upstreams: routes.iter().map(|route| route.upstream.clone()).collect(),
            routes: routes.into_iter().map(|route| route.pushed).collect(),
            tuples,
            protected,
            skipped,
            not_pushed,
        })
    }

    fn file(&mut self, text: &str) -> Option<PricingFile> {
        match yaml::parse(text) {
            Ok(Some(root)) => Some(pricing_file::read(&root, &mut self.findings)),
            Ok(None) => {
                let message = "is empty; a file without routes says `routes: []`";
                self.find(Severity::Reject, 1, WHOLE_FILE, message);
                None
            }
            Err(broken) => {
                self.find(Severity::Reject, broken.line, WHOLE_FILE, broken.message);
                None
            }
        }
    }

    /// The facilitator in use, and that of the file if it is replaced.
    fn facilitator_url(
        &mut self,
        typed: Option<&At<String>>,
        options: &LoadOptions,
    ) -> (Option<String>, Option<String>) {
        let plain_http = options.plain_http;
        let of_file = typed.and_then(|typed| {
            self.checked_facilitator(&typed.value, typed.line, "facilitatorURL", plain_http)
        });
        match &options.facilitator_url {
            Some(replacement) => {
                let key = "facilitatorURL (replaced from outside the file)";
                let used = self.checked_facilitator(replacement, 1, key, plain_http);
                let replaced = of_file.filter(|_| used.is_some()).filter(|own| Some(own) != used.as_ref());
                (used, replaced)
            }
            None => (of_file, None),
        }
    }

    /// Checks that a facilitator is named. There is no default, because the facilitator decides which
    /// payments count as settled.
    fn needs_facilitator(&mut self, file: &PricingFile, routes: &[Route], options: &LoadOptions) {
        let networks = routes.iter().flat_map(|route| &route.pushed.options).map(|option| &option.network);
        let is_missing = file.facilitator_url.is_none() && options.facilitator_url.is_none();
        if is_missing && networks.into_iter().any(|network| !options.served_elsewhere.contains(network)) {
            let message = "is missing, so payments cannot be verified and settled; write `facilitatorURL: ` with the \
                           address of the one you chose, such as https://www.x402.org/facilitator (test money) or \
                           http://127.0.0.1:4020 (`farebox facilitator`, no money)";
            self.find(Severity::Reject, 1, "facilitatorURL", message);
        }
    }

    fn checked_facilitator(
        &mut self,
        text: &str,
        line: usize,
        key: &str,
        plain_http: bool,
    ) -> Option<String> {
        match HttpUrl::parse(text) {
            Ok(url) if url.https || plain_http || url.is_local() => Some(url.to_string()),
            Ok(_) => {
                let message = "must be https; http is only for localhost, 127.0.0.1, ::1, host.k3d.internal and \
                               host.docker.internal, unless facilitator.allowPlainHttp is set in farebox.yaml";
                self.find(Severity::Reject, line, key, message);
                None
            }
            Err(error) => {
                self.find(Severity::Reject, line, key, error.to_string());
                None
            }
        }
    }

    fn wallet(&mut self, file: &PricingFile) -> Option<Address> {
        let typed = file.wallet.as_ref()?;
        match read_address(&typed.value) {
            Ok(address) => {
                if !Address::checksum_holds(&typed.value) {
                    self.find(Severity::Reject, typed.line, "wallet", CHECKSUM_FAILS);
                } else if lacks_checksum(&typed.value) {
                    self.find(Severity::Warning, typed.line, "wallet", NO_CHECKSUM);
                }
                Some(address)
            }
            Err(message) => {
                self.find(Severity::Reject, typed.line, "wallet", message);
                // The file is rejected already. With this address the routes do not report the same
                // mistake.
                Some(Address([0xff; 20]))
            }
        }
    }

    fn chain(&mut self, typed: Option<&At<String>>) -> Option<Network> {
        let typed = typed?;
        let chain = read_chain(&typed.value).and_then(|chain| {
            let has_asset = is_named_chain(&chain) || default_asset(&chain).is_some();
            if has_asset {
                Ok(chain)
            } else {
                Err(format!("{chain} has no asset that Farebox knows; {COMPLETE_ASSET}"))
            }
        });
        chain
            .inspect_err(|message| self.find(Severity::Reject, typed.line, "chain", message.as_str()))
            // The file is rejected already. With some chain the routes can still be checked.
            .or_else(|_| chain_by_name("base-sepolia").ok_or(()))
            .ok()
    }

    /// Makes the rule that closes the paths of `authCaptureUnlock`. It is the first rule, so that no
    /// other rule opens them.
    fn unlock(&mut self, unlock: Option<&Unlock>, skipped: &mut Vec<Skipped>) -> Option<Route> {
        let unlock = unlock.filter(|unlock| unlock.enabled)?;
        let key = "authCaptureUnlock.offerPrefix";
        let typed = unlock.offer_prefix.as_ref();
        let line = typed.map_or(unlock.line, |typed| typed.line);
        let prefix = typed.and_then(|typed| canonical_text(typed.value.as_bytes()).ok());
        let Some(prefix) = prefix.filter(|prefix| !prefix.contains(['*', ';'])) else {
            let message = "must be a plain path such as /offers, or the paths to protect are unknown";
            self.find(Severity::Reject, line, key, message);
            return None;
        };
        let prefix = prefix.trim_end_matches('/').to_owned();
        let reason = SkipReason::UnsupportedFeature;
        let message = format!("is not supported: {prefix}/* is refused [{}]", reason.as_str());
        self.find(Severity::Skip, unlock.line, "authCaptureUnlock", message);
        let pattern = format!("{prefix}/*");
        skipped.push(Skipped {
            offer_namespace: String::new(),
            offer_name: String::new(),
            scope: SkipScope::Route,
            reason,
            pattern: pattern.clone(),
            line: unlock.line,
        });
        Some(Route {
            pushed: PushedRoute {
                pattern,
                gate: Gate::Blocked,
                offer_namespace: String::new(),
                offer_name: String::new(),
                options: Vec::new(),
                min_remaining: None,
                description: String::new(),
                public: None,
            },
            symbols: Vec::new(),
            pattern: Pattern::Prefix(prefix),
            free: false,
            upstream: RouteUpstream::default(),
            line: unlock.line,
            key: key.to_owned(),
        })
    }

    /// Finds routes that contradict or hide each other.
    fn compare(&mut self, routes: &[Route]) {
        let mut by_pattern: HashMap<&str, &Route> = HashMap::with_capacity(routes.len());
        let mut coverage = Coverage::default();
        for (index, route) in routes.iter().enumerate() {
            if let Some(first) = by_pattern.get(route.pushed.pattern.as_str()) {
                self.same_pattern(first, route);
                continue;
            }
            by_pattern.insert(&route.pushed.pattern, route);
            if let Some(earlier) = coverage.covering(&route.pattern).and_then(|earlier| routes.get(earlier)) {
                self.hidden(earlier, route);
            }
            coverage.add(index, route.pattern.clone());
        }
        for (route, earlier) in mixed::by_case(routes) {
            let message = format!(
                "has other terms than {} on line {}, which matches its paths if letter case is ignored, as some upstreams \
                 do: requests that fit both are refused (400); write both in one case",
                earlier.pushed.pattern, earlier.line
            );
            self.find(Severity::Warning, route.line, &route.key, message);
        }
        for (route, sold) in mixed::by_prefix(routes) {
            let message = format!(
                "is free and reaches the paths that {} on line {} sells: both have one upstream, and stripPrefix makes \
                 their paths equal there; give the paid route an upstream of its own, or the free one a narrower pattern",
                sold.pushed.pattern, sold.line
            );
            self.find(Severity::Warning, route.line, &route.key, message);
        }
    }

    fn same_pattern(&mut self, first: &Route, second: &Route) {
        let terms = |route: &Route| {
            let PushedRoute { gate, offer_namespace, offer_name, options, .. } = route.pushed.clone();
            (gate, offer_namespace, offer_name, options, route.symbols.clone())
        };
        let place = first.line;
        if terms(first) == terms(second) {
            let message = format!("repeats the pattern of line {place}, which has precedence");
            self.find(Severity::Warning, second.line, &second.key, message);
        } else {
            let message = format!("repeats the pattern of line {place}, with other terms");
            self.find(Severity::Reject, second.line, &second.key, message);
        }
    }

    fn hidden(&mut self, earlier: &Route, later: &Route) {
        let pattern = &earlier.pushed.pattern;
        if earlier.free && earlier.pushed.gate == Gate::Free && !later.free {
            let message = format!(
                "would be served free: {pattern} on line {} comes first and takes all its paths; move this route up",
                earlier.line
            );
            self.find(Severity::Reject, later.line, &later.key, message);
        } else {
            let message = format!("is never reached: {pattern} on line {} takes all its paths", earlier.line);
            self.find(Severity::Warning, later.line, &later.key, message);
        }
    }
}

/// The prefixes below which an unmatched path must not pass: those of every route that is not free, and
/// those that such routes strip. Skipped routes count, too, even free ones.
fn protected(routes: &[Route]) -> Vec<String> {
    let closed = routes.iter().filter(|route| route.pushed.gate != Gate::Free);
    let places = closed.flat_map(|route| {
        let place = route.pushed.pattern.strip_suffix("/*").unwrap_or(&route.pushed.pattern);
        core::iter::once(place).chain(route.upstream.strip_prefix.as_deref())
    });
    let mut seen = HashSet::new();
    places
        .map(|place| if place.is_empty() { "/" } else { place })
        .filter(|place| seen.insert(*place))
        .map(str::to_owned)
        .collect()
}

/// The distinct metric tuples in order of first appearance. Sets the tuple's index in every option.
fn number_tuples(routes: &mut [Route]) -> Vec<Tuple> {
    let mut tuples: Vec<Tuple> = Vec::new();
    let mut places: HashMap<Tuple, usize> = HashMap::new();
    for Route { pushed, symbols, .. } in routes {
        for (option, symbol) in pushed.options.iter_mut().zip(symbols) {
            let tuple = Tuple {
                offer_namespace: pushed.offer_namespace.clone(),
                offer_name: pushed.offer_name.clone(),
                chain: option.network.as_str().to_owned(),
                asset_symbol: symbol.clone(),
                born: 0,
            };
            option.tuple = *places.entry(tuple).or_insert_with_key(|tuple| {
                tuples.push(tuple.clone());
                tuples.len() - 1
            });
        }
    }
    tuples
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
