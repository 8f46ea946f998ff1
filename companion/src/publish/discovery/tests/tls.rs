use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity as Pair};

use super::*;

/// An authority, and the PEM files of what it signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key.
    fn sign(&self, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["companion.test".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Settings of a server with a new certificate.
    fn server(&self, client_ca: Option<&Self>) -> TlsSettings {
        let (certificate, key) = self.sign(ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(self.file("server.pem"), certificate).unwrap();
        std::fs::write(self.file("server.key"), key).unwrap();
        TlsSettings {
            section: "envoy.discovery.tls",
            certificate: self.file("server.pem"),
            key: self.file("server.key"),
            client_ca: client_ca.map(|authority| authority.file("ca.pem")),
        }
    }

    /// A client that trusts this authority.
    fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem())).domain_name("companion.test")
    }

    fn client_identity(&self) -> Pair {
        let (certificate, key) = self.sign(ExtendedKeyUsagePurpose::ClientAuth);
        Pair::from_pem(certificate, key)
    }
}

/// The version that a client gets; an error if the server refuses it.
async fn version(stage: &Stage, tls: ClientTlsConfig) -> Result<String, String> {
    let endpoint = Endpoint::from_shared(format!("https://{}", stage.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.map_err(|error| error.to_string())?;
    let (sender, sent) = requests();
    let request = DiscoveryRequest {
        node: identity("proxy"),
        resource_names: vec!["farebox".to_owned()],
        ..DiscoveryRequest::default()
    };
    sender.send(request).await.unwrap();
    let opened =
        Client::new(channel).stream_extension_configs(sent).await.map_err(|error| error.to_string())?;
    let response = tokio::time::timeout(PATIENCE, opened.into_inner().message()).await.unwrap();
    Ok(response.map_err(|error| error.to_string())?.expect("a response").version_info)
}

#[tokio::test]
async fn a_proxy_that_trusts_our_authority_is_served_and_one_that_does_not_leaves() {
    let ours = Authority::new();
    let stage = Stage::with(Some(ours.server(None))).await.unwrap();
    stage.publish("1");
    assert_eq!(version(&stage, ours.client()).await, Ok("1".to_owned()));
    assert!(version(&stage, Authority::new().client()).await.is_err());
}

#[tokio::test]
async fn a_proxy_without_a_certificate_of_the_named_authority_is_refused() {
    let (ours, proxies) = (Authority::new(), Authority::new());
    let stage = Stage::with(Some(ours.server(Some(&proxies)))).await.unwrap();
    stage.publish("1");
    assert_eq!(version(&stage, ours.client().identity(proxies.client_identity())).await, Ok("1".to_owned()));
    assert!(version(&stage, ours.client()).await.is_err());
    let forged = Authority::new().client_identity();
    assert!(version(&stage, ours.client().identity(forged)).await.is_err());
    assert_eq!(stage.state.lock().discovery.nodes(unix_seconds()).count(), 1);
}

#[tokio::test]
async fn a_plain_client_gets_nothing_from_a_server_with_tls() {
    let stage = Stage::with(Some(Authority::new().server(None))).await.unwrap();
    stage.publish("1");
    let endpoint = Endpoint::from_shared(format!("http://{}", stage.address)).unwrap();
    let (_sender, sent) = requests();
    let outcome = match endpoint.connect().await {
        Ok(channel) => Client::new(channel).stream_extension_configs(sent).await.map(drop).is_err(),
        Err(_) => true,
    };
    assert!(outcome);
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change_and_bad_ones_change_nothing() {
    let ours = Authority::new();
    let settings = ours.server(None);
    let stage = Stage::with(Some(settings.clone())).await.unwrap();
    stage.publish("1");
    std::fs::write(&settings.key, "not a key").unwrap();
    assert_eq!(version(&stage, ours.client()).await, Ok("1".to_owned()));

    let next = Authority::new();
    let (certificate, key) = next.sign(ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(&settings.certificate, certificate).unwrap();
    std::fs::write(&settings.key, key).unwrap();
    assert_eq!(version(&stage, next.client()).await, Ok("1".to_owned()));
    assert!(version(&stage, ours.client()).await.is_err());
}

#[tokio::test]
async fn a_bad_file_is_named_with_its_setting_and_the_fix() {
    let ours = Authority::new();
    let good = ours.server(Some(&ours));
    let error = async |settings: TlsSettings| Stage::with(Some(settings)).await.err().unwrap().to_string();
    let empty = ours.file("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let says = |error: &str, setting: &str, path: &Path, fix: &str| {
        assert!(error.starts_with(&format!("envoy.discovery.tls.{setting}: {}", path.display())), "{error}");
        assert!(error.ends_with(fix), "{error}");
    };

    let missing = ours.file("missing.pem");
    let cause = error(TlsSettings { certificate: missing.clone(), ..good.clone() }).await;
    says(&cause, "certificate", &missing, "name a PEM file with the certificate chain of this server");
    let cause = error(TlsSettings { certificate: empty.clone(), ..good.clone() }).await;
    says(&cause, "certificate", &empty, "name a PEM file with the certificate chain of this server");
    let cause = error(TlsSettings { key: empty.clone(), ..good.clone() }).await;
    says(&cause, "key", &empty, "name a PEM file with the private key of the certificate");
    let cause = error(TlsSettings { client_ca: Some(empty.clone()), ..good.clone() }).await;
    says(
        &cause,
        "clientCa",
        &empty,
        "name a PEM file with the authorities that sign the proxies' certificates",
    );

    let other = ours.file("other.key");
    std::fs::write(&other, ours.sign(ExtendedKeyUsagePurpose::ServerAuth).1).unwrap();
    let cause = error(TlsSettings { key: other.clone(), ..good.clone() }).await;
    says(&cause, "key", &other, "name the key of that certificate");
}
