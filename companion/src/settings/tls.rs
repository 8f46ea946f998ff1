//! TLS of a port.

use std::path::PathBuf;

use super::{SettingsError, file};

/// PEM files of a port. They are read when it starts, and again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The section with these settings, for messages.
    pub section: &'static str,
    /// The certificate chain of the port.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities that sign the certificates of clients; without it every client is served.
    pub client_ca: Option<PathBuf>,
}

// === impl TlsSettings ===

impl TlsSettings {
    pub(super) fn resolve(section: &'static str, tls: file::Tls) -> Result<Option<Self>, SettingsError> {
        let file::Tls { certificate, key, client_ca } = tls;
        if certificate.is_none() && key.is_none() && client_ca.is_none() {
            return Ok(None);
        }
        let missing =
            |key| SettingsError(format!("{section}.{key} is missing: TLS needs certificate and key"));
        Ok(Some(Self {
            section,
            certificate: certificate.ok_or_else(|| missing("certificate"))?,
            key: key.ok_or_else(|| missing("key"))?,
            client_ca,
        }))
    }

    /// Whether only clients with a certificate are served.
    pub(super) fn proves_clients(tls: Option<&Self>) -> bool {
        tls.is_some_and(|tls| tls.client_ca.is_some())
    }
}
