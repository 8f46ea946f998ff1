//! The operator's settings for all routes. The companion reads them from `farebox.yaml` by the derived readers; a
//! proxy reads them from a push.

use serde::{Deserialize, Serialize};

/// Operator settings a proxy needs. Every member has a default, so old pushes stay readable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// What happens to a path that no route matches, outside the prefixes of paid routes.
    pub unmatched: Unmatched,
    /// Body of the 402. Buyers of v2 read the header, so a v1 body serves both.
    pub body: BodyVersion,
    /// Add after each body entry a copy with the legacy network name.
    pub legacy_networks: bool,
    /// Cap on an encoded payment header, bytes.
    pub max_payment_bytes: usize,
    /// Refuse payments that arrive over plaintext from a public peer.
    pub require_secure_transport: bool,
    /// Trust `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix`.
    pub trust_forwarded: bool,
    /// See [`crate::protocol::CheckPolicy::defer_mismatch`].
    pub defer_mismatching_signature: bool,
    /// See [`crate::protocol::CheckPolicy::defer_undecidable`].
    pub defer_undecidable_signature: bool,
    /// See [`crate::protocol::CheckPolicy::strict_recovery_byte`].
    pub strict_recovery_byte: bool,
    /// Tolerance for clocks, seconds.
    pub clock_skew_seconds: u64,
    /// Longest time for which a used authorization is remembered, seconds. `upfront` routes, and proxies that settle by
    /// themselves, refuse authorizations that end later than that.
    pub replay_horizon_seconds: u64,
    /// Send facilitators only `x402Version`, `accepted` and `payload`.
    pub minimal_payload: bool,
    /// URL of the facilitator named in challenges; set only when its host is public.
    pub public_facilitator: Option<String>,
    /// Target of the `Link: <…>; rel="catalog"` header.
    pub catalog: Option<String>,
    /// Longest time of an upstream until its answer, seconds, if the companion knows it. Not part of a push.
    #[serde(skip)]
    pub upstream_timeout_seconds: Option<u64>,
    /// Origins of web pages that may buy. Without it no page of another origin may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// See [`Settings::cors`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cors {
    /// `https://app.example` each, as browsers send it, or `*` for all.
    pub origins: Vec<String>,
    /// Pages may send cookies, and read the answers to such requests. Not possible with `*`.
    #[serde(default)]
    pub credentials: bool,
    /// How long a browser may remember the answer to a preflight, seconds.
    #[serde(default = "default_max_age")]
    pub max_age: u32,
}

/// The default of [`Cors::max_age`]: every browser accepts it.
pub(crate) const fn default_max_age() -> u32 {
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
