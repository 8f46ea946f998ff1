//! The compiled rules as JSON: what the companion pushes as plugin config. Nothing secret is in it.
//! `read` is the other direction of the derived writers here.

use super::Extra;
use crate::evm::{Address, Amount, Network, TransferMethod};
use serde::{Deserialize, Serialize};
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

/// Operator settings a proxy needs. Every member has a default, so old pushes stay readable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// What happens to a path no route matches, outside the protected set.
    pub unmatched: Unmatched,
    /// Body of the 402. Buyers of v2 read the header, so a v1 body serves both.
    pub body: BodyVersion,
    /// Follow each body entry with a copy carrying the legacy network name.
    pub legacy_networks: bool,
    /// Cap on an encoded payment header, bytes.
    pub max_payment_bytes: usize,
    /// Refuse payments that arrive over plaintext from a public peer.
    pub require_secure_transport: bool,
    /// Believe `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix`.
    pub trust_forwarded: bool,
    /// See [`crate::protocol::CheckPolicy::defer_mismatch`].
    pub defer_mismatching_signature: bool,
    /// See [`crate::protocol::CheckPolicy::defer_undecidable`].
    pub defer_undecidable_signature: bool,
    /// See [`crate::protocol::CheckPolicy::strict_recovery_byte`].
    pub strict_recovery_byte: bool,
    /// Tolerance for clocks, seconds.
    pub clock_skew_seconds: u64,
    /// Longest time a used authorization is remembered, seconds. Later replays are the facilitator's to
    /// refuse; an `upfront` route refuses authorizations that live longer.
    pub replay_horizon_seconds: u64,
    /// Send facilitators only `x402Version`, `accepted` and `payload`.
    pub minimal_payload: bool,
    /// URL of the facilitator named in challenges; set only when its host is public.
    pub public_facilitator: Option<String>,
    /// Target of the `Link: <…>; rel="catalog"` header.
    pub catalog: Option<String>,
    /// How long an upstream may take to its answer, seconds, as far as whoever pushes knows. Not part of a push.
    #[serde(skip)]
    pub upstream_timeout_seconds: Option<u64>,
    /// Pages of other origins that may buy. Without it nothing is allowed to a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// See [`Settings::cors`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cors {
    /// `https://app.example` each, as browsers send it, or `*` for all.
    pub origins: Vec<String>,
    /// Pages may send cookies and read what came of them. Not with `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight, seconds.
    #[serde(default = "default_max_age")]
    pub max_age: u32,
}

/// What all browsers keep to.
pub(super) const fn default_max_age() -> u32 {
    600
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            unmatched: Unmatched::Deny,
            body: BodyVersion::V1,
            legacy_networks: true,
            max_payment_bytes: 48 * 1024,
            require_secure_transport: false,
            trust_forwarded: false,
            defer_mismatching_signature: false,
            defer_undecidable_signature: true,
            strict_recovery_byte: false,
            clock_skew_seconds: 0,
            replay_horizon_seconds: 90_000,
            minimal_payload: false,
            public_facilitator: None,
            catalog: None,
            upstream_timeout_seconds: None,
            cors: None,
        }
    }
}

/// See [`Settings::unmatched`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unmatched {
    /// 404.
    Deny,
    /// Forwarded, with forged identity headers stripped.
    Pass,
}

/// See [`Settings::body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyVersion {
    /// `{x402Version: 2, …}`.
    V2,
    /// `{x402Version: 1, error, accepts}` of the options v1 can express, else v2.
    V1,
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

/// Labels of a T series and when its present life began.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuple {
    /// `offer_namespace`, may be empty.
    pub offer_namespace: String,
    /// `offer_name`, may be empty.
    pub offer_name: String,
    /// Resolved CAIP-2 id.
    pub chain: String,
    /// Symbol of the resolved asset.
    pub asset_symbol: String,
    /// Generation in which the tuple (re)entered the keep-set; 0 for the first load after a start.
    pub born: u64,
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

/// When settlement happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// verify → upstream → settle.
    #[default]
    Authorization,
    /// settle → upstream.
    Upfront,
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

/// One way to pay a route: our own requirement, fully resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentOption {
    /// Index into [`PushedRules::tuples`].
    pub tuple: usize,
    /// CAIP-2 id.
    pub network: Network,
    /// v1 name of the network; absent where v1 cannot express the option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1_network: Option<String>,
    /// The facilitator lists the v1 kind of this option, so a v1 payment is sent on as v1.
    pub v1_kind: bool,
    /// Atomic units.
    pub amount: Amount,
    /// Token contract.
    pub asset: Address,
    /// Decimals of the asset, for people only.
    pub decimals: u8,
    /// Recipient.
    pub pay_to: Address,
    /// Seconds.
    pub max_timeout_seconds: u64,
    /// When it settles.
    pub flow: Flow,
    /// How the asset moves.
    pub transfer_method: TransferMethod,
    /// EIP-712 domain name of the token; in `extra` on the wire.
    pub eip712_name: String,
    /// EIP-712 domain version of the token; in `extra` on the wire.
    pub eip712_version: String,
    /// The asset can be permitted without gas: the challenge carries `eip2612GasSponsoring`.
    pub gas_sponsoring: bool,
    /// Further members of `extra` (agentSkills, agentRuntime).
    #[serde(skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra,
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

/// Whether a text can be the value of a metric label: short, printable, and readable back from the
/// name of a series, where `;.;` ends a value.
pub(super) fn is_label(text: &str) -> bool {
    const END: &[u8] = b";.;";
    text.len() <= 253
        && !text.contains(char::is_control)
        && [text.as_bytes(), END].concat().windows(END.len()).position(|window| window == END)
            == Some(text.len())
}
