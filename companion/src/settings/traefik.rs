//! The Traefiks that enforce the rules.

use std::path::PathBuf;

use farebox_pricing::HttpUrl;
use serde::{Deserialize, Serialize};

use super::{SettingsError, Settlement, file};

/// The `traefik:` section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraefikSettings {
    /// Entry points that sell.
    pub entry_points: Vec<String>,
    /// Address of the gateway for Traefik.
    pub gateway: HttpUrl,
    /// Upstream of free routes without an `upstreamURL`; without it these go to the gateway.
    pub upstream: Option<HttpUrl>,
    /// A file in a folder that Traefik watches; `None` writes none.
    pub publish: Option<PathBuf>,
    /// Whether `GET /traefik` serves the configuration for Traefik's HTTP provider.
    pub http: bool,
    /// Which program checks signatures first.
    pub signature: Signature,
    /// Requests that each router with the plugin may have in flight. Each request has its own instance of the
    /// plugin.
    pub requests_in_flight: u64,
    /// The plugin's spool.
    pub spool: SpoolSettings,
    /// Base URL of Traefik's API, no trailing slash; without it only the spool confirms a push.
    pub api: Option<String>,
}

/// `traefik.signature`. The gateway checks every payment again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// The plugin, so that a forgery costs the gateway nothing.
    #[default]
    Guest,
    /// The gateway alone, which is several times quicker at it.
    Gateway,
}

/// `traefik.spool`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The folder with the spools of all Traefiks, as the companion sees it. Each file in it and in its
    /// subfolders is one.
    pub folder: PathBuf,
    /// The spool of a Traefik, as its plugin sees it.
    pub file: String,
    /// Nothing is written to a spool beyond this size.
    pub max_bytes: u64,
}

/// As many instances take some hundred megabytes.
const DEFAULT_IN_FLIGHT: u64 = 1_000;
const DEFAULT_ENTRY_POINT: &str = "web";
const DEFAULT_SPOOL_FILE: &str = "/spool/farebox";
const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Less would be full between two readings.
const MIN_MAX_BYTES: u64 = 1024 * 1024;

// === impl TraefikSettings ===

impl TraefikSettings {
    /// Checks the section, if there is one. Challenges and refusals are counted through the ledger's database.
    pub(super) fn resolve(
        file: Option<file::Traefik>,
        settlement: Settlement,
    ) -> Result<Option<Self>, SettingsError> {
        let Some(file) = file else { return Ok(None) };
        if settlement != Settlement::Relay {
            return Err(SettingsError(
                "traefik: needs the ledger, where paid requests are settled and counted; set \
                 facilitator.settlement: relay"
                    .into(),
            ));
        }
        let entry_points = file.entry_points.unwrap_or_else(|| vec![DEFAULT_ENTRY_POINT.to_owned()]);
        if entry_points.is_empty() || entry_points.iter().any(String::is_empty) {
            return Err(SettingsError("traefik.entryPoints: name at least one entry point".into()));
        }
        let gateway = file.gateway.ok_or_else(|| {
            SettingsError("traefik.gateway is missing: paid requests have nowhere to go".into())
        })?;
        if let Some(publish) = &file.publish
            && !publish.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            return Err(SettingsError(format!(
                "traefik.publish: {} must end in .yaml, or Traefik does not read it",
                publish.display()
            )));
        }
        let http = file.http.unwrap_or_else(|| file.publish.is_none());
        if !http && file.publish.is_none() {
            return Err(SettingsError(
                "traefik: with http: false and no `publish` nothing reaches Traefik".into(),
            ));
        }
        let requests_in_flight = file.requests_in_flight.unwrap_or(DEFAULT_IN_FLIGHT);
        if requests_in_flight == 0 {
            return Err(SettingsError("traefik.requestsInFlight: 0 would serve nothing".into()));
        }
        Ok(Some(Self {
            entry_points,
            gateway: server("gateway", &gateway)?,
            upstream: file.upstream.map(|url| server("upstream", &url)).transpose()?,
            publish: file.publish,
            http,
            signature: file.signature,
            requests_in_flight,
            spool: SpoolSettings::resolve(file.spool)?,
            api: file.api.map(|url| base("api", &url)).transpose()?,
        }))
    }
}

// === impl SpoolSettings ===

impl SpoolSettings {
    fn resolve(file: file::Spool) -> Result<Self, SettingsError> {
        let folder = file.folder.ok_or_else(|| {
            SettingsError(
                "traefik.spool.folder is missing: what the plugin answers would not be counted".into(),
            )
        })?;
        let spool = file.file.unwrap_or_else(|| DEFAULT_SPOOL_FILE.to_owned());
        if !spool.starts_with('/') || spool.ends_with(['/', '~']) {
            return Err(SettingsError(format!(
                "traefik.spool.file: `{spool}` is not the path of a file as the plugin sees it, such as \
                 {DEFAULT_SPOOL_FILE}"
            )));
        }
        let max_bytes = file.max_bytes.unwrap_or(DEFAULT_MAX_BYTES);
        if max_bytes < MIN_MAX_BYTES {
            return Err(SettingsError(format!(
                "traefik.spool.maxBytes: {max_bytes} is below {MIN_MAX_BYTES}, which may fill up between two readings"
            )));
        }
        Ok(Self { folder, file: spool, max_bytes })
    }
}

/// An address Traefik sends requests to: it ignores a path in it.
fn server(key: &str, url: &str) -> Result<HttpUrl, SettingsError> {
    let parsed = HttpUrl::parse(url).map_err(|error| SettingsError(format!("traefik.{key} {error}")))?;
    if parsed.path.is_empty() {
        return Ok(parsed);
    }
    Err(SettingsError(format!("traefik.{key}: must have no path, Traefik would ignore it")))
}

fn base(key: &str, url: &str) -> Result<String, SettingsError> {
    HttpUrl::parse(url).map_err(|error| SettingsError(format!("traefik.{key} {error}")))?;
    Ok(url.trim_end_matches('/').to_owned())
}
