//! Certificates of a port, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tracing::{error, info};

use super::Protocol;
use crate::settings::{SettingsError, TlsSettings};

/// The configuration of new connections. Each new connection checks whether the files changed; open
/// connections keep their configuration.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsSettings,
    protocol: Protocol,
    config: Arc<ServerConfig>,
    /// The stamp of the files at the last read, successful or not.
    stamp: Stamp,
}

/// Modification time and length of each file.
type Stamp = Vec<Option<(SystemTime, u64)>>;

// === impl Tls ===

impl Tls {
    /// Reads the files. The error names the setting, the file and the fix.
    pub(super) fn load(files: TlsSettings, protocol: Protocol) -> Result<Self, SettingsError> {
        let (stamp, config) = (stamp(&files), Arc::new(read(&files, protocol)?));
        Ok(Self { files, protocol, config, stamp })
    }

    /// The configuration for a new connection. Unusable files are reported once, and the last good ones
    /// stay, because key and certificate are rarely replaced in one step.
    pub(super) fn current(&mut self) -> Arc<ServerConfig> {
        let stamp = stamp(&self.files);
        if stamp != self.stamp {
            self.stamp = stamp;
            match read(&self.files, self.protocol) {
                Ok(config) => {
                    self.config = Arc::new(config);
                    info!("{}: certificates read again", self.files.section);
                }
                Err(cause) => error!("{cause}; the certificates read before stay in use"),
            }
        }
        self.config.clone()
    }
}

fn stamp(files: &TlsSettings) -> Stamp {
    let paths = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let of = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths.into_iter().flatten().map(of).collect()
}

fn read(files: &TlsSettings, protocol: Protocol) -> Result<ServerConfig, SettingsError> {
    let TlsSettings { section, certificate, key, client_ca } = files;
    let unusable = |setting, path, cause: &dyn std::fmt::Display, purpose| {
        unusable(section, setting, path, cause, purpose)
    };
    let certificates = |setting, path, purpose| certificates(section, setting, path, purpose);
    let chain = certificates("certificate", certificate, "the certificate chain of this server")?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|cause| unusable("key", key, &cause, "the private key of the certificate"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|cause| SettingsError(format!("{section}: {cause}")))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let purpose = "the authorities that sign the proxies' certificates";
            let mut roots = RootCertStore::empty();
            for authority in certificates("clientCa", path, purpose)? {
                roots.add(authority).map_err(|cause| unusable("clientCa", path, &cause, purpose))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|cause| unusable("clientCa", path, &cause, purpose))?,
            )
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|cause| {
        let place = key.display();
        SettingsError(format!(
            "{section}.key: {place} does not fit {} ({cause}): name the key of that certificate",
            certificate.display()
        ))
    })?;
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![b"http/1.1".to_vec()],
        Protocol::Http2 => vec![b"h2".to_vec()],
        Protocol::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

fn certificates(
    section: &str,
    setting: &str,
    path: &Path,
    purpose: &str,
) -> Result<Vec<CertificateDer<'static>>, SettingsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unusable(section, setting, path, &cause, purpose))?;
    if found.is_empty() {
        return Err(unusable(section, setting, path, &"no certificate in it", purpose));
    }
    Ok(found)
}

fn unusable(
    section: &str,
    setting: &str,
    path: &Path,
    cause: &dyn std::fmt::Display,
    purpose: &str,
) -> SettingsError {
    let path = path.display();
    SettingsError(format!(
        "{section}.{setting}: {path} cannot be used ({cause}): name a PEM file with {purpose}"
    ))
}
