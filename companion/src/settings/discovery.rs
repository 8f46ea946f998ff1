//! Where rules are served over gRPC, and to whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{SettingsError, file, flags, parse_listen};

/// The `envoy.discovery:` section, checked. The files are read when the server starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Where proxies connect.
    pub listen: SocketAddr,
    /// Without it the channel is plain text.
    pub tls: Option<TlsSettings>,
}

/// PEM files of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities that sign the proxies' certificates; without it every proxy is served.
    pub client_ca: Option<PathBuf>,
}

// === impl DiscoverySettings ===

impl DiscoverySettings {
    /// Joins the section with the flags; a flag wins. `None` if nothing is to be served.
    pub(super) fn resolve(
        file: Option<file::Discovery>,
        flags: flags::Discovery,
    ) -> Result<Option<Self>, SettingsError> {
        if file.is_none() && flags.is_empty() {
            return Ok(None);
        }
        let file = file.unwrap_or_default();
        let listen = flags.listen.or(file.listen).ok_or_else(|| missing("listen", "--discovery-listen"))?;
        let listen = parse_listen("envoy.discovery.listen", &listen)?;
        let own = file.tls.unwrap_or_default();
        let tls = TlsSettings::resolve(
            flags.certificate.or(own.certificate),
            flags.key.or(own.key),
            flags.client_ca.or(own.client_ca),
        )?;
        if tls.is_none() && !listen.ip().is_loopback() && !file.allow_plaintext {
            return Err(SettingsError(format!(
                "envoy.discovery: {listen} can be reached from elsewhere and has no TLS; set tls.certificate \
                 and tls.key, listen on 127.0.0.1, or say allowPlaintext: true"
            )));
        }
        Ok(Some(Self { listen, tls }))
    }
}

// === impl TlsSettings ===

impl TlsSettings {
    fn resolve(
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
        client_ca: Option<PathBuf>,
    ) -> Result<Option<Self>, SettingsError> {
        if certificate.is_none() && key.is_none() && client_ca.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            certificate: certificate.ok_or_else(|| missing("tls.certificate", "--discovery-certificate"))?,
            key: key.ok_or_else(|| missing("tls.key", "--discovery-key"))?,
            client_ca,
        }))
    }
}

fn missing(key: &str, flag: &str) -> SettingsError {
    SettingsError(format!("envoy.discovery.{key} (or {flag}) is missing: without it no proxy can connect"))
}
