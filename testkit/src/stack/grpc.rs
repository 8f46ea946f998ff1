//! An Envoy that gets its rules over gRPC: the shipped parts, added to a bootstrap.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bootstrap::{at, endpoint, list};
use super::shipped;

/// How an Envoy discovers its rules over gRPC.
#[derive(Debug, Clone)]
pub struct GrpcDiscovery {
    /// Where the companion serves them.
    pub companion: SocketAddr,
    /// Plain text without.
    pub tls: Option<ProxyCertificate>,
}

/// PEM files of a proxy.
#[derive(Debug, Clone)]
pub struct ProxyCertificate {
    /// Its certificate.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// The authority that it trusts.
    pub authority: PathBuf,
}

// === impl GrpcDiscovery ===

impl GrpcDiscovery {
    /// The name in the companion's certificate that the shipped parts expect.
    pub const COMPANION: &'static str = "farebox.example.com";

    /// Puts the shipped pieces into a bootstrap, in place of the file.
    pub fn install(&self, bootstrap: &mut Value) -> Result<()> {
        let mut pieces = shipped("envoy/discovery-grpc.yaml")?;

        let cluster = at(&mut pieces, "/clusters/0")?;
        *endpoint(cluster)? = json!({ "socket_address": {
            "address": self.companion.ip(), "port_value": self.companion.port(),
        } });
        cluster["type"] = json!("STATIC");
        if let Some(tls) = &self.tls {
            tls.install(at(cluster, "/transport_socket/typed_config/common_tls_context")?)?;
        } else {
            cluster.as_object_mut().context("a cluster is a mapping")?.remove("transport_socket");
        }
        let cluster = cluster.take();
        list(bootstrap, "/static_resources/clusters")?.push(cluster);

        let filters = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0";
        *at(bootstrap, &format!("{filters}/config_discovery/config_source"))? =
            at(&mut pieces, "/config_source")?.take();
        Ok(())
    }
}

// === impl ProxyCertificate ===

impl ProxyCertificate {
    /// Puts the files into a `common_tls_context` of a bootstrap.
    pub(super) fn install(&self, context: &mut Value) -> Result<()> {
        *at(context, "/tls_certificates/0/certificate_chain/filename")? = json!(self.certificate);
        *at(context, "/tls_certificates/0/private_key/filename")? = json!(self.key);
        *at(context, "/validation_context/trusted_ca/filename")? = json!(self.authority);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(tls: Option<ProxyCertificate>) -> Value {
        let mut bootstrap = shipped("envoy/bootstrap.yaml").unwrap();
        let companion = "127.0.0.1:1001".parse().unwrap();
        GrpcDiscovery { companion, tls }.install(&mut bootstrap).unwrap();
        bootstrap
    }

    fn cluster(bootstrap: &Value) -> &Value {
        bootstrap["static_resources"]["clusters"].as_array().unwrap().last().unwrap()
    }

    #[test]
    fn the_shipped_pieces_replace_the_file_and_keep_the_closed_default() {
        let bootstrap = installed(None);
        let manager =
            &bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        let filter = &manager["http_filters"][0];
        assert_eq!(filter["name"], "farebox");
        let discovery = &filter["config_discovery"];
        assert_eq!(discovery["apply_default_config_without_warming"], true);
        let source = &discovery["config_source"];
        assert_eq!(source.get("path_config_source"), None);
        let api = &source["api_config_source"];
        assert_eq!(api["api_type"], "GRPC");
        assert_eq!(api["set_node_on_first_message_only"], true);
        let cluster = cluster(&bootstrap);
        assert_eq!(api["grpc_services"][0]["envoy_grpc"]["cluster_name"], cluster["name"]);
        assert_eq!(cluster.get("transport_socket"), None);
        let mut cluster = cluster.clone();
        let socket = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 1001 } });
        assert_eq!(*endpoint(&mut cluster).unwrap(), socket);
    }

    #[test]
    fn every_file_of_the_shipped_pieces_is_filled_and_the_companion_is_checked_by_name() {
        let bootstrap = installed(Some(ProxyCertificate {
            certificate: "/stack/proxy.pem".into(),
            key: "/stack/proxy.key".into(),
            authority: "/stack/ca.pem".into(),
        }));
        let tls = &cluster(&bootstrap)["transport_socket"]["typed_config"];
        let text = tls.to_string();
        assert!(!text.contains("/etc/envoy"), "{text}");
        for file in ["/stack/proxy.pem", "/stack/proxy.key", "/stack/ca.pem"] {
            assert!(text.contains(file), "{file} is missing in {text}");
        }
        assert_eq!(tls["sni"], GrpcDiscovery::COMPANION);
        assert_eq!(
            tls["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"],
            json!([{ "san_type": "DNS", "matcher": { "exact": GrpcDiscovery::COMPANION } }])
        );
    }
}
