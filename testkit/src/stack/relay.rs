//! An Envoy with a secret, certificate or Unix socket for the relay: the shipped parts, added to a
//! bootstrap.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bootstrap::{at, endpoint, list};
use super::grpc::ProxyCertificate;
use super::shipped;

/// Makes the cluster `farebox` of a bootstrap send the secret of a file.
pub fn install_relay_secret(bootstrap: &mut Value, file: &Path) -> Result<()> {
    let mut pieces = shipped("envoy/relay-secret.yaml")?;
    *at(&mut pieces, "/secrets/0/generic_secret/secret/filename")? = json!(file);
    let options = at(&mut pieces, "/typed_extension_protocol_options")?.take();
    at(bootstrap, "/static_resources")?["secrets"] = at(&mut pieces, "/secrets")?.take();
    cluster(bootstrap)?["typed_extension_protocol_options"] = options;
    Ok(())
}

/// Makes the cluster `farebox` of a bootstrap use TLS with a certificate.
pub fn install_relay_tls(bootstrap: &mut Value, files: &ProxyCertificate) -> Result<()> {
    let mut socket = at(&mut shipped("envoy/relay-tls.yaml")?, "/transport_socket")?.take();
    let context = at(&mut socket, "/typed_config/common_tls_context")?;
    files.install(context)?;
    cluster(bootstrap)?["transport_socket"] = socket;
    Ok(())
}

/// Makes the cluster `farebox` of a bootstrap call the relay over a Unix socket.
pub fn install_relay_socket(bootstrap: &mut Value, path: &Path) -> Result<()> {
    let cluster = cluster(bootstrap)?;
    *endpoint(cluster)? = json!({ "pipe": { "path": path } });
    cluster["type"] = json!("STATIC");
    Ok(())
}

fn cluster(bootstrap: &mut Value) -> Result<&mut Value> {
    let clusters = list(bootstrap, "/static_resources/clusters")?;
    let relay = clusters.iter_mut().find(|cluster| cluster["name"] == "farebox");
    relay.context("the bootstrap has no cluster `farebox`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_pieces_change_the_relays_cluster_in_nothing_but_the_secret() {
        let plain = shipped("envoy/bootstrap.yaml").unwrap();
        let mut bootstrap = plain.clone();
        install_relay_secret(&mut bootstrap, Path::new("/stack/secret")).unwrap();
        let resources = &bootstrap["static_resources"];
        assert_eq!(resources["secrets"][0]["generic_secret"]["secret"]["filename"], "/stack/secret");
        let clusters = |of: &Value| of["static_resources"]["clusters"].as_array().unwrap().clone();
        for (mut with, without) in clusters(&bootstrap).into_iter().zip(clusters(&plain)) {
            let http =
                "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
            if with["name"] == "farebox" {
                let filters =
                    with.pointer_mut(http).unwrap().as_object_mut().unwrap().remove("http_filters").unwrap();
                let injected = &filters[0]["typed_config"];
                assert_eq!(injected["overwrite"], true, "a client cannot bring its own");
                let generic = &injected["credential"]["typed_config"];
                assert_eq!(generic["credential"]["name"], resources["secrets"][0]["name"]);
                assert_eq!(generic["header"], "x-farebox-relay-secret");
            }
            assert_eq!(with, without);
        }
    }

    #[test]
    fn every_file_of_the_shipped_certificates_is_filled_and_the_relay_is_checked_by_name() {
        let mut bootstrap = shipped("envoy/bootstrap.yaml").unwrap();
        let files = ProxyCertificate {
            certificate: "/stack/proxy.pem".into(),
            key: "/stack/proxy.key".into(),
            authority: "/stack/ca.pem".into(),
        };
        install_relay_tls(&mut bootstrap, &files).unwrap();
        let tls = cluster(&mut bootstrap).unwrap()["transport_socket"]["typed_config"].clone();
        let text = tls.to_string();
        assert!(!text.contains("/etc/envoy") && !text.contains("alpn"), "{text}");
        for file in ["/stack/proxy.pem", "/stack/proxy.key", "/stack/ca.pem"] {
            assert!(text.contains(file), "{file} is missing in {text}");
        }
        let checked = &tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"];
        assert_eq!(checked[0]["matcher"]["exact"], tls["sni"]);
    }
}
