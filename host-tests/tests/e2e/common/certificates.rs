//! Certificates of a test's own.

use std::path::Path;

use farebox_testkit::stack::GrpcDiscovery;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// An authority (`ca.pem`), and what it signed for both sides (`companion`, `proxy`).
pub(crate) fn certificates() -> tempfile::TempDir {
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
    // If subject and issuer are equal, the certificate looks self-signed to Envoy.
    params.distinguished_name.push(DnType::CommonName, file);
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(folder.join(file).with_extension("pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join(file).with_extension("key"), key.serialize_pem()).unwrap();
}
