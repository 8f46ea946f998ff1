//! The operator's settings: `farebox.yaml`, overridden by flags. They say how the companion runs; the pricing file says
//! what is sold.

mod discovery;
mod facilitator;
mod facilitators;
mod file;
mod flags;
mod gateway;
mod ledger;
mod listen;
mod relay;
#[cfg(test)]
mod tests;
mod tls;
mod traefik;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use farebox_core::terms;

pub use discovery::DiscoverySettings;
pub use facilitator::FacilitatorSettings;
pub use facilitators::{Credential, Facilitators};
pub use file::{SettingsFile, Settlement};
pub use flags::Flags;
pub use gateway::GatewaySettings;
pub use ledger::ledger_url;
pub use listen::Listen;
pub use relay::RelaySettings;
pub use tls::TlsSettings;
pub use traefik::{Signature, SpoolSettings, TraefikSettings};

use listen::parse_address;

/// The checked settings of `farebox run`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The address of `/metrics`, `/healthz`, `/readyz` and `/status`.
    pub listen: SocketAddr,
    /// How long the companion serves after a signal to stop, while `/readyz` already answers 503.
    pub shutdown_delay: Duration,
    /// The pricing file.
    pub pricing: PathBuf,
    /// Whether the pricing file is reloaded when it changes.
    pub watch: bool,
    /// How proxies reach the facilitator.
    pub facilitator: FacilitatorSettings,
    /// The port for proxies, and the ledger; `None` if there are no proxies.
    pub relay: Option<RelaySettings>,
    /// The companion's own proxy.
    pub gateway: Option<GatewaySettings>,
    /// The behaviour of the filter apart from prices.
    pub filter: terms::Settings,
    /// Publishing rules for Envoy; `None` if there is none.
    pub envoy: Option<EnvoySettings>,
    /// Publishing rules for Traefik, and its plugin's counts; `None` if there is none.
    pub traefik: Option<TraefikSettings>,
}

/// The Envoys that enforce the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoySettings {
    /// Path of the filter's wasm file, as Envoy sees it.
    pub wasm: String,
    /// The file from which Envoy discovers its filter configuration. The companion reads this file at its start.
    pub publish: PathBuf,
    /// Serving rules over gRPC, too.
    pub discovery: Option<DiscoverySettings>,
}

/// Why the settings cannot be used. The text names the place and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// Default pricing file, where Kubernetes mounts it.
const DEFAULT_PRICING: &str = "/config/pricing.yaml";
/// On the loopback interface, because every caller can read offers and sales.
const DEFAULT_LISTEN: &str = "127.0.0.1:9402";
/// Long enough for load balancers and proxies to see that the companion stops.
const DEFAULT_SHUTDOWN_DELAY: Duration = Duration::from_secs(5);
/// The message about settings for reading statistics, which are gone.
const REPORTING: &str = "statistics are no longer read: each Envoy reports by itself, through its cluster `farebox`, \
                         which leads to relay.listen";
/// Longest `filter.clockSkewSeconds`.
pub const MAX_CLOCK_SKEW: u64 = 3_600;
/// Longest `shutdown.delay`.
const MAX_SHUTDOWN_DELAY: Duration = Duration::from_secs(600);

// === impl Settings ===

impl Settings {
    /// Joins a settings file with the flags; a flag wins.
    pub fn resolve(file: SettingsFile, flags: Flags) -> Result<Self, SettingsError> {
        refuse_unsupported_source(&flags.route_source)?;
        let facilitator =
            FacilitatorSettings::resolve(&file.facilitator, flags.facilitator.clone(), flags.settlement)?;
        let facilitators = Facilitators::resolve(file.facilitator, &facilitator)?;
        let relay = RelaySettings::resolve(file.relay, &flags, facilitators)?;
        let listen = flags.listen.or(file.listen);
        if !flags.proxy.is_empty() {
            return Err(SettingsError(format!("--proxy: remove it; {REPORTING}")));
        }
        let envoy = resolve_envoy(file.envoy, flags.envoy_wasm, flags.envoy_publish, flags.discovery)?;
        let (settlement, is_behind) = (facilitator.settlement, file.traefik.is_some());
        let gateway = GatewaySettings::resolve(file.gateway, flags.gateway, settlement, is_behind)?;
        let traefik = TraefikSettings::resolve(file.traefik, settlement)?;
        // Without proxies there are no calls and no payments to keep.
        let proxies = envoy.is_some() || gateway.is_some() || traefik.is_some();
        Ok(Self {
            listen: parse_address("listen", listen.as_deref().unwrap_or(DEFAULT_LISTEN))?,
            shutdown_delay: shutdown_delay(&file.shutdown)?,
            pricing: flags.pricing.or(file.pricing).unwrap_or_else(|| PathBuf::from(DEFAULT_PRICING)),
            watch: flags.watch.or(file.watch).unwrap_or(true),
            traefik,
            gateway,
            relay: proxies.then_some(relay),
            facilitator,
            filter: check_filter(file.filter)?,
            envoy,
        })
    }

    /// [`Self::filter`] for a push, with the longest time of an upstream, if it is known. It is not known for upstreams
    /// in Envoy's own configuration.
    pub fn pushed_filter(&self) -> terms::Settings {
        let upstream = self.gateway.as_ref().map_or(0, |gateway| gateway.response_timeout.as_secs());
        terms::Settings { upstream_timeout_seconds: Some(upstream), ..self.filter.clone() }
    }

    /// The relay's facilitators; `None` with `settlement: direct`.
    pub fn relayed(&self) -> Option<&Facilitators> {
        let relay = self.relay.as_ref().filter(|_| self.facilitator.settlement == Settlement::Relay);
        relay.map(|relay| &relay.facilitators)
    }

    /// The options for loading the pricing file.
    pub fn loading(&self) -> farebox_pricing::LoadOptions {
        let chains = self.relayed().map(|facilitators| facilitators.chains.keys().cloned().collect());
        farebox_pricing::LoadOptions {
            facilitator_url: self.facilitator.url.clone(),
            served_elsewhere: chains.unwrap_or_default(),
            plain_http: self.facilitator.allow_plain_http,
            settle_timeout: self.facilitator.settle_timeout.as_secs(),
            replay_horizon: self.filter.replay_horizon_seconds,
        }
    }

    /// Reads the settings file the flags name, or `farebox.yaml` in the working directory if there is one.
    pub fn load(flags: Flags) -> Result<Self, SettingsError> {
        Self::resolve(read_file(flags.settings.clone())?, flags)
    }

    /// The ledger's URL, from this settings file or from the one that [`Self::load`] reads.
    pub fn ledger(settings: Option<PathBuf>) -> Result<String, SettingsError> {
        let file = read_file(settings)?;
        ledger_url(file.relay.ledger.as_deref().unwrap_or(relay::DEFAULT_LEDGER))
    }
}

fn read_file(named: Option<PathBuf>) -> Result<SettingsFile, SettingsError> {
    let default = PathBuf::from("farebox.yaml");
    let path = named.or_else(|| default.exists().then_some(default));
    path.map_or_else(|| Ok(SettingsFile::default()), |path| SettingsFile::read(&path))
}

fn refuse_unsupported_source(source: &str) -> Result<(), SettingsError> {
    match source {
        "file" => Ok(()),
        "kube" => {
            Err(SettingsError("--route-source kube is not supported yet; use --route-source file".into()))
        }
        other => Err(SettingsError(format!("--route-source {other} is unknown; use --route-source file"))),
    }
}

/// Longest name of a proxy or a companion.
pub(crate) const MAX_NAME: usize = 63;

/// Checks a name; `what` begins the error.
fn check_name(what: &str, name: &str) -> Result<(), SettingsError> {
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(SettingsError(format!("{what} `{name}` is not 1 to {MAX_NAME} printable characters")))
}

fn shutdown_delay(file: &file::Shutdown) -> Result<Duration, SettingsError> {
    let delay = file.delay.map_or(DEFAULT_SHUTDOWN_DELAY, |span| span.0);
    if delay > MAX_SHUTDOWN_DELAY {
        return Err(SettingsError("shutdown.delay: must be at most 10m".into()));
    }
    Ok(delay)
}

fn check_filter(mut filter: terms::Settings) -> Result<terms::Settings, SettingsError> {
    if !(1024..=1024 * 1024).contains(&filter.max_payment_bytes) {
        return Err(SettingsError(format!(
            "filter.maxPaymentBytes: {} is outside 1024 to 1048576",
            filter.max_payment_bytes
        )));
    }
    if filter.clock_skew_seconds > MAX_CLOCK_SKEW {
        return Err(SettingsError(format!(
            "filter.clockSkewSeconds: {} is above {MAX_CLOCK_SKEW}; a machine whose clock is further off needs another clock",
            filter.clock_skew_seconds
        )));
    }
    if filter.public_facilitator.is_some() {
        return Err(SettingsError(
            "filter.publicFacilitator: remove it; challenges name the facilitator in use, if its host is public".into(),
        ));
    }
    if let Some(catalog) = &mut filter.catalog {
        *catalog = percent_encoded(catalog)?;
    }
    if let Some(cors) = &filter.cors {
        check_cors(cors)?;
    }
    Ok(filter)
}

/// Encodes the target of a `Link` header: every character that a URL must not have is percent-encoded.
fn percent_encoded(catalog: &str) -> Result<String, SettingsError> {
    if catalog.chars().any(char::is_control) {
        return Err(SettingsError("filter.catalog: must be a URL or a path on one line".into()));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    let encoded = catalog.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    Ok(encoded.collect())
}

fn check_cors(cors: &terms::Cors) -> Result<(), SettingsError> {
    if cors.origins.is_empty() {
        return Err(SettingsError(
            "filter.cors.origins: is empty; name the pages that may buy, or `*`".into(),
        ));
    }
    for origin in &cors.origins {
        let all = origin == "*";
        if all && cors.credentials {
            return Err(SettingsError(
                "filter.cors.credentials: not for every page (`*`); name the origins that may send cookies"
                    .into(),
            ));
        }
        let plain = farebox_pricing::HttpUrl::parse(origin)
            .is_ok_and(|url| url.to_string() == *origin && url.path.is_empty());
        if !all && !plain {
            return Err(SettingsError(format!(
                "filter.cors.origins: `{origin}` is not an origin as browsers send it, such as https://app.example: \
                 scheme and host in lower case, a port if it is not the usual one, no path"
            )));
        }
    }
    Ok(())
}

fn resolve_envoy(
    file: Option<file::Envoy>,
    wasm: Option<String>,
    publish: Option<PathBuf>,
    discovery: flags::Discovery,
) -> Result<Option<EnvoySettings>, SettingsError> {
    if file.is_none() && wasm.is_none() && publish.is_none() && discovery.is_empty() {
        return Ok(None);
    }
    let missing = |what| SettingsError(format!("{what} is missing: without it nothing reaches Envoy"));
    let file = file.unwrap_or_default();
    for (key, is_set) in
        [("proxies", file.proxies.is_some()), ("scrapeInterval", file.scrape_interval.is_some())]
    {
        if is_set {
            return Err(SettingsError(format!("envoy.{key}: remove it; {REPORTING}")));
        }
    }
    let discovery = DiscoverySettings::resolve(file.discovery, discovery)?;
    Ok(Some(EnvoySettings {
        wasm: wasm.or(file.wasm).ok_or_else(|| missing("envoy.wasm (or --envoy-wasm)"))?,
        publish: publish.or(file.publish).ok_or_else(|| missing("envoy.publish (or --envoy-publish)"))?,
        discovery,
    }))
}
