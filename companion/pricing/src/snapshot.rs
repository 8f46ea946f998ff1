//! Resolved rules of one load, and their push.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};

use farebox_core::evm::B256;
use farebox_core::protocol::MIN_REMAINING_SECONDS;
use farebox_core::rules::{FORMAT, Facilitator, Gate, PushedRoute, PushedRules};
use farebox_core::terms::{Flow, Settings, Tuple};
use sha3::{Digest, Keccak256};

use super::{HttpUrl, RouteUpstream};

/// Why a route or option was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each name is the reason's own text")]
pub enum SkipReason {
    MissingPayTo,
    MissingChain,
    BadAddress,
    UnsupportedChain,
    AssetIncomplete,
    AssetMismatch,
    MissingPrice,
    BadPrice,
    PricePrecision,
    ZeroPrice,
    UnsupportedPriceModel,
    UnsupportedTransferMethod,
    UnsupportedFeature,
    ConflictingTerms,
    BadGate,
    BadTimeout,
    ChallengeTooLarge,
    MissingCredential,
    PathConflict,
    Other,
}

/// Whether a whole route or one way to pay it was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipScope {
    /// The route; its paths are refused.
    Route,
    /// One option; the others still work.
    Option,
}

/// A route or option that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Offer labels, may be empty.
    pub offer_namespace: String,
    /// See `offer_namespace`.
    pub offer_name: String,
    /// What was left out.
    pub scope: SkipScope,
    /// Why.
    pub reason: SkipReason,
    /// Pattern of the route.
    pub pattern: String,
    /// 1-based line in the file.
    pub line: usize,
}

/// Resolved rules of one load, without a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Effective facilitator URL, no trailing slash; `None` only if no payment needs one.
    pub facilitator_url: Option<String>,
    /// The file's own `facilitatorURL`, if another one replaces it.
    pub replaced_facilitator: Option<String>,
    /// `requireSecureTransport` of the file.
    pub require_secure_transport: bool,
    /// Routes in matching order; `PaymentOption::tuple` refers to `tuples`.
    pub routes: Vec<PushedRoute>,
    /// Distinct tuples in order of first appearance, each with `born` 0.
    pub tuples: Vec<Tuple>,
    /// Protected set.
    pub protected: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    /// Line in the file of each route, for `explain`.
    pub route_lines: Vec<usize>,
    /// The upstream of each route. Never pushed.
    pub upstreams: Vec<RouteUpstream>,
    /// Settings of the file that an Envoy filter does not enforce, for `check --for envoy`.
    pub not_pushed: Vec<NotPushed>,
}

/// A setting that is never pushed, because it belongs into the proxy's own configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPushed {
    /// 1-based line in the file.
    pub line: usize,
    /// Key path, never with the value.
    pub key: String,
    /// The setting.
    pub setting: HostSetting,
}

/// A setting about the traffic of a route beyond its price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostSetting {
    /// `upstreamURL`.
    UpstreamUrl,
    /// `stripPrefix`.
    StripPrefix,
    /// `upstreamAuth`: a secret.
    UpstreamAuth,
    /// `offerType` `inference` or `agent`: POSTs go to `/v1/chat/completions`.
    ChatRewrite,
}

impl SkipReason {
    /// The `reason` label, which is also the text for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingPayTo => "missing_pay_to",
            Self::MissingChain => "missing_chain",
            Self::BadAddress => "bad_address",
            Self::UnsupportedChain => "unsupported_chain",
            Self::AssetIncomplete => "asset_incomplete",
            Self::AssetMismatch => "asset_mismatch",
            Self::MissingPrice => "missing_price",
            Self::BadPrice => "bad_price",
            Self::PricePrecision => "price_precision",
            Self::ZeroPrice => "zero_price",
            Self::UnsupportedPriceModel => "unsupported_price_model",
            Self::UnsupportedTransferMethod => "unsupported_transfer_method",
            Self::UnsupportedFeature => "unsupported_feature",
            Self::ConflictingTerms => "conflicting_terms",
            Self::BadGate => "bad_gate",
            Self::BadTimeout => "bad_timeout",
            Self::ChallengeTooLarge => "challenge_too_large",
            Self::MissingCredential => "missing_credential",
            Self::PathConflict => "path_conflict",
            Self::Other => "other",
        }
    }
}

impl SkipScope {
    /// The `scope` label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Option => "option",
        }
    }
}

impl Snapshot {
    /// The push. `born` gives the birth of each tuple of [`Self::keep_set`] (a tuple not in it was born in
    /// `generation`); `v1_kinds` holds the CAIP-2 networks for which the facilitator lists the v1 kind.
    ///
    /// The file's `requireSecureTransport` is added to the settings, and the facilitator is named in
    /// challenges exactly if its host is public.
    pub fn push(
        &self,
        generation: u64,
        settings: &Settings,
        facilitator: &Facilitator,
        born: &BTreeMap<Tuple, u64>,
        v1_kinds: &BTreeSet<String>,
    ) -> PushedRules {
        self.draft(settings, facilitator, v1_kinds).numbered(generation, born)
    }

    /// Every live tuple with `born` 0: the tuples that may have series.
    pub fn keep_set(&self) -> BTreeSet<Tuple> {
        self.tuples.iter().cloned().collect()
    }

    /// Every (offer_namespace, offer_name) of the file, also where all its routes were skipped: these keep
    /// their `blocked_requests_total` and `skipped_offers`.
    pub fn offers(&self) -> BTreeSet<(&str, &str)> {
        self.routes.iter().map(|route| (&*route.offer_namespace, &*route.offer_name)).collect()
    }

    /// Keeps the protected prefixes of earlier rules for which these rules have no route. Returns the prefixes that
    /// were added.
    pub fn keep_protected(&mut self, earlier: &BTreeSet<String>) -> Vec<String> {
        let patterns = self.routes.iter().map(|route| &*route.pattern);
        let places = patterns.map(|pattern| pattern.strip_suffix("/*").unwrap_or(pattern));
        let named: HashSet<&str> = places
            .map(|place| if place.is_empty() { "/" } else { place })
            .chain(self.protected.iter().map(String::as_str))
            .collect();
        let kept: Vec<_> = earlier.iter().filter(|place| !named.contains(place.as_str())).cloned().collect();
        self.protected.extend_from_slice(&kept);
        kept
    }

    /// How many offers have a route that can be paid for.
    pub fn offers_loaded(&self) -> usize {
        let offers: BTreeSet<_> =
            self.tuples.iter().map(|tuple| (&tuple.offer_namespace, &tuple.offer_name)).collect();
        offers.len()
    }

    /// How many routes have a gate.
    pub fn routes_with(&self, gate: Gate) -> usize {
        self.routes.iter().filter(|route| route.gate == gate).count()
    }

    /// The facilitator URL for challenges: only if its host is public.
    pub fn public_facilitator(&self) -> Option<String> {
        HttpUrl::parse(self.facilitator_url.as_deref()?)
            .ok()
            .filter(HttpUrl::is_public)
            .map(|url| url.to_string())
    }

    /// The push with its hash, and without generation and births, which [`PushedRules::numbered`] sets. The hash is
    /// the 0x-hex keccak-256 of the canonical JSON without generation and births, so an equal hash means equal
    /// behaviour.
    pub fn draft(
        &self,
        settings: &Settings,
        facilitator: &Facilitator,
        v1_kinds: &BTreeSet<String>,
    ) -> PushedRules {
        let mut settings = settings.clone();
        settings.require_secure_transport |= self.require_secure_transport;
        settings.public_facilitator = self.public_facilitator();
        let mut routes = self.routes.clone();
        for option in routes.iter_mut().flat_map(|route| &mut route.options) {
            option.v1_kind = option.v1_network.is_some() && v1_kinds.contains(option.network.as_str());
        }
        for route in routes.iter_mut().filter(|route| route.gate == Gate::Paid) {
            limit_times(route, &settings, facilitator);
        }
        let mut pushed = PushedRules {
            format: FORMAT,
            generation: 0,
            hash: String::new(),
            settings,
            facilitator: Some(facilitator.clone()),
            tuples: self.tuples.clone(),
            routes,
            protected: self.protected.clone(),
        };
        pushed.hash = content_hash(&pushed);
        pushed
    }
}

/// Sets the time limits of a route. The window of a payment has to last until the end of the settlement, and must
/// not end later than an upfront option allows. A payment that a conforming buyer signs passes, and may spend half
/// of its window before it arrives.
fn limit_times(route: &mut PushedRoute, settings: &Settings, facilitator: &Facilitator) {
    let first = route.options.iter().all(|option| option.flow == Flow::Upfront);
    for option in route.options.iter_mut().filter(|option| option.flow == Flow::Upfront) {
        option.max_timeout_seconds = option.max_timeout_seconds.min(settings.replay_horizon_seconds);
    }
    let shortest = route.options.iter().map(|option| option.max_timeout_seconds).min();
    if let (None, Some(upstream), Some(shortest)) =
        (route.min_remaining, settings.upstream_timeout_seconds, shortest)
    {
        let before = if first { 0 } else { upstream };
        let settle = u64::from(facilitator.settle_timeout_ms).div_ceil(1_000);
        route.min_remaining = Some((before + settle).min(shortest / 2).max(MIN_REMAINING_SECONDS));
    }
}

/// Hash of a push whose generation, hash and births are still zero. Struct members are written in the order of their
/// declaration and maps are sorted, so equal rules have equal bytes.
fn content_hash(unnumbered: &PushedRules) -> String {
    let mut hashed = Hashed(Keccak256::new());
    // Writing strings, integers and maps with string keys cannot fail.
    let _ = serde_json::to_writer(&mut hashed, unnumbered);
    B256(hashed.0.finalize().into()).to_string()
}

/// A writer that hashes without keeping the bytes, because thousands of routes are megabytes.
struct Hashed(Keccak256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl HostSetting ===

impl HostSetting {
    /// What an operator of Envoy uses instead.
    pub const fn on_envoy(self) -> &'static str {
        match self {
            Self::UpstreamUrl => "Envoy's own route and cluster decide where requests go",
            Self::StripPrefix => "set prefix_rewrite or regex_rewrite on Envoy's route",
            Self::UpstreamAuth => {
                "secrets are never pushed to a proxy; use Envoy's credential_injector filter on the upstream"
            }
            Self::ChatRewrite => {
                "rewrite POSTs to /v1/chat/completions on Envoy's route if the upstream needs it"
            }
        }
    }
}
