//! Resolved rules of one load, and their push.

use super::{Facilitator, PushedRoute, PushedRules, Settings, Tuple};
use std::collections::BTreeMap;

/// Why a route or option was left out (contract section 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each name is the reason's own text")]
pub enum SkipReason {
    MissingPayTo,
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

/// One thing left out.
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

/// Fully resolved rules of one load, before they get a generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Effective facilitator URL, no trailing slash.
    pub facilitator_url: String,
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
    /// Settings of the file that a proxy does not enforce, by route (upstreamURL, stripPrefix, upstreamAuth…):
    /// key path without value, for `check --for envoy`.
    pub not_pushed: Vec<(usize, String)>,
}

impl SkipReason {
    /// The `reason` label and the text people see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingPayTo => "missing_pay_to",
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
    /// Content hash of a push made from this snapshot: 0x-hex keccak-256 of its canonical JSON without
    /// generation and births. Equal hash, equal behaviour.
    pub fn hash(&self, settings: &Settings, facilitator: &Facilitator) -> String {
        let _ = (settings, facilitator);
        todo!()
    }
    /// The push. `born` gives the birth of each tuple (a tuple not in it was born in `generation`);
    /// `v1_kinds` holds the CAIP-2 networks for which the facilitator lists the v1 kind.
    pub fn push(
        &self,
        generation: u64,
        settings: &Settings,
        facilitator: &Facilitator,
        born: &BTreeMap<Tuple, u64>,
        v1_kinds: &std::collections::BTreeSet<String>,
    ) -> PushedRules {
        let _ = (generation, settings, facilitator, born, v1_kinds);
        todo!()
    }
}
