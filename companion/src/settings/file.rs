//! The keys of `farebox.yaml`. Unknown and repeated keys are errors, with the line and the most similar key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farebox_core::terms;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::ledger::anchored;
use super::{SettingsError, Signature};
use crate::paths::folder_of;

/// The settings file; see `farebox.example.yaml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SettingsFile {
    pub(super) listen: Option<String>,
    pub(super) shutdown: Shutdown,
    pub(super) pricing: Option<PathBuf>,
    pub(super) watch: Option<bool>,
    pub(super) facilitator: Facilitator,
    pub(super) relay: Relay,
    pub(super) gateway: Option<Gateway>,
    pub(super) filter: terms::Settings,
    pub(super) envoy: Option<Envoy>,
    pub(super) traefik: Option<Traefik>,
}

/// `shutdown:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Shutdown {
    pub(super) delay: Option<Span>,
}

/// `facilitator:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Facilitator {
    pub(super) url: Option<String>,
    pub(super) allow_plain_http: bool,
    pub(super) fallback_urls: Vec<String>,
    pub(super) chains: BTreeMap<String, Chain>,
    pub(super) credentials: BTreeMap<String, Credential>,
    pub(super) cluster: Option<String>,
    pub(super) verify_timeout: Option<Span>,
    pub(super) settle_timeout: Option<Span>,
    pub(super) settlement: Option<Settlement>,
}

/// An entry of `facilitator.chains`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Chain {
    pub(super) urls: Vec<String>,
}

/// An entry of `facilitator.credentials`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Credential {
    pub(super) bearer: Option<PathBuf>,
    pub(super) jwt: Option<PathBuf>,
}

/// `facilitator.settlement`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Settlement {
    /// Proxies call the companion, whose ledger keeps and counts the money.
    #[default]
    Relay,
    /// Proxies call the facilitator, and count the money.
    Direct,
}

// === impl Settlement ===

impl std::fmt::Display for Settlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Relay => "relay",
            Self::Direct => "direct",
        })
    }
}

/// `relay:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Relay {
    pub(super) listen: Option<String>,
    pub(super) tls: Tls,
    pub(super) secret: Option<PathBuf>,
    pub(super) ledger: Option<String>,
    pub(super) companion: Option<String>,
    pub(super) retention: Option<Span>,
}

/// `gateway:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Gateway {
    pub(super) listen: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) upstream_protocol: UpstreamProtocol,
    pub(super) preserve_host: Option<bool>,
    pub(super) connect_timeout: Option<Span>,
    pub(super) response_timeout: Option<Span>,
    pub(super) idle_timeout: Option<Span>,
    pub(super) grace: Option<Span>,
    /// An earlier setting: where the gateway counted.
    pub(super) spool: Option<PathBuf>,
}

/// `gateway.upstreamProtocol`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum UpstreamProtocol {
    #[default]
    Http1,
    Http2,
}

/// `envoy:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Envoy {
    pub(super) wasm: Option<String>,
    pub(super) publish: Option<PathBuf>,
    pub(super) discovery: Option<Discovery>,
    /// An earlier setting: the Envoys from which to read statistics.
    pub(super) proxies: Option<IgnoredAny>,
    /// An earlier setting: how often to read them.
    pub(super) scrape_interval: Option<IgnoredAny>,
}

/// `envoy.discovery:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Discovery {
    pub(super) listen: Option<String>,
    pub(super) tls: Tls,
}

/// `envoy.discovery.tls:` and `relay.tls:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Tls {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
}

/// `traefik:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Traefik {
    pub(super) entry_points: Option<Vec<String>>,
    pub(super) gateway: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) publish: Option<PathBuf>,
    pub(super) http: Option<bool>,
    pub(super) signature: Signature,
    pub(super) requests_in_flight: Option<u64>,
    pub(super) spool: Spool,
    pub(super) api: Option<String>,
}

/// `traefik.spool:`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Spool {
    pub(super) folder: Option<PathBuf>,
    pub(super) file: Option<String>,
    pub(super) max_bytes: Option<u64>,
}

/// A duration such as `500ms`, `5s`, `1m`, `48h` or `90d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

// === impl SettingsFile ===

impl SettingsFile {
    /// Reads a file. Relative paths in it start at its own folder.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingsError(format!("{}: cannot be read: {error}", path.display())))?;
        let mut file =
            Self::parse(&text).map_err(|error| SettingsError(format!("{}:{error}", path.display())))?;
        let folder = folder_of(path);
        let anchor = |path: &mut PathBuf| *path = folder.join(&path);
        file.pricing.as_mut().map(anchor);
        for credential in file.facilitator.credentials.values_mut() {
            [&mut credential.bearer, &mut credential.jwt].into_iter().flatten().for_each(anchor);
        }
        if let Some(envoy) = &mut file.envoy {
            envoy.publish.as_mut().map(anchor);
            envoy.discovery.as_mut().into_iter().flat_map(|of| of.tls.files()).for_each(anchor);
        }
        if let Some(ledger) = &mut file.relay.ledger {
            *ledger = anchored(ledger, folder);
        }
        file.relay.tls.files().chain(file.relay.secret.as_mut()).for_each(anchor);
        if let Some(traefik) = &mut file.traefik {
            [&mut traefik.publish, &mut traefik.spool.folder].into_iter().flatten().for_each(anchor);
        }
        Ok(file)
    }

    /// Reads a text. Errors start with the 1-based line.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        serde_saphyr::from_str(text).map_err(|error| describe(&error))
    }
}

fn describe(error: &serde_saphyr::Error) -> SettingsError {
    let error = error.without_snippet();
    let line = error.location().map_or(1, |location| location.line());
    if let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error {
        let nearest = expected.iter().min_by_key(|key| strsim::damerau_levenshtein(key, field));
        let hint = nearest.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
        return SettingsError(format!("{line}: unknown key `{field}`{hint}"));
    }
    SettingsError(format!("{line}: {error}"))
}

// === impl Tls ===

impl Tls {
    fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.certificate, &mut self.key, &mut self.client_ca].into_iter().flatten()
    }
}

// === impl Span ===

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not a duration such as 500ms, 5s, 1m, 48h or 90d"))
        })
    }
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
        let (digits, unit) = text.split_at(unit_at);
        let count: u64 = digits.parse().ok()?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        count.checked_mul(millis).map(|millis| Self(Duration::from_millis(millis)))
    }
}
