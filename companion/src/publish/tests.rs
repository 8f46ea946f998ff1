use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use envoy_types::pb::envoy::config::core::v3::{TypedExtensionConfig, async_data_source, data_source};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::wasm::v3::plugin_config;
use envoy_types::pb::google::protobuf::{Any, StringValue};
use farebox_core::metrics::HostSeries;
use farebox_core::rules::{self, RuleSet};
use prost::{Message, Name};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::aggregate::Aggregate;
use crate::settings::{FacilitatorSettings, Proxy, Settlement};
use crate::state::State;
use crate::testing::{FakeEnvoy, eventually, pricing, tuple};

fn publication(generation: u64, offers: &[&str]) -> Publication {
    let snapshot = rules::load(&pricing("https://pay.example.com", offers)).snapshot.unwrap();
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
        snapshot.push(generation, &rules::Settings::default(), &endpoint, &births, &BTreeSet::default());
    Publication { rules: Arc::new(rules), upstreams: snapshot.upstreams.into(), swept: 3 }
}

struct Stage {
    _folder: tempfile::TempDir,
    path: PathBuf,
    state: Shared,
    envoy: FakeEnvoy,
    publications: watch::Sender<Option<Publication>>,
    publisher: JoinHandle<()>,
}

async fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("filter.yaml");
    let envoy = FakeEnvoy::start().await;
    let proxies = vec![Proxy { name: "e0".into(), stats: envoy.url.clone() }];
    let states = vec![ProxyState::new("e0".into(), envoy.url.clone())];
    let state = Shared::new(State::new("pricing.yaml".into(), states, Aggregate::default()));
    let collector = Arc::new(Collector::new(proxies.clone(), state.clone()).unwrap());
    let settings = EnvoySettings {
        wasm: "/filter.wasm".into(),
        publish: path.clone(),
        discovery: None,
        proxies,
        names: Vec::new(),
        announced: None,
        scrape_interval: Duration::from_secs(5),
    };
    let publisher = Publisher::new(&settings, state.clone(), collector.clone());
    publisher.ensure_file().unwrap();
    collector.collect().await;
    let (publications, published) = watch::channel(None);
    let publisher = tokio::spawn(publisher.run(published));
    Stage { _folder: folder, path, state, envoy, publications, publisher }
}

impl Stage {
    fn push(&self) -> PushState {
        self.state.lock().proxies[0].push
    }
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
    assert_eq!(config["vm_config"]["configuration"]["value"], "gc-3");
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
                "configuration": text(&vm.configuration.unwrap()),
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
    let settings = EnvoySettings {
        wasm: "/filter.wasm".into(),
        publish: folder.path().join("missing/filter.yaml"),
        discovery: None,
        names: Vec::new(),
        announced: None,
        proxies: Vec::new(),
        scrape_interval: Duration::from_secs(5),
    };
    let state = Shared::new(State::new("pricing.yaml".into(), Vec::new(), Aggregate::default()));
    let collector = Arc::new(Collector::new(Vec::new(), state.clone()).unwrap());
    let publisher = Publisher::new(&settings, state, collector);
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
    assert_eq!(rules::load(&shipped("pricing.yaml")).findings, []);
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
    assert_eq!(ecds::last_published(&path), Some(Published { generation: 9, births, swept: 3 }));
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
    let settings = EnvoySettings {
        wasm: "/filter.wasm".into(),
        publish: stage.path.clone(),
        discovery: None,
        proxies: Vec::new(),
        names: Vec::new(),
        announced: None,
        scrape_interval: Duration::from_secs(5),
    };
    let collector = Arc::new(Collector::new(Vec::new(), stage.state.clone()).unwrap());
    Publisher::new(&settings, stage.state.clone(), collector).ensure_file().unwrap();
    assert!(!configuration(&stage.path).1.is_empty());
}

#[tokio::test]
async fn a_push_is_confirmed_by_the_proxys_own_generation() {
    let stage = stage().await;
    assert_eq!(stage.push(), PushState::Idle);
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("pending", || stage.push() == PushState::Pending).await;
    stage.envoy.set(|answers| answers.generation = Some(9));
    eventually("confirmed", || stage.push() == PushState::Confirmed).await;
    let state = stage.state.lock();
    assert_eq!((state.proxies[0].pushed, state.proxies[0].confirmed), (Some(9), Some(9)));
}

#[tokio::test]
async fn a_refused_push_is_reported_and_not_sent_again() {
    let stage = stage().await;
    stage.envoy.set(|answers| {
        answers.generation = Some(8);
        answers.rejected = 4;
    });
    eventually("noted", || {
        stage.publications.send_replace(Some(publication(8, &["a"])));
        stage.push() == PushState::Confirmed
    })
    .await;
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("pending", || stage.push() == PushState::Pending).await;
    let written = std::fs::metadata(&stage.path).unwrap().modified().unwrap();
    stage.envoy.set(|answers| answers.rejected = 5);
    eventually("refused", || stage.push() == PushState::Refused).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(std::fs::metadata(&stage.path).unwrap().modified().unwrap(), written);
    assert_eq!(stage.state.lock().proxies[0].confirmed, Some(8));
    // The next good push is a new one, and confirmed as such.
    stage.publications.send_replace(Some(publication(10, &["a"])));
    stage.envoy.set(|answers| answers.generation = Some(10));
    eventually("confirmed", || stage.push() == PushState::Confirmed).await;
}

#[tokio::test]
async fn the_proxies_are_read_before_a_push_that_drops_their_metrics() {
    let stage = stage().await;
    let sweeping = publication(9, &["a"]);
    let keys = crate::aggregate::Keys {
        tuples: BTreeSet::from([tuple("ns", "a", 0)]),
        offers: BTreeSet::from([("ns".to_owned(), "a".to_owned())]),
    };
    stage.state.counted().apply(9, keys);
    stage.envoy.count(&HostSeries::LastSuccess(tuple("ns", "a", 9)), 1_700_000_000);
    stage.envoy.set(|answers| answers.delay = Duration::from_millis(100));
    stage.publications.send_replace(Some(Publication { swept: 9, ..sweeping }));
    eventually("published", || !configuration(&stage.path).1.is_empty()).await;
    let totals = stage.state.counted().totals();
    assert_eq!(totals.tuples[&tuple("ns", "a", 0)].last_success, Some(1_700_000_000));
}

#[tokio::test]
async fn a_configuration_somebody_else_offered_is_told_until_the_next_push_is_confirmed() {
    let stage = stage().await;
    let refusals = || stage.state.lock().proxies[0].refusals();
    stage.envoy.set(|answers| {
        answers.generation = Some(9);
        answers.rejected = 4;
    });
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("confirmed", || stage.push() == PushState::Confirmed).await;
    assert_eq!(refusals(), 0);
    stage.envoy.set(|answers| answers.rejected = 5);
    eventually("told", || {
        // Writing the same push again has the proxy read again.
        stage.publications.send_replace(Some(publication(9, &["a"])));
        refusals() == 1
    })
    .await;
    assert_eq!(stage.push(), PushState::Confirmed);
    stage.envoy.set(|answers| answers.generation = Some(10));
    stage.publications.send_replace(Some(publication(10, &["a"])));
    eventually("healed", || stage.push() == PushState::Confirmed && refusals() == 0).await;
}

#[tokio::test]
async fn refusals_counted_before_the_push_are_not_its_own() {
    let stage = stage().await;
    stage.envoy.set(|answers| answers.rejected = 4);
    let collector = Collector::new(
        vec![Proxy { name: "e0".into(), stats: stage.envoy.url.clone() }],
        stage.state.clone(),
    );
    collector.unwrap().collect().await;
    stage.publications.send_replace(Some(publication(9, &["a"])));
    eventually("pending", || stage.push() == PushState::Pending).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.push(), PushState::Pending);
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
