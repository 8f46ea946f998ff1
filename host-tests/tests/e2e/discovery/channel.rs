//! The channel between companion and proxy, plain or with certificates of the test's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use serde_json::{Value, json};
use xtask::stack::{GrpcDiscovery, Options, Port, ProxyCertificate};

/// Where and how rules are served.
pub(crate) struct Channel {
    port: Port,
    api_type: &'static str,
    certificates: Option<tempfile::TempDir>,
}

// === impl Channel ===

impl Channel {
    /// In plain text.
    pub(crate) fn plain(api_type: &'static str) -> Self {
        Self { port: Port::take().unwrap(), api_type, certificates: None }
    }

    /// With TLS in which each side checks the other.
    pub(crate) fn encrypted(api_type: &'static str) -> Self {
        Self { certificates: Some(certificates()), ..Self::plain(api_type) }
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.certificates.as_ref().map(|folder| folder.path().join(name))
    }

    /// A stack with these prices whose Envoy gets them over this channel, and is read five times a second.
    pub(crate) fn options(&self, pricing: &str) -> Options {
        let mut discovery = json!({ "listen": self.address() });
        if let Some(certificate) = self.file("companion.pem") {
            discovery["tls"] = json!({
                "certificate": certificate,
                "key": self.file("companion.key"),
                "clientCa": self.file("ca.pem"),
            });
        }
        let source = GrpcDiscovery {
            companion: self.address(),
            api_type: self.api_type,
            tls: self
                .file("proxy.pem")
                .zip(self.file("proxy.key"))
                .zip(self.file("ca.pem"))
                .map(|((certificate, key), authority)| ProxyCertificate { certificate, key, authority }),
        };
        Options {
            settings: json!({ "envoy": { "scrapeInterval": "200ms", "discovery": discovery } }),
            tweak: Box::new(move |bootstrap: &mut Value| source.install(bootstrap).unwrap()),
            ..Options::priced(pricing)
        }
    }
}

/// An authority, and what it signed for both sides.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    sign(
        folder.path(),
        &authority,
        "companion",
        GrpcDiscovery::COMPANION,
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    sign(folder.path(), &authority, "proxy", "envoy-0.test", ExtendedKeyUsagePurpose::ClientAuth);
    folder
}

fn sign(
    folder: &Path,
    authority: &CertifiedIssuer<'_, KeyPair>,
    file: &str,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![purpose];
    // A subject that is its issuer's looks self-signed to Envoy.
    params.distinguished_name.push(DnType::CommonName, file);
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(folder.join(file).with_extension("pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join(file).with_extension("key"), key.serialize_pem()).unwrap();
}
