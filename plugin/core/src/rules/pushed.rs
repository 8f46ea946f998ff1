//! The rules as JSON: the companion pushes them as plugin config. They hold no secret. `read` is the reader for the
//! derived writers in this file.

use crate::terms::{PaymentOption, Settings, Tuple};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of this format. A filter refuses a push of another format, so that the host keeps the last good rules.
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
    /// Settings for all routes.
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
    /// Whether its `/supported` kinds were loaded. While false, every payment is answered 503. Always true for a relay,
    /// which knows the kinds of each chain itself.
    pub ready: bool,
    /// Whether this is the companion's relay, which keeps a ledger. Calls to a relay name offer and proxy, the relay may
    /// know uses at other proxies, and its ledger counts the money.
    pub relay: bool,
}

/// Whether a route wants a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Priced.
    Paid,
    /// Forwarded without payment.
    Free,
    /// Wallet sign-in, which is not supported: refused.
    Auth,
    /// Skipped at load: refused, so that its paths never reach the upstream.
    Blocked,
}

/// The public URL of a route, if it differs from the path at the proxy (`hostname` in the pricing file).
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
    /// Whether the route wants a payment.
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
    /// Least remaining window of a payment, seconds; absent if the margin of facilitators is enough.
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
    /// The same rules with a generation. `born` has the birth of each known tuple; other tuples are born in this
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
