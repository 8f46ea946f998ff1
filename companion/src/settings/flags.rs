//! Arguments of `farebox run`, including those of the verifier that Farebox replaces.

use std::path::PathBuf;

use super::Settlement;

/// Arguments of `farebox run`. A flag wins over the same setting in the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Settings file; `farebox.yaml` in the working directory is used if it exists.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Pricing file [default: /config/pricing.yaml].
    #[arg(long, visible_alias = "config", value_name = "FILE")]
    pub pricing: Option<PathBuf>,
    /// Address for /metrics, /healthz, /readyz and /status [default: 127.0.0.1:9402].
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Reload the pricing file when it changes [default: true].
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub watch: Option<bool>,
    /// Where rules come from: file.
    #[arg(long, default_value = "file", value_name = "SOURCE")]
    pub route_source: String,
    /// Accepted for compatibility; has no effect.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Facilitator to use in place of the pricing file's.
    #[arg(long, value_name = "URL")]
    pub facilitator: Option<String>,
    /// Who settles: the companion's relay with its ledger, or the proxies directly [default: relay].
    #[arg(long, value_enum, value_name = "WHO")]
    pub settlement: Option<Settlement>,
    /// Address where proxies call the companion, or unix:PATH [default: 127.0.0.1:9404].
    #[arg(long, value_name = "ADDR")]
    pub relay_listen: Option<String>,
    /// Database of the ledger, or file:PATH or env:NAME with its URL [default: sqlite:farebox.db].
    #[arg(long, value_name = "URL")]
    pub ledger: Option<String>,
    /// Serve as a proxy on an address, for a proxy in front or for clients directly [default: 127.0.0.1:9405].
    #[arg(long, num_args = 0..=1, value_name = "ADDR")]
    pub gateway: Option<Option<String>>,
    /// Path of the filter's wasm file, as Envoy sees it.
    #[arg(long, value_name = "FILE")]
    pub envoy_wasm: Option<String>,
    /// The file Envoy discovers its filter configuration from.
    #[arg(long, value_name = "FILE")]
    pub envoy_publish: Option<PathBuf>,
    /// Serving rules over gRPC.
    #[command(flatten)]
    pub discovery: Discovery,
    /// An earlier flag: an Envoy from which to read statistics.
    #[arg(long, hide = true)]
    pub proxy: Vec<String>,
}

/// Serving rules over gRPC.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct Discovery {
    /// Address to serve rules on over gRPC besides the file, or unix:PATH; elsewhere than on this machine it needs the
    /// three files below.
    #[arg(id = "discovery-listen", long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Certificate chain of the gRPC server, PEM.
    #[arg(id = "discovery-certificate", long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Private key of that certificate, PEM.
    #[arg(id = "discovery-key", long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Authorities that sign the proxies' certificates, PEM; a proxy without such a certificate is refused.
    #[arg(id = "discovery-client-ca", long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
}

// === impl Discovery ===

impl Discovery {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
