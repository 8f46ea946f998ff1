//! The shipped Envoy bootstrap with the addresses and paths of one stack.
//!
//! The tests run the same file that an operator copies: it is parsed, and only the places below are
//! changed. A missing place is an error, so the shipped file and this module cannot diverge.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Port of the shipped file, by which its listener is recognised.
const SHIPPED_PROXY_PORT: u64 = 10_000;

/// The values of a stack.
#[derive(Debug)]
pub struct Places {
    /// Where clients connect.
    pub proxy: SocketAddr,
    /// The socket of Envoy's own administration.
    pub admin: PathBuf,
    /// The file the filter configuration is discovered from; its folder is watched.
    pub discovery: PathBuf,
    /// The filter.
    pub wasm: PathBuf,
    /// `http://HOST:PORT` of the upstream.
    pub upstream: String,
    /// `http://HOST:PORT` of the companion's relay.
    pub relay: String,
    /// `http(s)://HOST[:PORT]` of the facilitator.
    pub facilitator: String,
    /// The system's certificate authorities, for a facilitator with TLS.
    pub authorities: Option<PathBuf>,
}

/// Where systems keep the certificate authorities they trust, as one file.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificate authorities this system trusts.
pub(super) fn system_authorities() -> Option<PathBuf> {
    AUTHORITIES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Puts the places into the shipped file.
pub fn render(mut bootstrap: Value, places: &Places) -> Result<Value> {
    let admin = json!({ "pipe": { "path": places.admin, "mode": 0o600 } });
    *at(&mut bootstrap, "/admin/address")? = admin;
    for listener in list(&mut bootstrap, "/static_resources/listeners")? {
        let socket = at(listener, "/address/socket_address")?;
        let address = match socket["port_value"].as_u64() {
            Some(SHIPPED_PROXY_PORT) => places.proxy,
            other => bail!("the bootstrap has a listener on an unexpected port: {other:?}"),
        };
        *socket = json!({ "address": address.ip(), "port_value": address.port() });
    }
    for cluster in list(&mut bootstrap, "/static_resources/clusters")? {
        match cluster["name"].as_str() {
            Some("upstream") => lead_to(cluster, &places.upstream, None)?,
            Some("farebox") => lead_to(cluster, &places.relay, None)?,
            Some("facilitator") => lead_to(cluster, &places.facilitator, places.authorities.as_ref())?,
            other => bail!("the bootstrap has an unexpected cluster: {other:?}"),
        }
    }
    let folder = places.discovery.parent().context("the discovery file needs a folder")?;
    let source = json!({ "path": places.discovery, "watched_directory": { "path": folder } });
    replace_all(&mut bootstrap, "path_config_source", &source)?;
    replace_all(&mut bootstrap, "local", &json!({ "filename": places.wasm }))?;
    Ok(bootstrap)
}

/// Sets every member of this name, wherever it is.
fn replace_all(bootstrap: &mut Value, member: &str, new: &Value) -> Result<()> {
    fn walk(value: &mut Value, member: &str, new: &Value) -> usize {
        match value {
            Value::Object(object) => object
                .iter_mut()
                .map(|(key, value)| {
                    if key != member {
                        return walk(value, member, new);
                    }
                    *value = new.clone();
                    1
                })
                .sum(),
            Value::Array(items) => items.iter_mut().map(|item| walk(item, member, new)).sum(),
            _ => 0,
        }
    }
    if walk(bootstrap, member, new) == 0 {
        bail!("the bootstrap has no `{member}`");
    }
    Ok(())
}

/// Points a cluster at a URL. With https it gets TLS that names the host and checks its certificate.
fn lead_to(cluster: &mut Value, url: &str, authorities: Option<&PathBuf>) -> Result<()> {
    let parsed = reqwest::Url::parse(url).with_context(|| format!("`{url}` is not a URL"))?;
    let host = parsed.host_str().with_context(|| format!("`{url}` names no host"))?.to_owned();
    let port = parsed.port_or_known_default().with_context(|| format!("`{url}` names no port"))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    *endpoint(cluster)? = json!({ "socket_address": { "address": bare, "port_value": port } });
    let is_address = bare.parse::<std::net::IpAddr>().is_ok();
    cluster["type"] = json!(if is_address { "STATIC" } else { "STRICT_DNS" });
    let object = cluster.as_object_mut().context("a cluster is a mapping")?;
    object.remove("transport_socket");
    if parsed.scheme() != "https" {
        return Ok(());
    }
    let authorities = authorities
        .context("no certificate authorities were found on this system; install ca-certificates")?;
    let name = if is_address {
        json!({ "san_type": "IP_ADDRESS", "matcher": { "exact": bare } })
    } else {
        json!({ "san_type": "DNS", "matcher": { "exact": bare } })
    };
    let mut tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": { "validation_context": {
            "trusted_ca": { "filename": authorities },
            "match_typed_subject_alt_names": [name],
        } },
    });
    if !is_address {
        tls["sni"] = json!(bare);
    }
    object.insert(
        "transport_socket".to_owned(),
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": tls }),
    );
    Ok(())
}

pub(super) fn endpoint(cluster: &mut Value) -> Result<&mut Value> {
    at(cluster, "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address")
}

pub(super) fn list<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Vec<Value>> {
    at(value, pointer)?.as_array_mut().with_context(|| format!("{pointer} of the bootstrap is not a list"))
}

pub(super) fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    value.pointer_mut(pointer).with_context(|| format!("the bootstrap has no {pointer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Value {
        super::super::shipped("envoy/bootstrap.yaml").unwrap()
    }

    fn places(facilitator: &str) -> Places {
        Places {
            proxy: "127.0.0.1:1001".parse().unwrap(),
            admin: "/stack/admin.sock".into(),
            discovery: "/stack/discovery/filter.yaml".into(),
            wasm: "/target/farebox-envoy.wasm".into(),
            upstream: "http://127.0.0.1:1003".to_owned(),
            relay: "http://127.0.0.1:9404".to_owned(),
            facilitator: facilitator.to_owned(),
            authorities: Some("/etc/authorities.pem".into()),
        }
    }

    fn cluster<'a>(bootstrap: &'a Value, name: &str) -> &'a Value {
        let clusters = bootstrap["static_resources"]["clusters"].as_array().unwrap();
        clusters.iter().find(|cluster| cluster["name"] == name).unwrap()
    }

    #[test]
    fn every_place_of_the_shipped_file_is_filled() {
        let rendered = render(shipped(), &places("http://127.0.0.1:1004")).unwrap();
        let text = rendered.to_string();
        for shipped in ["10000", "8000", "4020", "/etc/farebox", "/usr/share", "/run/envoy"] {
            assert!(!text.contains(shipped), "{shipped} is left in {text}");
        }
        for place in ["1001", "1003", "1004", "/stack/admin.sock", "/stack/discovery/filter.yaml"] {
            assert!(text.contains(place), "{place} is missing in {text}");
        }
        assert_eq!(text.matches("/target/farebox-envoy.wasm").count(), 1);
        assert!(cluster(&rendered, "facilitator").get("transport_socket").is_none());
    }

    #[test]
    fn a_facilitator_with_tls_is_named_and_checked() {
        let rendered = render(shipped(), &places("https://pay.example.com/x402")).unwrap();
        let cluster = cluster(&rendered, "facilitator");
        assert_eq!(cluster["type"], "STRICT_DNS");
        let mut cluster = cluster.clone();
        assert_eq!(
            *endpoint(&mut cluster).unwrap(),
            json!({ "socket_address": { "address": "pay.example.com", "port_value": 443 } })
        );
        let tls = &cluster["transport_socket"]["typed_config"];
        assert_eq!(tls["sni"], "pay.example.com");
        assert_eq!(
            tls["common_tls_context"]["validation_context"],
            json!({
                "trusted_ca": { "filename": "/etc/authorities.pem" },
                "match_typed_subject_alt_names":
                    [{ "san_type": "DNS", "matcher": { "exact": "pay.example.com" } }],
            })
        );
    }

    #[test]
    fn the_shipped_file_is_safe_where_a_wrong_word_would_lose_money() {
        let shipped = shipped();
        let manager =
            &shipped["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(manager["normalize_path"], true);
        assert_eq!(manager["merge_slashes"], true);
        assert_eq!(manager["path_with_escaped_slashes_action"], "REJECT_REQUEST");
        assert_eq!(
            manager["common_http_protocol_options"]["headers_with_underscores_action"],
            "REJECT_REQUEST"
        );
        // A route timeout keeps running while a payment is settled.
        assert_eq!(manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"], "0s");
        let filters = manager["http_filters"].as_array().unwrap();
        let names: Vec<&str> = filters.iter().filter_map(|filter| filter["name"].as_str()).collect();
        assert_eq!(names, ["farebox", "envoy.filters.http.router"]);
        let discovery = &filters[0]["config_discovery"];
        assert_eq!(discovery["apply_default_config_without_warming"], true);
        let plugin = &discovery["default_config"]["config"];
        assert_eq!(plugin["failure_policy"], "FAIL_RELOAD");
        assert_eq!(plugin["vm_config"]["vm_id"], "farebox");
        assert!(plugin["vm_config"]["code"]["local"]["filename"].is_string());
        assert_eq!(plugin.get("configuration"), None);
    }

    #[test]
    fn tls_without_authorities_is_refused() {
        let places = Places { authorities: None, ..places("https://pay.example.com") };
        let error = render(shipped(), &places).unwrap_err().to_string();
        assert!(error.starts_with("no certificate authorities were found"), "{error}");
    }

    #[test]
    fn a_bootstrap_that_changed_its_places_is_refused() {
        let mut changed = shipped();
        *at(&mut changed, "/static_resources/listeners/0/address/socket_address/port_value").unwrap() =
            json!(10_001);
        let error = render(changed, &places("http://127.0.0.1:1004")).unwrap_err().to_string();
        assert_eq!(error, "the bootstrap has a listener on an unexpected port: Some(10001)");
    }
}
