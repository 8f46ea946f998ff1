mod muxer;
mod routing;
mod shipped;

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::Path as Segments;
use axum::routing::get;
use farebox_core::rules::RuleSet;
use farebox_core::terms;
use farebox_pricing::HttpUrl;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::serve::Shared;
use crate::settings::{FacilitatorSettings, Settlement, Signature, SpoolSettings};
use crate::testing::{eventually, pricing, serve, tuple};

const GATEWAY_URL: &str = "http://gateway:9405";
const DEFAULT_URL: &str = "http://default:8000";

fn settings() -> TraefikSettings {
    TraefikSettings {
        entry_points: vec!["web".into()],
        gateway: HttpUrl::parse(GATEWAY_URL).unwrap(),
        upstream: HttpUrl::parse(DEFAULT_URL).ok(),
        publish: None,
        http: true,
        signature: Signature::Guest,
        requests_in_flight: 1_000,
        spool: SpoolSettings {
            folder: "/var/spool/farebox".into(),
            file: "/spool/farebox".into(),
            max_bytes: 1 << 20,
        },
        api: None,
    }
}

fn pushed(generation: u64) -> PushedRules {
    let snapshot = farebox_pricing::load(&pricing("https://pay.example.com", &["a"])).snapshot.unwrap();
    let facilitator = FacilitatorSettings {
        allow_plain_http: false,
        url: None,
        cluster: "facilitator".into(),
        verify_timeout: Duration::from_secs(5),
        settle_timeout: Duration::from_secs(60),
        settlement: Settlement::Relay,
    };
    let endpoint = facilitator.endpoint(snapshot.facilitator_url.as_deref(), true).unwrap();
    let births = BTreeMap::from([(tuple("ns", "a", 0), 5)]);
    snapshot.push(generation, &terms::Settings::default(), &endpoint, &births, &BTreeSet::default())
}

fn publication(generation: u64) -> Publication {
    Publication {
        rules: Arc::new(pushed(generation)),
        upstreams: vec![farebox_pricing::RouteUpstream::default()].into(),
    }
}

struct Stage {
    state: Handle<PublishState>,
    endpoint: Endpoint,
    publications: watch::Sender<Option<Publication>>,
    publisher: JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

fn stage(settings: TraefikSettings) -> Stage {
    let state = Handle::<PublishState>::default();
    let publisher = TraefikPublisher::new(settings, state.clone(), Handle::default());
    let endpoint = publisher.endpoint().unwrap();
    let (publications, published) = watch::channel(None);
    let publisher = tokio::spawn(publisher.run(published));
    Stage { state, endpoint, publications, publisher }
}

/// The rules and settings in the one string the plugin reads.
fn config(text: &str) -> Value {
    let body: Value = serde_json::from_str(text).unwrap();
    let plugin = body["http"]["middlewares"]["farebox"]["plugin"]["farebox"].as_object().unwrap();
    assert_eq!(plugin.keys().collect::<Vec<_>>(), ["config"]);
    serde_json::from_str(plugin["config"].as_str().unwrap()).unwrap()
}

#[test]
fn the_plugin_reads_what_is_published() {
    let text = body::of(&pushed(7), &[], &settings());
    let config = config(&text);
    assert_eq!(config["signature"], "guest");
    assert_eq!(config["spool"], json!({"file": "/spool/farebox", "maxBytes": 1 << 20}));
    assert_eq!(RuleSet::from_json(config["rules"].to_string().as_bytes()).unwrap().generation, 7);
    assert_eq!(config.as_object().unwrap().len(), 3);
    let gateway = TraefikSettings { signature: Signature::Gateway, ..settings() };
    assert_eq!(self::config(&body::of(&pushed(7), &[], &gateway))["signature"], "gateway");
}

#[test]
fn every_router_with_the_plugin_bounds_how_many_instances_of_it_there_are() {
    let text = body::of(&pushed(7), &[], &TraefikSettings { requests_in_flight: 64, ..settings() });
    let body: Value = serde_json::from_str(&text).unwrap();
    let limit = &body["http"]["middlewares"][LIMIT]["inFlightReq"];
    assert_eq!(limit["amount"], 64);
    let by = limit["sourceCriterion"]["requestHeaderName"].as_str().unwrap();
    let alike = &body["http"]["middlewares"][ALIKE]["headers"];
    assert_eq!(
        alike["customRequestHeaders"],
        json!({ by: "" }),
        "whatever a client sends of it is taken away before"
    );
    let routers = body["http"]["routers"].as_object().unwrap();
    let with_plugin: Vec<_> = routers.iter().filter(|(name, _)| !name.ends_with("-shield")).collect();
    assert!(!with_plugin.is_empty() && with_plugin.len() < routers.len());
    for (name, router) in with_plugin {
        assert_eq!(router["middlewares"], json!([ALIKE, LIMIT, NAME]), "{name}");
    }
}

#[test]
fn a_secret_of_an_upstream_is_in_no_push() {
    let text = pricing("https://pay.example.com", &["a"]).replace(
        "  offerName: a\n",
        "  offerName: a\n  upstreamAuth: Bearer hush\n  upstreamURL: http://one:1\n- pattern: /free\n  gate: free\n  upstreamAuth: Bearer hush\n  upstreamURL: http://one:1\n",
    );
    let snapshot = farebox_pricing::load(&text).snapshot.unwrap();
    assert!(snapshot.upstreams.iter().all(|upstream| upstream.credential.is_some()));
    let text = body::of(&pushed(1), &snapshot.upstreams, &settings());
    assert!(!text.contains("hush") && !text.contains("http://one:1"), "{text}");
}

#[tokio::test]
async fn the_endpoint_says_so_until_there_are_rules() {
    let stage = stage(settings());
    assert_eq!(stage.endpoint.text().await, Err("no rules are in force yet\n"));
    let waiting = stage.endpoint.clone();
    let waiting = tokio::spawn(async move { waiting.text().await });
    stage.publications.send_replace(Some(publication(3)));
    assert_eq!(
        waiting.await.unwrap(),
        stage.endpoint.text().await,
        "whoever waits for the first rules gets them"
    );
    assert_eq!(config(&stage.endpoint.text().await.unwrap())["rules"]["generation"], 3);
    eventually("told", || stage.state.lock().traefik.as_ref().unwrap().pushed == Some(3)).await;
    let state = stage.state.lock();
    let traefik = state.traefik.as_ref().unwrap();
    assert_eq!((traefik.pushed, traefik.polled_at.is_some()), (Some(3), true));
    assert_eq!(
        (traefik.push(None, 0), traefik.push(Some(2), 0), traefik.push(Some(3), 0)),
        ("pending", "pending", "confirmed")
    );
}

#[tokio::test]
async fn changes_follow_no_faster_than_traefik_takes_them_and_the_last_one_wins() {
    let stage = stage(settings());
    let generation = || stage.state.lock().traefik.as_ref().unwrap().pushed;
    stage.publications.send_replace(Some(publication(1)));
    eventually("the first is published at once", || generation() == Some(1)).await;
    let began = Instant::now();
    for next in 2..=5 {
        stage.publications.send_replace(Some(publication(next)));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(generation(), Some(1));
    }
    eventually("the last is published", || generation() == Some(5)).await;
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_file_is_replaced_only_when_it_changes_and_read_back_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("farebox.yaml");
    let with_file = TraefikSettings { publish: Some(path.clone()), ..settings() };
    assert_eq!(last_published(&path), None);
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    {
        let stage = stage(with_file.clone());
        stage.publications.send_replace(Some(publication(4)));
        eventually("written", || path.exists()).await;
        eventually("told", || stage.state.lock().traefik.as_ref().unwrap().pushed == Some(4)).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), stage.endpoint.text().await.unwrap());
    }
    let births = BTreeMap::from([(tuple("ns", "a", 0), 5)]);
    assert_eq!(
        last_published(&path),
        Some(Published { generation: 4, births, protected: vec!["/services/a".to_owned()] })
    );
    let before = inode();
    let stage = stage(with_file);
    stage.publications.send_replace(Some(publication(4)));
    eventually("told", || stage.state.lock().traefik.as_ref().unwrap().pushed == Some(4)).await;
    assert_eq!(inode(), before, "Traefik would build the plugin anew");
}

#[tokio::test]
async fn traefik_finds_it_at_the_companions_own_address() {
    let stage = stage(settings());
    stage.publications.send_replace(Some(publication(4)));
    let shared = Shared { published: stage.state.clone(), ..Shared::new("pricing.yaml".into()) };
    let router = crate::serve::router(shared, None, Some(stage.endpoint.clone()));
    let client = crate::http::client_builder().build().unwrap();
    let answer = client.get(format!("{}/traefik", serve(router).await)).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    assert_eq!(config(&answer.text().await.unwrap())["rules"]["generation"], 4);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_said_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let path = missing.join("farebox.yaml");
    let stage = stage(TraefikSettings { publish: Some(path.clone()), ..settings() });
    stage.publications.send_replace(Some(publication(4)));
    let error = || stage.state.lock().traefik.as_ref().unwrap().publish_error.clone();
    eventually("said", || error().is_some_and(|error| error.contains("cannot be written"))).await;
    std::fs::create_dir(&missing).unwrap();
    eventually("written", || path.exists() && error().is_none()).await;
}

#[tokio::test]
async fn the_api_of_traefik_tells_what_it_has_loaded() {
    async fn said(middleware: Value, router: Value) -> Result<Loaded, String> {
        let answer = async move |Segments((kind, name)): Segments<(String, String)>| {
            assert_eq!(name, "farebox@http");
            if kind == "routers" { router.to_string() } else { middleware.to_string() }
        };
        let url = serve(Router::new().route("/api/http/{kind}/{name}", get(answer))).await;
        let client = crate::http::client_builder().build().unwrap();
        Api::new(url, &settings()).read(&client).await
    }
    let body: Value = serde_json::from_str(&body::of(&pushed(9), &[], &settings())).unwrap();
    let with = |status: &str, error: &[&str]| {
        let mut middleware = body["http"]["middlewares"]["farebox"].clone();
        middleware["status"] = status.into();
        middleware["error"] = json!(error);
        middleware
    };
    let good = with("enabled", &[]);
    let loaded = |error: Option<&str>| Ok(Loaded { generation: Some(9), error: error.map(str::to_owned) });
    assert_eq!(said(good.clone(), json!({"status": "enabled"})).await, loaded(None));
    assert_eq!(
        said(with("disabled", &["no wasm"]), json!({"status": "enabled"})).await,
        loaded(Some("no wasm"))
    );
    let router = json!({"status": "disabled", "error": ["no plugin", "no service"]});
    assert_eq!(said(good.clone(), router).await, loaded(Some("no plugin; no service")));
    let other = said(json!({"status": "enabled"}), json!({"status": "enabled"})).await;
    assert_eq!(other, Ok(Loaded { generation: None, error: None }));
    assert!(said(json!("x"), json!(7)).await.is_ok_and(|loaded| loaded.error.is_some()));
}

#[test]
fn a_push_that_traefik_has_and_cannot_use_is_refused() {
    let state = |error: Option<&str>, generation| TraefikState {
        pushed: Some(5),
        api: Some(Ok(Loaded { generation: Some(generation), error: error.map(str::to_owned) })),
        ..TraefikState::default()
    };
    assert_eq!(TraefikState::default().push(Some(9), 0), "idle");
    assert_eq!(state(None, 5).push(None, 0), "confirmed");
    assert_eq!(state(Some("no"), 5).push(Some(5), 0), "refused");
    assert_eq!(state(Some("no"), 4).push(Some(4), 0), "pending");
}

#[test]
fn a_traefik_that_is_not_heard_of_or_does_not_count_is_named() {
    let loaded = |generation| Some(Ok(Loaded { generation: Some(generation), error: None }));
    let known = TraefikState { pushed: Some(5), pushed_at: 100, is_asked: true, ..TraefikState::default() };
    let says = |state: &TraefikState, started, now| state.trouble(started, now).unwrap_or_default();
    assert_eq!(says(&TraefikState::default(), None, 1_000), "");

    // Traefik polls for the rules, or does not.
    assert_eq!(says(&known, None, 159), "");
    assert!(says(&known, Some(5), 160).contains("does not ask for its rules"));
    assert_eq!(known.push(Some(5), 160), "silent");
    let asking = TraefikState { polled_at: Some(950), ..known.clone() };
    assert_eq!((says(&asking, Some(5), 1_000), asking.push(Some(5), 1_000)), (String::new(), "confirmed"));
    let by_file = TraefikState { is_asked: false, ..known };
    assert_eq!(says(&by_file, None, 1_000), "");

    // Traefik's API answers, or does not.
    let dead = TraefikState { api: Some(Err("refused".to_owned())), ..asking.clone() };
    assert_eq!(says(&dead, Some(5), 129), "");
    assert!(says(&dead, Some(5), 1_000).starts_with("Traefik's API does not answer: refused"));
    assert_eq!(dead.push(Some(5), 1_000), "silent");

    // The plugin says in the spool that it began, or does not.
    let lost = TraefikState { api: loaded(5), ..asking };
    for started in [None, Some(4)] {
        assert_eq!(says(&lost, started, 129), "");
        assert!(says(&lost, started, 1_000).contains("no spool says"));
        assert_eq!(lost.push(started, 1_000), "confirmed");
    }
    assert_eq!(says(&lost, Some(5), 1_000), "");
    let not_yet = TraefikState { api: loaded(4), ..lost };
    assert_eq!(says(&not_yet, Some(4), 1_000), "");
}
