//! The compiled rules as JSON: what the companion pushes as plugin config. Nothing secret is in it.
//! `read` is the other direction of the derived writers here.

use crate::terms::{PaymentOption, Settings, Tuple};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of this format. A filter refuses a push of another format, so that the host keeps the last good.
pub const FORMAT: u32 = 1;

/// One push.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushedRules {
    /// [`FORMAT`].
    pub format: u32,
    /// Strictly increasing, also across companion restarts.
    pub generation: u64,
    /// 0x-hex keccak-256 of the canonical JSON of everything else but `generation`, `hash` and each `born`.
    pub hash: String,
    /// Behaviour that is not part of any route.
    pub settings: Settings,
    /// Where payments are verified and settled. Absent only when no route is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facilitator: Option<Facilitator>,
    /// Every live metric tuple; options refer to them by index.
    pub tuples: Vec<Tuple>,
    /// Routes in matching order: the first that matches wins.
    pub routes: Vec<PushedRoute>,
    /// Prefixes and globs under which an unmatched path is refused (403) and never forwarded.
    pub protected: Vec<String>,
}

/// How a proxy reaches the facilitator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facilitator {
    /// Name of the Envoy cluster.
    pub cluster: String,
    /// `:authority` of the calls.
    pub authority: String,
    /// Path before `/verify` and `/settle`, without a trailing slash; may be empty.
    pub path_prefix: String,
    /// Deadline of `/verify`, milliseconds.
    pub verify_timeout_ms: u32,
    /// Deadline of `/settle`, milliseconds.
    pub settle_timeout_ms: u32,
    /// Whether its `/supported` kinds were loaded. While false every payment is answered 503. A relay knows that better,
    /// chain by chain, and is always ready.
    pub ready: bool,
    /// Whether it is the companion's relay, which keeps a ledger: it is told what is bought by whom, it may
    /// know of uses elsewhere, and it counts the money.
    pub relay: bool,
}

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Priced.
    Paid,
    /// Forwarded without payment.
    Free,
    /// Wallet sign-in, not supported yet: refused.
    Auth,
    /// Skipped at load: refused, so that its paths never reach the upstream.
    Blocked,
}

/// Where a route's public URL differs from the path the proxy sees (`hostname` in the pricing file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicPath {
    /// Public host.
    pub host: String,
    /// Internal prefix that the public path does not have; may be empty.
    pub drop_prefix: String,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushedRoute {
    /// Normalised pattern; see [`super::canonicalize`].
    pub pattern: String,
    /// What it asks for.
    pub gate: Gate,
    /// Offer labels, also of skipped and free routes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub offer_namespace: String,
    /// See `offer_namespace`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub offer_name: String,
    /// Ways to pay, the primary first. Non-empty exactly when `gate` is `paid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<PaymentOption>,
    /// How long a payment has to live on, seconds; absent where the margin of facilitators will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_remaining: Option<u64>,
    /// `resource.description`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// See [`PublicPath`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicPath>,
}

// === impl PushedRules ===

impl PushedRules {
    /// The same under a generation. `born` gives the birth of each tuple; one not in it was born in this
    /// generation.
    #[must_use]
    pub fn numbered(mut self, generation: u64, born: &BTreeMap<Tuple, u64>) -> Self {
        self.generation = generation;
        for tuple in &mut self.tuples {
            tuple.born = born.get(tuple).copied().unwrap_or(generation);
        }
        self
    }
}
