//! Settings of the rules over gRPC: the address, and the proxies that may connect.

use super::{Listen, SettingsError, TlsSettings, file, flags};

/// The `envoy.discovery:` section, checked. The files are read when the server starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// The address for proxies.
    pub listen: Listen,
    /// Without it the channel is plain text.
    pub tls: Option<TlsSettings>,
}

// === impl DiscoverySettings ===

impl DiscoverySettings {
    /// Joins the section with the flags; a flag wins. `None` if neither is set.
    pub(super) fn resolve(
        file: Option<file::Discovery>,
        flags: flags::Discovery,
    ) -> Result<Option<Self>, SettingsError> {
        if file.is_none() && flags.is_empty() {
            return Ok(None);
        }
        let file = file.unwrap_or_default();
        let listen = flags.listen.or(file.listen).ok_or_else(|| missing("listen", "--discovery-listen"))?;
        let listen = Listen::parse("envoy.discovery.listen", &listen)?;
        let tls = file::Tls {
            certificate: flags.certificate.or(file.tls.certificate),
            key: flags.key.or(file.tls.key),
            client_ca: flags.client_ca.or(file.tls.client_ca),
        };
        let tls = TlsSettings::resolve("envoy.discovery.tls", tls)?;
        if !listen.is_private() && !TlsSettings::proves_clients(tls.as_ref()) {
            return Err(SettingsError(format!(
                "envoy.discovery.listen: {listen} can be reached by strangers, who would count as proxies: set tls \
                 with certificate, key and clientCa, or listen on 127.0.0.1 or on unix:/run/farebox/discovery.sock"
            )));
        }
        Ok(Some(Self { listen, tls }))
    }
}

fn missing(key: &str, flag: &str) -> SettingsError {
    SettingsError(format!("envoy.discovery.{key} (or {flag}) is missing: without it no proxy can connect"))
}
