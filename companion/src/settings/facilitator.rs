//! How proxies reach the facilitator, and which facilitator addresses are acceptable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use farebox_core::rules::Facilitator;
use reqwest::Url;

use super::{SettingsError, file};

/// The `facilitator:` section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacilitatorSettings {
    /// Replaces the pricing file's `facilitatorURL`; no trailing slash.
    pub url: Option<String>,
    /// Name of the Envoy cluster that leads there.
    pub cluster: String,
    /// Deadline of `/verify`.
    pub verify_timeout: Duration,
    /// Deadline of `/settle`.
    pub settle_timeout: Duration,
}

const DEFAULT_CLUSTER: &str = "facilitator";
const DEFAULT_VERIFY_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest deadline that makes sense while a buyer waits.
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Hosts a facilitator may have without TLS, as the pricing file rules have them.
const PLAIN_HOSTS: [&str; 5] =
    ["localhost", "127.0.0.1", "[::1]", "host.k3d.internal", "host.docker.internal"];

// === impl FacilitatorSettings ===

impl FacilitatorSettings {
    pub(super) fn resolve(file: file::Facilitator, flag: Option<String>) -> Result<Self, SettingsError> {
        let url = flag.or(file.url).map(|url| url.trim_end_matches('/').to_owned());
        let settings = Self {
            url,
            cluster: file.cluster.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned()),
            verify_timeout: deadline("verifyTimeout", file.verify_timeout, DEFAULT_VERIFY_TIMEOUT)?,
            settle_timeout: deadline("settleTimeout", file.settle_timeout, DEFAULT_SETTLE_TIMEOUT)?,
        };
        if let Some(url) = &settings.url {
            settings
                .endpoint(url, false)
                .map_err(|error| SettingsError(format!("facilitator.url: {error}")))?;
        }
        Ok(settings)
    }

    /// What a proxy needs to call the facilitator at `url`. An address with a user, password or query is
    /// refused: what is pushed to a proxy can be read there, so it must hold no secret.
    pub fn endpoint(&self, url: &str, ready: bool) -> Result<Facilitator, SettingsError> {
        let wrong = |why: &str| SettingsError(format!("the facilitator address {why}"));
        let parsed = Url::parse(url).map_err(|_| wrong("is not a URL"))?;
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
        match parsed.scheme() {
            "https" => {}
            "http" if PLAIN_HOSTS.contains(&host) => {}
            "http" => return Err(wrong(&format!("must use https, as {host} is not this machine"))),
            _ => return Err(wrong("must start with https://")),
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong("must not hold a user or password"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(wrong("must not hold a query or fragment"));
        }
        Ok(Facilitator {
            cluster: self.cluster.clone(),
            authority: parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            path_prefix: parsed.path().trim_end_matches('/').to_owned(),
            verify_timeout_ms: millis(self.verify_timeout),
            settle_timeout_ms: millis(self.settle_timeout),
            ready,
        })
    }
}

fn deadline(key: &str, set: Option<file::Span>, default: Duration) -> Result<Duration, SettingsError> {
    let value = set.map_or(default, |span| span.0);
    if value.is_zero() || value > MAX_TIMEOUT {
        return Err(SettingsError(format!("facilitator.{key}: must be above 0 and at most 10m")));
    }
    Ok(value)
}

/// Deadlines are bounded by [`MAX_TIMEOUT`], so nothing is cut.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The facilitator's address if buyers may know it: its host is public, not this machine or a private network.
pub fn public_facilitator(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let host = parsed.host_str()?.trim_end_matches('.');
    let public = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => is_public_v4(address),
        Ok(IpAddr::V6(address)) => {
            address.to_ipv4_mapped().map_or_else(|| is_public_v6(address), is_public_v4)
        }
        Err(_) => {
            host != "localhost"
                && ![".localhost", ".local", ".internal"].iter().any(|suffix| host.ends_with(suffix))
        }
    };
    public.then(|| url.to_owned())
}

const fn is_public_v4(address: Ipv4Addr) -> bool {
    !(address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified())
}

const fn is_public_v6(address: Ipv6Addr) -> bool {
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_unique_local())
}
