//! How proxies reach the facilitator.

use std::time::Duration;

use farebox_core::protocol::COMPANION_CLUSTER;
use farebox_core::rules::Facilitator;
use farebox_pricing::HttpUrl;

use super::{SettingsError, Settlement, file};

/// The `facilitator:` section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacilitatorSettings {
    /// Replaces the pricing file's `facilitatorURL`; no trailing slash.
    pub url: Option<String>,
    /// A facilitator on another machine may be called without TLS.
    pub allow_plain_http: bool,
    /// Name of the Envoy cluster of the facilitator.
    pub cluster: String,
    /// Deadline of `/verify`.
    pub verify_timeout: Duration,
    /// Deadline of `/settle`.
    pub settle_timeout: Duration,
    /// Which program calls it.
    pub settlement: Settlement,
}

const DEFAULT_CLUSTER: &str = "facilitator";
/// Time for the relay beyond the facilitator's: for its ledger and the network.
const RELAY_SLACK: Duration = Duration::from_secs(2);
const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest deadline, because a buyer waits meanwhile.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);

// === impl FacilitatorSettings ===

impl FacilitatorSettings {
    pub(super) fn resolve(
        file: &file::Facilitator,
        flag: Option<String>,
        settlement: Option<Settlement>,
    ) -> Result<Self, SettingsError> {
        let settlement = settlement.or(file.settlement).unwrap_or_default();
        let default_cluster = match settlement {
            Settlement::Direct => DEFAULT_CLUSTER,
            Settlement::Relay => COMPANION_CLUSTER,
        };
        if settlement == Settlement::Direct && file.cluster.as_deref() == Some(COMPANION_CLUSTER) {
            return Err(SettingsError(format!(
                "facilitator.cluster: `{COMPANION_CLUSTER}` leads to this companion, and with `settlement: direct` proxies \
                 call the facilitator: remove the key, or name its cluster"
            )));
        }
        let url = flag.or_else(|| file.url.clone()).map(|url| url.trim_end_matches('/').to_owned());
        let settings = Self {
            url,
            allow_plain_http: file.allow_plain_http,
            cluster: file.cluster.clone().unwrap_or_else(|| default_cluster.to_owned()),
            verify_timeout: deadline("verifyTimeout", file.verify_timeout, DEFAULT_VERIFY_TIMEOUT)?,
            settle_timeout: deadline("settleTimeout", file.settle_timeout, DEFAULT_SETTLE_TIMEOUT)?,
            settlement,
        };
        if let Some(url) = &settings.url {
            settings
                .endpoint(Some(url), false)
                .map_err(|error| SettingsError(format!("facilitator.url {error}")))?;
        }
        Ok(settings)
    }

    /// The facilitator for a push, at `url`; without a URL nothing is sold. With `settlement: direct`, `ready` says
    /// whether payments can be verified. The error completes a sentence whose subject is the address.
    pub fn endpoint(&self, url: Option<&str>, ready: bool) -> Result<Facilitator, String> {
        let url = url.map(|url| self.checked(url)).transpose()?;
        if self.settlement == Settlement::Relay {
            return Ok(Facilitator {
                cluster: self.cluster.clone(),
                authority: COMPANION_CLUSTER.to_owned(),
                path_prefix: String::new(),
                verify_timeout_ms: millis(self.verify_timeout + RELAY_SLACK),
                settle_timeout_ms: millis(self.settle_timeout + RELAY_SLACK),
                // The relay decides for each chain when a payment comes.
                ready: true,
                relay: true,
            });
        }
        Ok(Facilitator {
            cluster: self.cluster.clone(),
            authority: url.as_ref().map_or_else(|| self.cluster.clone(), HttpUrl::authority),
            ready: ready && url.is_some(),
            path_prefix: url.map(|url| url.path).unwrap_or_default(),
            verify_timeout_ms: millis(self.verify_timeout),
            settle_timeout_ms: millis(self.settle_timeout),
            relay: false,
        })
    }

    /// Checks the address of a facilitator. The error completes a sentence whose subject is the address.
    pub(super) fn checked(&self, url: &str) -> Result<HttpUrl, String> {
        let url = HttpUrl::parse(url).map_err(|error| error.to_string())?;
        if !url.https && !self.allow_plain_http && !url.is_local() {
            return Err(format!(
                "must start with https://, as {} is not this machine, or set facilitator.allowPlainHttp: an \
                 attacker on the network can then decide which payments count as settled",
                url.host
            ));
        }
        Ok(url)
    }
}

fn deadline(key: &str, set: Option<file::Span>, default: Duration) -> Result<Duration, SettingsError> {
    let value = set.map_or(default, |span| span.0);
    if value.is_zero() || value > MAX_TIMEOUT {
        return Err(SettingsError(format!("facilitator.{key}: must be above 0 and at most 10m")));
    }
    Ok(value)
}

/// The conversion loses nothing, because deadlines are at most [`MAX_TIMEOUT`].
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
