use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_core::metrics::{HostSeries, TupleCounter};
use farebox_core::rules::{Gate, Settings as Filter};
use tokio::sync::watch;

use super::*;
use crate::aggregate::Aggregate;
use crate::http;
use crate::publish::{Publication, Published};
use crate::settings::{FacilitatorSettings, Settings, Settlement};
use crate::state::{ReloadResult, Shared, State};
use crate::testing::{eventually, fake_facilitator, pricing, tuple};

struct Stage {
    loader: Loader,
    state: Shared,
    published: watch::Receiver<Option<Publication>>,
    facilitator: String,
}

async fn stage_after(last: Option<Published>) -> Stage {
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        pricing: "pricing.yaml".into(),
        watch: true,
        facilitator: FacilitatorSettings {
            url: None,
            cluster: "facilitator".into(),
            verify_timeout: Duration::from_secs(5),
            settle_timeout: Duration::from_secs(60),
            settlement: Settlement::Direct,
        },
        relay: None,
        filter: Filter::default(),
        envoy: None,
        traefik: None,
    };
    let births = last.as_ref().map(|last| last.births.clone());
    let state = Shared::new(State::new("pricing.yaml".into(), Vec::new(), Aggregate::with_births(births)));
    let readiness = Readiness::start(http::client_builder().build().unwrap());
    let (publications, published) = watch::channel(None);
    let loader = Loader::new(Arc::new(settings), state.clone(), readiness, publications, last);
    Stage { loader, state, published, facilitator: fake_facilitator().await }
}

async fn stage() -> Stage {
    stage_after(None).await
}

impl Stage {
    async fn load(&mut self, offers: &[&str]) -> ReloadResult {
        let text = pricing(&self.facilitator, offers);
        self.load_text(&text).await
    }

    async fn load_text(&mut self, text: &str) -> ReloadResult {
        self.loader.reload(Source::File, Ok(text.to_owned())).await;
        self.state.lock().last_attempt.as_ref().unwrap().result
    }

    fn generation(&self) -> u64 {
        self.state.lock().active.as_ref().unwrap().generation
    }

    fn pushed(&self) -> Publication {
        self.published.borrow().clone().unwrap()
    }

    fn count(&self, offer: &str, born: u64, value: u64) {
        let series = HostSeries::Tuple(tuple("ns", offer, born), TupleCounter::PaymentPresented);
        let report = crate::testing::report(1, vec![(series, value)]);
        self.state.lock().aggregate.ingest(&format!("envoy-of-{offer}-{born}"), report);
    }

    fn totals(&self) -> Vec<(String, u128)> {
        let totals = self.state.lock().aggregate.totals();
        let of = |(tuple, of): (&farebox_core::rules::Tuple, &crate::aggregate::TupleTotals)| {
            (tuple.offer_name.clone(), of.get(TupleCounter::PaymentPresented))
        };
        totals.tuples.iter().map(of).collect()
    }
}

#[tokio::test]
async fn the_first_load_is_applied_with_a_generation_of_its_time_and_ready_kinds() {
    let mut stage = stage().await;
    let before = crate::state::unix_seconds();
    assert_eq!(stage.load(&["a"]).await, ReloadResult::Applied);
    let generation = stage.generation();
    assert!((before * 1000..=crate::state::unix_seconds() * 1000).contains(&generation), "{generation}");
    let rules = stage.pushed().rules;
    assert_eq!(rules.generation, generation);
    assert!(rules.facilitator.as_ref().unwrap().ready);
    assert!(rules.routes[0].options[0].v1_kind);
    assert_eq!(rules.tuples, [tuple("ns", "a", 0)]);
    assert_eq!(stage.state.lock().not_ready(), None);
}

#[tokio::test]
async fn equal_rules_are_unchanged_and_take_no_generation() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    let generation = stage.generation();
    let commented = format!("# a comment\n{}", pricing(&stage.facilitator, &["a"]));
    assert_eq!(stage.load_text(&commented).await, ReloadResult::Unchanged);
    assert_eq!(stage.generation(), generation);
    assert_eq!(stage.state.lock().reloads, [1, 1, 0]);
}

#[tokio::test]
async fn a_rejected_file_changes_nothing_and_is_reported_with_its_lines() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    let (generation, pushed) = (stage.generation(), stage.pushed());
    stage.count("a", 0, 7);
    for broken in ["", "routes: [", "wallet: nonsense\nroutes: []\n", "pattern: x\nroutes: []\n"] {
        assert_eq!(stage.load_text(broken).await, ReloadResult::Rejected, "{broken}");
        let state = stage.state.lock();
        let attempt = state.last_attempt.as_ref().unwrap();
        assert!(!attempt.findings.is_empty(), "{broken}");
        assert!(attempt.cause("pricing.yaml").starts_with("pricing.yaml:"), "{broken}");
        assert!(state.config_err_since.is_some());
        assert_eq!(state.not_ready(), None);
    }
    stage.loader.reload(Source::File, Err("pricing.yaml: cannot be read: gone".into())).await;
    assert_eq!(stage.state.lock().last_attempt.as_ref().unwrap().result, ReloadResult::Rejected);
    assert_eq!((stage.generation(), stage.pushed()), (generation, pushed));
    assert_eq!(stage.totals(), [("a".to_owned(), 7)]);
    assert_eq!(stage.state.lock().reloads, [1, 0, 5]);
    assert_eq!(stage.load(&["a"]).await, ReloadResult::Unchanged);
    assert_eq!(stage.state.lock().config_err_since, None);
}

#[tokio::test]
async fn without_a_first_good_load_the_companion_is_not_ready_and_says_why() {
    let mut stage = stage().await;
    assert_eq!(
        stage.state.lock().not_ready(),
        Some("configuration not loaded: no attempt has finished yet".into())
    );
    stage.load_text("routes: [").await;
    let cause = stage.state.lock().not_ready().unwrap();
    assert!(cause.starts_with("configuration not loaded: pricing.yaml:"), "{cause}");
    assert_eq!(*stage.published.borrow(), None);
}

#[tokio::test]
async fn a_removed_offer_is_gone_and_comes_back_clean() {
    let mut stage = stage().await;
    stage.load(&["a", "b"]).await;
    let first = stage.pushed();
    stage.count("a", 0, 3);
    stage.count("b", 0, 5);
    stage.load(&["a"]).await;
    assert_eq!(stage.totals(), [("a".to_owned(), 3)]);
    let second = stage.pushed();
    assert_eq!(second.rules.generation, first.rules.generation + 1);
    assert_eq!((first.swept, second.swept), (0, second.rules.generation));
    stage.load(&["a", "b"]).await;
    let third = stage.pushed();
    assert_eq!(third.swept, second.swept, "nothing was removed since");
    assert_eq!(third.rules.tuples, [tuple("ns", "a", 0), tuple("ns", "b", third.rules.generation)]);
    stage.count("b", 0, 6);
    stage.count("b", third.rules.generation, 1);
    assert_eq!(stage.totals(), [("a".to_owned(), 3), ("b".to_owned(), 1)]);
}

#[tokio::test]
async fn a_changed_price_keeps_the_counters() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    stage.count("a", 0, 3);
    let text = pricing(&stage.facilitator, &["a"]).replace("0.001", "0.002");
    assert_eq!(stage.load_text(&text).await, ReloadResult::Applied);
    assert_eq!(stage.totals(), [("a".to_owned(), 3)]);
    assert_eq!(stage.pushed().swept, 0);
}

#[tokio::test]
async fn a_changed_global_chain_and_a_repinned_asset_start_new_series() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    stage.count("a", 0, 3);
    let text = pricing(&stage.facilitator, &["a"]).replace("base-sepolia", "base");
    assert_eq!(stage.load_text(&text).await, ReloadResult::Applied);
    let totals = stage.state.lock().aggregate.totals();
    let tuples: Vec<_> = totals.tuples.keys().map(|tuple| (&*tuple.chain, &*tuple.asset_symbol)).collect();
    assert_eq!(tuples, [("eip155:8453", "USDC")]);
    assert_eq!(stage.totals(), [("a".to_owned(), 0)]);
    let repinned = pricing(&stage.facilitator, &["a"]) + "  assetSymbol: OBOL\n";
    assert_eq!(stage.load_text(&repinned).await, ReloadResult::Applied);
    let totals = stage.state.lock().aggregate.totals();
    let tuples: Vec<_> = totals.tuples.keys().map(|tuple| (&*tuple.chain, &*tuple.asset_symbol)).collect();
    assert_eq!(tuples, [("eip155:84532", "OBOL")]);
}

#[tokio::test]
async fn a_skipped_route_is_blocked_and_its_series_go() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    stage.count("a", 0, 3);
    let text = pricing(&stage.facilitator, &["a"]).replace("0.001", "0");
    assert_eq!(stage.load_text(&text).await, ReloadResult::Applied);
    assert_eq!(stage.totals(), []);
    assert_eq!(stage.pushed().rules.routes[0].gate, Gate::Blocked);
    assert_eq!(stage.state.lock().active.as_ref().unwrap().snapshot.skipped.len(), 1);
}

#[tokio::test]
async fn a_facilitator_that_comes_up_later_makes_the_same_rules_ready() {
    let mut stage = stage().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    stage.load_text(&pricing(&format!("http://{address}"), &["a"])).await;
    let first = stage.pushed().rules;
    assert!(!first.facilitator.as_ref().unwrap().ready);
    assert!(stage.state.lock().facilitator.last_error.is_some());

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let kinds = r#"{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:84532"}],"extensions":[],"signers":{}}"#;
    let router = axum::Router::new().route("/supported", axum::routing::get(async move || kinds));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    eventually("ready", || {
        stage.loader.facilitator_changed();
        stage.pushed().rules.facilitator.as_ref().unwrap().ready
    })
    .await;
    assert_eq!(stage.generation(), first.generation + 1);
    assert_eq!(stage.state.lock().reloads, [1, 0, 0], "no load was attempted");
}

#[tokio::test]
async fn after_a_restart_generations_go_on_rising_and_lives_go_on() {
    let ahead = crate::state::unix_seconds() * 1000 + 1_000_000;
    let births = [(tuple("ns", "a", 0), 17), (tuple("ns", "gone", 0), 3)].into();
    let mut stage = stage_after(Some(Published { generation: ahead, births, swept: 16 })).await;
    stage.load(&["a", "b"]).await;
    assert_eq!(stage.generation(), ahead + 1);
    let pushed = stage.pushed();
    assert_eq!(pushed.rules.tuples, [tuple("ns", "a", 17), tuple("ns", "b", ahead + 1)]);
    assert_eq!(pushed.swept, ahead + 1, "an offer went while the companion was away");
}

#[tokio::test]
async fn a_facilitator_that_hangs_holds_up_the_first_load_only() {
    let mut stage = stage().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.facilitator = format!("http://{}", silent.local_addr().unwrap());
    stage.load(&["a", "b"]).await;
    assert!(!stage.pushed().rules.facilitator.as_ref().unwrap().ready);
    let started = std::time::Instant::now();
    assert_eq!(stage.load(&["a"]).await, ReloadResult::Applied);
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_one_load_or_the_next_and_never_a_mix() {
    let mut stage = stage().await;
    let offers = [vec!["a", "b"], vec!["c"], vec!["a", "c", "d"]];
    stage.load(&offers[0]).await;
    let (state, stop) = (stage.state.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        let mut generations = BTreeSet::new();
        while !stopped.load(Ordering::Relaxed) {
            let state = state.lock();
            let active = state.active.as_ref().unwrap();
            let counted: BTreeSet<_> = state.aggregate.totals().tuples.into_keys().collect();
            assert_eq!(counted, active.snapshot.keep_set());
            generations.insert(active.generation);
        }
        generations.len()
    });
    for round in 1..60 {
        assert_eq!(stage.load(&offers[round % 3]).await, ReloadResult::Applied);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap();
    assert!(seen > 5, "{seen} loads were seen");
}
