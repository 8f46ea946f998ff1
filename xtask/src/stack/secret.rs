//! An Envoy that shows the relay a secret: the shipped pieces, put into a bootstrap.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::bootstrap::{at, list};
use crate::paths;

/// Has the cluster `farebox` of a bootstrap show the secret of a file.
pub fn install_relay_secret(bootstrap: &mut Value, file: &Path) -> Result<()> {
    let shipped = paths::workspace().join("envoy/relay-secret.yaml");
    let text = std::fs::read_to_string(&shipped).with_context(|| format!("{}", shipped.display()))?;
    let mut pieces: Value = serde_saphyr::from_str(&text).context("the pieces are not YAML")?;
    *at(&mut pieces, "/secrets/0/generic_secret/secret/filename")? = json!(file);
    let options = at(&mut pieces, "/typed_extension_protocol_options")?.take();
    at(bootstrap, "/static_resources")?["secrets"] = at(&mut pieces, "/secrets")?.take();
    let clusters = list(bootstrap, "/static_resources/clusters")?;
    let relay = clusters.iter_mut().find(|cluster| cluster["name"] == "farebox");
    relay.context("the bootstrap has no cluster `farebox`")?["typed_extension_protocol_options"] = options;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_pieces_change_the_relays_cluster_in_nothing_but_the_secret() {
        let shipped = std::fs::read_to_string(paths::workspace().join("envoy/bootstrap.yaml")).unwrap();
        let plain: Value = serde_saphyr::from_str(&shipped).unwrap();
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
}
