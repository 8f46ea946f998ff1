//! The resource Envoy's extension config discovery reads, from a file or over gRPC.

use std::collections::BTreeMap;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, DataSource, TypedExtensionConfig, async_data_source, data_source,
};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::{FailurePolicy, PluginConfig, VmConfig, plugin_config};
use envoy_types::pb::google::protobuf::{Any, StringValue};
use envoy_types::util::pack_any;
use farebox_core::evm::keccak256;
use farebox_core::rules::PushedRules;
use farebox_core::terms::Tuple;
use prost::Name;
use serde_json::{Value, json};

use super::Publication;

/// Name of the resource, the filter, its root context and its VM. It never changes, because another VM name
/// would lose the payments in shared data.
pub(super) const NAME: &str = "farebox";
/// The engine of Envoy's official builds.
const RUNTIME: &str = "envoy.wasm.runtime.v8";
/// After a crash, requests under way fail, and the next request gets a new VM.
const FAILURE_POLICY: FailurePolicy = FailurePolicy::FailReload;

/// The last publication of an earlier run of the companion.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Generation of the push; the next must be higher.
    pub generation: u64,
    /// When each tuple (`born` 0 in the key) was born.
    pub births: BTreeMap<Tuple, u64>,
    /// See [`PushedRules::protected`].
    pub protected: Vec<String>,
}

/// The filter with its rules. Each form of the push is made of it.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    /// Path of the filter's wasm file, as Envoy sees it.
    wasm: &'a str,
    /// The configuration for the filter.
    configuration: String,
}

// === impl Published ===

impl From<PushedRules> for Published {
    fn from(rules: PushedRules) -> Self {
        let birth = |tuple: Tuple| (Tuple { born: 0, ..tuple.clone() }, tuple.born);
        let births = rules.tuples.into_iter().map(birth).collect();
        Self { generation: rules.generation, births, protected: rules.protected }
    }
}

// === impl Filter ===

impl<'a> Filter<'a> {
    /// The filter with the rules of a publication.
    pub(super) fn new(wasm: &'a str, publication: &Publication) -> Self {
        // Writing strings, integers and maps with string keys cannot fail.
        let configuration = publication.rules.to_lines();
        Self { wasm, configuration }
    }

    /// The filter without rules, which refuses every request.
    pub(super) fn closed(wasm: &'a str) -> Self {
        Self { wasm, configuration: String::new() }
    }

    /// Its version: the generation of its rules, and a hash of all other settings. The hash is needed because
    /// companions of one ledger give the same rules the same generation, also with different settings of the
    /// filter.
    pub(super) fn version(&self, generation: u64) -> String {
        let [a, b, c, d, ..] = keccak256(self.wasm.as_bytes());
        format!("{generation}-{a:02x}{b:02x}{c:02x}{d:02x}")
    }

    /// The text of the file for Envoy's discovery.
    pub(super) fn file(&self) -> String {
        let text = |value: &str| json!({"@type": StringValue::type_url(), "value": value});
        let filter = json!({
            "name": NAME,
            "root_id": NAME,
            "failure_policy": FAILURE_POLICY.as_str_name(),
            "vm_config": {
                "vm_id": NAME,
                "runtime": RUNTIME,
                "code": {"local": {"filename": self.wasm}},
            },
            "configuration": text(&self.configuration),
        });
        let resource = json!({
            "@type": TypedExtensionConfig::type_url(),
            "name": NAME,
            "typed_config": {"@type": Wasm::type_url(), "config": filter},
        });
        format!("{:#}\n", json!({"resources": [resource]}))
    }

    /// The same as a message.
    pub(super) fn message(&self) -> Any {
        let text = |value: &str| pack_any(StringValue { value: value.to_owned() });
        let file = data_source::Specifier::Filename(self.wasm.to_owned());
        let code = async_data_source::Specifier::Local(DataSource {
            specifier: Some(file),
            ..DataSource::default()
        });
        let vm = VmConfig {
            vm_id: NAME.to_owned(),
            runtime: RUNTIME.to_owned(),
            code: Some(AsyncDataSource { specifier: Some(code) }),
            ..VmConfig::default()
        };
        let filter = PluginConfig {
            name: NAME.to_owned(),
            root_id: NAME.to_owned(),
            failure_policy: FAILURE_POLICY.into(),
            vm: Some(plugin_config::Vm::VmConfig(vm)),
            configuration: Some(text(&self.configuration)),
            ..PluginConfig::default()
        };
        pack_any(TypedExtensionConfig {
            name: NAME.to_owned(),
            typed_config: Some(pack_any(Wasm { config: Some(filter) })),
        })
    }
}

/// Reads the last published file, so that generations still rise, and series keep their births, after a
/// restart of the companion. `None` if there is no readable file.
pub(super) fn last_published(path: &Path) -> Option<Published> {
    let resource: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let config = resource.pointer("/resources/0/typed_config/config")?;
    let rules: PushedRules = serde_json::from_str(config.pointer("/configuration/value")?.as_str()?).ok()?;
    Some(Published::from(rules))
}
