//! The resource Envoy's extension config discovery reads from a file.

use std::collections::BTreeMap;
use std::path::Path;

use farebox_core::rules::{PushedRules, Tuple};
use serde_json::{Value, json};

use super::Publication;

/// Name of the resource, the filter, its root context and its VM. Changing the VM's name would empty the
/// replay table, so it never changes.
const NAME: &str = "farebox";

/// What an earlier run of the companion published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Generation of the push; the next must be higher.
    pub generation: u64,
    /// When each tuple (`born` 0 in the key) was born.
    pub births: BTreeMap<Tuple, u64>,
    /// See [`crate::state::Active::swept`].
    pub swept: u64,
}

/// The resource of a publication.
pub(super) fn resource(wasm: &str, publication: &Publication) -> String {
    // Strings, integers and string-keyed maps only: writing them cannot fail.
    let configuration = serde_json::to_string(&*publication.rules).unwrap_or_default();
    render(wasm, &configuration, publication.swept)
}

/// The resource of a filter that has no rules and refuses everything.
pub(super) fn closed(wasm: &str) -> String {
    render(wasm, "", 0)
}

fn render(wasm: &str, configuration: &str, swept: u64) -> String {
    let text =
        |value: &str| json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value});
    let filter = json!({
        "name": NAME,
        "root_id": NAME,
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {
            "vm_id": NAME,
            "runtime": "envoy.wasm.runtime.v8",
            // A new value gives fresh VMs, and Envoy forgets the counters they do not define.
            "configuration": text(&format!("gc-{swept}")),
            "code": {"local": {"filename": wasm}},
        },
        "configuration": text(configuration),
    });
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": NAME,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": filter,
        },
    });
    format!("{:#}\n", json!({"resources": [resource]}))
}

/// Reads back what was published, so that generations go on rising and lives go on over a restart of the
/// companion. `None` if there is nothing readable.
pub fn last_published(path: &Path) -> Option<Published> {
    let resource: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let config = resource.pointer("/resources/0/typed_config/config")?;
    let rules: PushedRules = serde_json::from_str(config.pointer("/configuration/value")?.as_str()?).ok()?;
    let swept =
        config.pointer("/vm_config/configuration/value")?.as_str()?.strip_prefix("gc-")?.parse().ok()?;
    let births =
        rules.tuples.into_iter().map(|tuple| (Tuple { born: 0, ..tuple.clone() }, tuple.born)).collect();
    Some(Published { generation: rules.generation, births, swept })
}
