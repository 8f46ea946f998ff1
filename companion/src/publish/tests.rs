use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::{TypedExtensionConfig, async_data_source, data_source};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config;
use envoy_types::pb::google::protobuf::{Any, StringValue};
use farebox_core::rules::RuleSet;
use farebox_core::terms;
use prost::{Message, Name};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::proxies::PushState;
use super::*;
use crate::settings::{FacilitatorSettings, Settlement};
use crate::testing::{eventually, pricing, standing, tuple};

fn publication(generation: u64, offers: &[&str]) -> Publication {
    let snapshot = farebox_pricing::load(&pricing("https://pay.example.com", offers)).snapshot.unwrap();
    let facilitator = FacilitatorSettings {
        url: None,
        allow_plain_http: false,
        cluster: "facilitator".into(),
        verify_timeout: Duration::from_secs(5),
        settle_timeout: Duration::from_secs(60),
        settlement: Settlement::Direct,
    };
    let endpoint = facilitator.endpoint(snapshot.facilitator_url.as_deref(), true).unwrap();
    let births = BTreeMap::from([(tuple("ns", "a", 0), 5)]);
    let rules =
        snapshot.push(generation, &terms::Settings::default(), &endpoint, &births, &BTreeSet::default());
    Publication { rules: Arc::new(rules), upstreams: snapshot.upstreams.into() }
}

struct Stage {
    _folder: tempfile::TempDir,
    path: PathBuf,
    state: Handle<PublishState>,
    publications: watch::Sender<Option<Publication>>,
    publisher: JoinHandle<()>,
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter.yaml");
    let state = Handle::<PublishState>::default();
    let settings = settings(path.clone());
    let publisher = Publisher::new(&settings, state.clone());
    publisher.ensure_file().unwrap();
    let (publications, published) = watch::channel(None);
    let publisher = tokio::spawn(publisher.run(published));
    Stage { _folder: folder, path, state, publications, publisher }
}

fn settings(publish: PathBuf) -> EnvoySettings {
    EnvoySettings { wasm: "/filter.wasm".into(), publish, discovery: None }
}

fn configuration(path: &Path) -> (Value, String) {
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let configuration = file["resources"][0]["typed_config"]["config"]["configuration"]["value"].clone();
    (file, configuration.as_str().unwrap().to_owned())
}

#[test]
fn the_resource_is_the_one_envoy_discovers() {
    let text = Filter::new("/filter.wasm", &publication(9, &["a"])).file();
    let file: Value = serde_json::from_str(&text).unwrap();
    let resource = &file["resources"][0];
    assert_eq!(resource["@type"], "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    assert_eq!(resource["name"], "farebox");
    assert_eq!(
        resource["typed_config"]["@type"],
        "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
    );
    let config = &resource["typed_config"]["config"];
    assert_eq!((&config["name"], &config["root_id"]), (&Value::from("farebox"), &Value::from("farebox")));
    assert_eq!(config["failure_policy"], "FAIL_RELOAD");
    assert_eq!(config["vm_config"]["vm_id"], "farebox");
    assert_eq!(config["vm_config"]["runtime"], "envoy.wasm.runtime.v8");
    assert_eq!(config["vm_config"]["code"]["local"]["filename"], "/filter.wasm");
    assert_eq!(config["vm_config"].get("configuration"), None, "no push replaces a VM");
    let pushed = RuleSet::from_json(config["configuration"]["value"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(pushed.generation, 9);
}

fn unpack<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(&*any.value).unwrap()
}

/// The message in the form of the file.
fn as_in_the_file(message: &Any) -> Value {
    let text = |any: &Any| {
        let value = unpack::<StringValue>(any).value;
        json!({"@type": any.type_url, "value": value})
    };
    let resource: TypedExtensionConfig = unpack(message);
    let typed = resource.typed_config.unwrap();
    let filter = unpack::<Wasm>(&typed).config.unwrap();
    let failure_policy = filter.failure_policy().as_str_name();
    let plugin_config::Vm::VmConfig(vm) = filter.vm.unwrap();
    let Some(async_data_source::Specifier::Local(local)) = vm.code.unwrap().specifier else { panic!() };
    let Some(data_source::Specifier::Filename(filename)) = local.specifier else { panic!() };
    json!({"resources": [{
        "@type": message.type_url,
        "name": resource.name,
        "typed_config": {"@type": typed.type_url, "config": {
            "name": filter.name,
            "root_id": filter.root_id,
            "failure_policy": failure_policy,
            "vm_config": {
                "vm_id": vm.vm_id,
                "runtime": vm.runtime,
                "code": {"local": {"filename": filename}},
            },
            "configuration": text(&filter.configuration.unwrap()),
        }},
    }]})
}

#[test]
fn the_message_says_what_the_file_says() {
    let publication = publication(9, &["a", "b"]);
    for filter in [Filter::new("/filter.wasm", &publication), Filter::closed("/filter.wasm")] {
        let file: Value = serde_json::from_str(&filter.file()).unwrap();
        assert_eq!(as_in_the_file(&filter.message()), file);
    }
}

#[tokio::test]
async fn a_publication_is_offered_once_even_if_its_file_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path().join("missing/filter.yaml"));
    let state = Handle::<PublishState>::default();
    let publisher = Publisher::new(&settings, state);
    let mut current = publisher.resource.subscribe();
    assert_eq!(*current.borrow_and_update(), None);
    let publication = publication(9, &["a"]);
    assert!(!publisher.publish(&publication));
    let filter = Filter::new("/filter.wasm", &publication);
    let (version, message) = (filter.version(9), filter.message());
    assert!(version.starts_with("9-") && version != Filter::new("/other.wasm", &publication).version(9));
    assert_eq!(*current.borrow_and_update().clone().unwrap(), Resource { version, message });
    assert!(!publisher.publish(&publication));
    assert!(!current.has_changed().unwrap());
}

#[test]
fn the_resource_shipped_for_envoy_sells_for_nobody() {
    let shipped = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../envoy");
        std::fs::read_to_string(folder.join(name)).unwrap()
    };
    assert_eq!(farebox_pricing::load(&shipped("pricing.yaml")).findings, []);
    let closed = Filter::closed("/usr/share/farebox/farebox-envoy.wasm").file();
    assert_eq!(shipped("filter.yaml"), closed);
}

#[test]
fn what_was_published_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter.yaml");
    assert_eq!(ecds::last_published(&path), None);
    file::replace(&path, Filter::closed("/filter.wasm").file().as_bytes()).unwrap();
    assert_eq!(ecds::last_published(&path), None);
    file::replace(&path, Filter::new("/filter.wasm", &publication(9, &["a", "b"])).file().as_bytes())
        .unwrap();
    let births = BTreeMap::from([(tuple("ns", "a", 0), 5), (tuple("ns", "b", 0), 9)]);
    let protected = ["/services/a", "/services/b"].map(str::to_owned).into();
    assert_eq!(ecds::last_published(&path), Some(Published { generation: 9, births, protected }));
}

#[test]
fn a_file_is_replaced_in_one_move_and_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter.yaml");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    file::replace(&path, b"one").unwrap();
    assert_eq!(mode(), 0o644);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let open = std::fs::File::open(&path).unwrap();
    file::replace(&path, b"two").unwrap();
    assert_eq!(mode(), 0o640);
    assert_eq!(std::fs::read(&path).unwrap(), b"two");
    assert_eq!(std::io::read_to_string(open).unwrap(), "one");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn before_the_first_rules_a_closed_filter_stands_in_and_is_never_put_back() {
    let stage = stage().await;
    assert_eq!(configuration(&stage.path).1, "");
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("published", || !configuration(&stage.path).1.is_empty()).await;
    Publisher::new(&settings(stage.path.clone()), stage.state.clone()).ensure_file().unwrap();
    assert!(!configuration(&stage.path).1.is_empty());
}

#[tokio::test]
async fn a_push_is_confirmed_by_what_the_proxy_reports_and_written_once() {
    let stage = stage().await;
    let push = || stage.state.lock().proxies.iter().next().map(ProxyState::push);
    let hear = |generation| {
        let standing = standing("a", generation);
        stage.state.lock().proxies.heard("e0", &standing, 0, standing.unix_ms);
    };
    hear(0);
    assert_eq!(push(), Some(PushState::Idle));
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("pending", || push() == Some(PushState::Pending)).await;
    eventually("published", || !configuration(&stage.path).1.is_empty()).await;
    let written = std::fs::metadata(&stage.path).unwrap().modified().unwrap();
    hear(9);
    assert_eq!(push(), Some(PushState::Confirmed));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(std::fs::metadata(&stage.path).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_reported_and_tried_again() {
    let stage = stage().await;
    let folder = stage.path.parent().unwrap().to_owned();
    std::fs::remove_dir_all(&folder).unwrap();
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("reported", || stage.state.lock().publish_error.is_some()).await;
    std::fs::create_dir(&folder).unwrap();
    eventually("written", || stage.path.exists() && stage.state.lock().publish_error.is_none()).await;
    assert!(!stage.publisher.is_finished());
}
