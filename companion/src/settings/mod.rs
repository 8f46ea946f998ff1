//! What the operator set: `farebox.yaml`, overridden by flags. Separate from the pricing file, which says
//! what is sold; this says how the companion runs.

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

/// Everything `farebox run` needs to know, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where `/metrics`, `/healthz`, `/readyz` and `/status` are served.
    pub listen: SocketAddr,
    /// How long the companion goes on after a signal to stop, while `/readyz` says so already.
    pub shutdown_delay: Duration,
    /// The pricing file.
    pub pricing: PathBuf,
    /// Whether the pricing file is reloaded when it changes.
    pub watch: bool,
    /// How proxies reach the facilitator.
    pub facilitator: FacilitatorSettings,
    /// Where proxies call the companion, and its ledger; `None` if there are no proxies.
    pub relay: Option<RelaySettings>,
    /// A proxy of the companion's own.
    pub gateway: Option<GatewaySettings>,
    /// What the filter does apart from prices.
    pub filter: terms::Settings,
    /// Where rules are published for Envoy; `None` publishes nowhere.
    pub envoy: Option<EnvoySettings>,
    /// Where rules are published for Traefik, and where its plugin counts; `None` publishes nowhere.
    pub traefik: Option<TraefikSettings>,
}

/// The Envoys that enforce the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoySettings {
    /// Path of the filter's wasm file, as Envoy sees it.
    pub wasm: String,
    /// The file Envoy discovers its filter configuration from. The companion reads it back when it starts.
    pub publish: PathBuf,
    /// Where rules are served over gRPC besides.
    pub discovery: Option<DiscoverySettings>,
}

/// Why the settings cannot be used. The text names the place and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// Default pricing file, where Kubernetes mounts it.
const DEFAULT_PRICING: &str = "/config/pricing.yaml";
/// Whoever reaches it reads what is sold, and to how many.
const DEFAULT_LISTEN: &str = "127.0.0.1:9402";
/// Load balancers and proxies notice within it that the companion is to get nothing new.
const DEFAULT_SHUTDOWN_DELAY: Duration = Duration::from_secs(5);
/// What stands in the place of reading statistics.
const REPORTING: &str = "nobody reads statistics any more: each Envoy reports by itself, through its cluster `farebox`, \
                         which leads to relay.listen";
/// Longest of it.
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
        // Without proxies nobody calls the companion, and nothing is to be kept.
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

    /// [`Self::filter`] as it is pushed: with how long an upstream may take, as far as it is known here. In front of an
    /// upstream of Envoy's own it is not.
    pub fn pushed_filter(&self) -> terms::Settings {
        let upstream = self.gateway.as_ref().map_or(0, |gateway| gateway.response_timeout.as_secs());
        terms::Settings { upstream_timeout_seconds: Some(upstream), ..self.filter.clone() }
    }

    /// Whom the relay calls; `None` where proxies call the facilitator themselves.
    pub fn relayed(&self) -> Option<&Facilitators> {
        let relay = self.relay.as_ref().filter(|_| self.facilitator.settlement == Settlement::Relay);
        relay.map(|relay| &relay.facilitators)
    }

    /// How the pricing file is loaded.
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

    /// Where the ledger is, by this settings file or the one that [`Self::load`] reads.
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

/// The target of a `Link` header as it may stand there: everything but what a URL is made of is encoded.
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
