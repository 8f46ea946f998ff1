//! `GET /supported`: the payment kinds a facilitator can verify and settle.

use std::collections::BTreeSet;

/// One kind of a `/supported` reply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SupportedKind {
    /// Protocol version of the kind: 1 or 2.
    pub x402_version: u64,
    /// Payment scheme, e.g. `exact`.
    pub scheme: String,
    /// Network as listed: CAIP-2 in version 2, a name in version 1.
    pub network: String,
}

/// The kinds of one facilitator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supported {
    /// Distinct kinds, sorted.
    pub kinds: BTreeSet<SupportedKind>,
}

/// Why the kinds could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SupportedError(pub String);

impl Supported {
    /// CAIP-2 ids of the networks for which the version 1 kind of scheme `exact` is listed.
    pub fn v1_networks(&self) -> BTreeSet<String> {
        self.kinds
            .iter()
            .filter(|kind| kind.x402_version == 1 && kind.scheme == "exact")
            .filter_map(|kind| farebox_core::evm::chain_by_name(&kind.network))
            .map(|network| network.as_str().to_owned())
            .collect()
    }
}

/// Loads the kinds of the facilitator at `url` (no trailing slash). Redirects are not followed and the
/// reply's size is bounded by the client's caller.
pub async fn fetch(client: &reqwest::Client, url: &str) -> Result<Supported, SupportedError> {
    let _ = client;
    Err(SupportedError(format!("{url}/supported cannot be read yet")))
}
