use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use farebox_core::metrics::{Counted, MetricSeries, TupleCounter};
use farebox_core::rules::Gate;
use farebox_core::terms::{Tuple, Unmatched};
use tokio::sync::watch;
use tower::ServiceExt;

use super::*;
use crate::counts::{Gatherer, TupleTotals};
use crate::facilitator::{Credentials, FacilitatorClient};
use crate::gateway::Deployments;
use crate::ledger::Ledger;
use crate::publish::{Publication, Published};
use crate::rules::{NothingForSale, Readiness, ReloadResult};
use crate::serve;
use crate::serve::Shared;
use crate::settings::{Facilitators, Listen, RelaySettings, Settings, Settlement};
use crate::testing::{fake_facilitator, pricing, settings, tuple};

struct Stage {
    loader: Loader,
    state: Shared,
    published: watch::Receiver<Option<Publication>>,
    facilitator: String,
    ledger: Ledger,
    counters: BTreeMap<MetricSeries, u64>,
    folder: Arc<tempfile::TempDir>,
}

async fn stage_after(last: Option<Published>) -> Stage {
    stage_with(last, None).await
}

async fn stage_with(last: Option<Published>, relay: Option<RelaySettings>) -> Stage {
    let settlement = if relay.is_some() { Settlement::Relay } else { Settlement::Direct };
    stage_of(last, Settings { relay, ..settings(settlement) }).await
}

/// A stage where unmatched paths pass.
async fn passing_stage(last: Option<Published>) -> Stage {
    let mut settings = settings(Settlement::Direct);
    settings.filter.unmatched = Unmatched::Pass;
    stage_of(last, settings).await
}

async fn stage_of(last: Option<Published>, settings: Settings) -> Stage {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let url = Ledger::file_url(&folder.path().join("l.db"));
    let ledger = Ledger::open(&url, "c1", Default::default()).await.unwrap();
    stage_sharing(last, settings, ledger, folder).await
}

async fn stage_sharing(
    last: Option<Published>,
    settings: Settings,
    ledger: Ledger,
    folder: Arc<tempfile::TempDir>,
) -> Stage {
    let state = Shared::new("pricing.yaml".into());
    let readiness = Readiness::start(FacilitatorClient::new(Credentials::default()).unwrap());
    let (publications, published) = watch::channel(None);
    let loader = Loader::new(Arc::new(settings), state.for_loading(), readiness, publications, last);
    let loader = loader.sharing(Some(ledger.clone()));
    let (facilitator, counters) = (fake_facilitator().await, BTreeMap::new());
    Stage { loader, state, published, facilitator, ledger, counters, folder }
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
        self.state.lock().rules.last_attempt.as_ref().unwrap().result
    }

    fn generation(&self) -> u64 {
        self.state.lock().rules.active.as_ref().unwrap().generation
    }

    /// The protected prefixes.
    fn protected(&self) -> Vec<String> {
        self.pushed().rules.protected.clone()
    }

    fn kept_closed(&self) -> Option<String> {
        let state = self.state.lock();
        state.rules.kept_closed.as_ref().map(|kept| kept.describe("pricing.yaml"))
    }

    /// Advances the time, and calls `follow` often enough.
    async fn follow_after(&mut self, seconds: u64) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        self.loader.follow(None).await;
    }

    fn pushed(&self) -> Publication {
        self.published.borrow().clone().unwrap()
    }

    /// When the series of an offer that is pushed was born.
    fn born(&self, offer: &str) -> u64 {
        let tuples = &self.pushed().rules.tuples;
        tuples.iter().find(|tuple| tuple.offer_name == offer).unwrap().born
    }

    /// Sets the total of a series in the ledger.
    fn count(&mut self, offer: &str, born: u64, value: u64) {
        let series = MetricSeries::Tuple(tuple("ns", offer, born), TupleCounter::PaymentPresented);
        self.counters.insert(series, value);
        self.state.counted.lock().read(self.counters.clone());
    }

    /// A proxy with the last push reports a count of one for every offer.
    async fn report_everything(&self, sequence: u64) {
        let one = |tuple: &Tuple| (MetricSeries::Tuple(tuple.clone(), TupleCounter::PaymentPresented), 1);
        let changes = self.pushed().rules.tuples.iter().map(one).collect();
        let report = Counted { reporter: "envoy".to_owned(), sequence, changes, malformed: 0 };
        assert!(self.ledger.apply(&report).await.unwrap());
    }

    fn totals(&self) -> Vec<(String, u128)> {
        let totals = self.state.counted.lock().totals();
        let of = |(tuple, of): (&Tuple, &TupleTotals)| {
            (tuple.offer_name.clone(), of.get(TupleCounter::PaymentPresented))
        };
        totals.tuples.iter().map(of).collect()
    }
}

#[tokio::test]
async fn the_first_load_is_applied_with_a_generation_of_its_time_and_ready_kinds() {
    let mut stage = stage().await;
    let before = crate::clock::unix_seconds();
    assert_eq!(stage.load(&["a"]).await, ReloadResult::Applied);
    let generation = stage.generation();
    assert!((before * 1000..=crate::clock::unix_seconds() * 1000).contains(&generation), "{generation}");
    let rules = stage.pushed().rules;
    assert_eq!(rules.generation, generation);
    assert!(rules.facilitator.as_ref().unwrap().ready);
    assert!(rules.routes[0].options[0].v1_kind);
    assert_eq!(rules.tuples, [tuple("ns", "a", generation)]);
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
    assert_eq!(stage.state.lock().rules.reloads, [1, 1, 0]);
}

#[tokio::test]
async fn a_gateway_follows_every_load_also_where_only_an_upstream_changed() {
    let mut stage = stage().await;
    let gateway = Arc::new(Deployments::new(None, Duration::ZERO));
    stage.loader = stage.loader.with_gateway(Some(gateway.clone()));
    assert_eq!(stage.load(&["a", "b"]).await, ReloadResult::Applied);
    assert_eq!(gateway.generation(), Some(stage.generation()));
    assert_eq!(gateway.without_upstream(), ["/services/a/*", "/services/b/*"]);
    let findings: Vec<_> = {
        let state = stage.state.lock();
        let attempt = state.rules.last_attempt.as_ref().unwrap();
        attempt.findings.iter().map(|finding| finding.key.clone()).collect()
    };
    assert_eq!(findings, ["/services/a/*: upstreamURL", "/services/b/*: upstreamURL"]);
    let text = pricing(&stage.facilitator, &["a", "b"]);
    let routed = text.replace("  offerName: a\n", "  offerName: a\n  upstreamURL: http://127.0.0.1:1\n");
    assert_eq!(stage.load_text(&routed).await, ReloadResult::Unchanged);
    assert_eq!(gateway.without_upstream(), ["/services/b/*"]);
    assert_eq!(gateway.generation(), Some(stage.generation()));
    assert_eq!(stage.load_text("routes: [").await, ReloadResult::Rejected);
    assert_eq!(gateway.without_upstream(), ["/services/b/*"]);
}

#[tokio::test]
async fn a_rejected_file_changes_nothing_and_is_reported_with_its_lines() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    let (generation, pushed) = (stage.generation(), stage.pushed());
    let born = stage.born("a");
    stage.count("a", born, 7);
    for broken in ["", "routes: [", "wallet: nonsense\nroutes: []\n", "pattern: x\nroutes: []\n"] {
        assert_eq!(stage.load_text(broken).await, ReloadResult::Rejected, "{broken}");
        let state = stage.state.lock();
        let attempt = state.rules.last_attempt.as_ref().unwrap();
        assert!(!attempt.findings.is_empty(), "{broken}");
        assert!(attempt.cause("pricing.yaml").starts_with("pricing.yaml:"), "{broken}");
        assert!(state.rules.config_err_since.is_some());
        assert_eq!(state.not_ready(), None);
    }
    stage.loader.reload(Source::File, Err("pricing.yaml: cannot be read: gone".into())).await;
    assert_eq!(stage.state.lock().rules.last_attempt.as_ref().unwrap().result, ReloadResult::Rejected);
    assert_eq!((stage.generation(), stage.pushed()), (generation, pushed));
    assert_eq!(stage.totals(), [("a".to_owned(), 7)]);
    assert_eq!(stage.state.lock().rules.reloads, [1, 0, 5]);
    assert_eq!(stage.load(&["a"]).await, ReloadResult::Unchanged);
    assert_eq!(stage.state.lock().rules.config_err_since, None);
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
    let first = stage.pushed().rules.generation;
    stage.count("a", first, 3);
    stage.count("b", first, 5);
    stage.load(&["a"]).await;
    assert_eq!(stage.totals(), [("a".to_owned(), 3)]);
    assert_eq!(stage.generation(), first + 1);
    stage.load(&["a", "b"]).await;
    let third = stage.generation();
    assert_eq!(stage.pushed().rules.tuples, [tuple("ns", "a", first), tuple("ns", "b", third)]);
    stage.count("b", first, 6);
    stage.count("b", third, 1);
    assert_eq!(stage.totals(), [("a".to_owned(), 3), ("b".to_owned(), 1)]);
}

#[tokio::test]
async fn a_file_that_is_written_in_parts_opens_nothing_in_between() {
    let mut stage = passing_stage(None).await;
    stage.load(&["a", "b"]).await;
    let (before, sold) = (stage.generation(), stage.protected());
    assert_eq!((sold.len(), stage.kept_closed()), (2, None));
    assert_eq!(stage.load(&["a"]).await, ReloadResult::Applied);
    assert_eq!(stage.protected(), sold);
    let said = stage.kept_closed().unwrap();
    assert!(said.starts_with("/services/b stay closed (403) until "), "{said}");
    assert!(said.contains("because a file may be written in parts"), "{said}");
    assert_eq!(stage.pushed().rules.tuples.len(), 1, "series go with their offer");
    // An even shorter part, an unreadable part, and the whole file.
    stage.follow_after(9).await;
    stage.load(&[]).await;
    assert_eq!(stage.protected().len(), 2);
    stage.load_text("routes: [").await;
    stage.follow_after(11).await;
    assert_eq!(stage.protected().len(), 2, "what is in the file now is not what is in force");
    stage.load(&["a", "b"]).await;
    assert_eq!((stage.protected(), stage.kept_closed()), (sold, None));
    assert_eq!(stage.generation(), before + 3);
}

#[tokio::test]
async fn what_a_file_does_not_name_for_ten_seconds_passes() {
    let mut stage = passing_stage(None).await;
    stage.load(&["a", "b"]).await;
    stage.load(&["a"]).await;
    // The same file again does not restart the time.
    stage.follow_after(6).await;
    assert_eq!((stage.load(&["a"]).await, stage.protected().len()), (ReloadResult::Unchanged, 2));
    stage.follow_after(5).await;
    assert_eq!((stage.protected(), stage.kept_closed()), (vec!["/services/a".to_owned()], None));
    let generation = stage.generation();
    stage.follow_after(60).await;
    assert_eq!(stage.generation(), generation);
}

#[tokio::test]
async fn what_is_said_to_be_free_and_what_never_passes_is_not_kept_closed() {
    let mut stage = passing_stage(None).await;
    stage.load(&["a"]).await;
    let free = "routes:\n- pattern: /services/a/*\n  gate: free\n";
    assert_eq!(stage.load_text(free).await, ReloadResult::Applied);
    assert_eq!((stage.protected(), stage.kept_closed()), (vec![], None));
    let mut stage = self::stage().await;
    stage.load(&["a", "b"]).await;
    stage.load(&["a"]).await;
    assert_eq!((stage.protected().len(), stage.kept_closed()), (1, None));
}

#[tokio::test]
async fn what_is_kept_closed_stays_so_while_the_file_is_being_written() {
    let mut stage = passing_stage(None).await;
    stage.load(&["a", "b"]).await;
    stage.load(&["a"]).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    stage.loader.follow(Some(1_700_000_000)).await;
    assert_eq!(stage.protected().len(), 2);
    let said = stage.state.lock().rules.being_written().unwrap();
    assert!(said.starts_with("pricing.yaml has been open for writing since 1700000000"), "{said}");
    stage.loader.follow(None).await;
    assert_eq!((stage.protected().len(), stage.state.lock().rules.being_written()), (1, None));
}

#[tokio::test]
async fn a_companion_that_starts_with_a_part_of_a_file_opens_nothing_that_was_in_force_before() {
    let mut first = passing_stage(None).await;
    first.load(&["a", "b"]).await;
    // One that starts, beside it or after it, and another while that keeps closed what it does not name.
    for _ in 0..2 {
        let mut settings = settings(Settlement::Direct);
        settings.filter.unmatched = Unmatched::Pass;
        let mut stage = stage_sharing(None, settings, first.ledger.clone(), first.folder.clone()).await;
        stage.load(&["a"]).await;
        assert_eq!(stage.protected(), ["/services/a", "/services/b"]);
        assert!(stage.kept_closed().is_some());
    }
}

#[tokio::test]
async fn a_companion_that_starts_while_a_file_is_written_opens_nothing_that_was_published() {
    let last = Published { protected: vec!["/services/b".to_owned()], ..Published::default() };
    let mut stage = passing_stage(Some(last)).await;
    stage.load(&["a"]).await;
    assert_eq!(stage.protected(), ["/services/a", "/services/b"]);
    stage.follow_after(11).await;
    assert_eq!(stage.protected(), ["/services/a"]);
}

#[tokio::test]
async fn a_file_that_sells_nothing_is_ready_and_says_that_nothing_is_for_sale() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    assert_eq!(stage.state.lock().rules.nothing_for_sale(), None);
    stage.load(&[]).await;
    let said = "nothing is for sale: pricing.yaml has no paid route".to_owned();
    assert_eq!(stage.state.lock().rules.nothing_for_sale(), Some(NothingForSale::Meant(said.clone())));
    let request = Request::builder().uri("/status").body(Body::empty()).unwrap();
    let response = serve::router(stage.state.clone(), None, None).oneshot(request).await.unwrap();
    let status = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!((&status["ready"], &status["nothing_for_sale"]), (&true.into(), &said.into()));
}

#[tokio::test]
async fn a_changed_price_keeps_the_counters() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    let born = stage.born("a");
    stage.count("a", born, 3);
    let text = pricing(&stage.facilitator, &["a"]).replace("0.001", "0.002");
    assert_eq!(stage.load_text(&text).await, ReloadResult::Applied);
    assert_eq!(stage.totals(), [("a".to_owned(), 3)]);
}

#[tokio::test]
async fn a_changed_global_chain_and_a_repinned_asset_start_new_series() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    let born = stage.born("a");
    stage.count("a", born, 3);
    let text = pricing(&stage.facilitator, &["a"]).replace("base-sepolia", "base");
    assert_eq!(stage.load_text(&text).await, ReloadResult::Applied);
    let totals = stage.state.counted.lock().totals();
    let tuples: Vec<_> = totals.tuples.keys().map(|tuple| (&*tuple.chain, &*tuple.asset_symbol)).collect();
    assert_eq!(tuples, [("eip155:8453", "USDC")]);
    assert_eq!(stage.totals(), [("a".to_owned(), 0)]);
    let repinned = pricing(&stage.facilitator, &["a"]) + "  assetSymbol: OBOL\n";
    assert_eq!(stage.load_text(&repinned).await, ReloadResult::Applied);
    let totals = stage.state.counted.lock().totals();
    let tuples: Vec<_> = totals.tuples.keys().map(|tuple| (&*tuple.chain, &*tuple.asset_symbol)).collect();
    assert_eq!(tuples, [("eip155:84532", "OBOL")]);
}

#[tokio::test]
async fn a_skipped_route_is_blocked_and_its_series_go() {
    let mut stage = stage().await;
    stage.load(&["a"]).await;
    let born = stage.born("a");
    stage.count("a", born, 3);
    let text = pricing(&stage.facilitator, &["a"]).replace("0.001", "0");
    assert_eq!(stage.load_text(&text).await, ReloadResult::Applied);
    assert_eq!(stage.totals(), []);
    assert_eq!(stage.pushed().rules.routes[0].gate, Gate::Blocked);
    assert_eq!(stage.state.lock().rules.active.as_ref().unwrap().snapshot.skipped.len(), 1);
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
    assert!(stage.state.lock().facilitators.all[0].last_error.is_some());

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let kinds = r#"{"kinds":[{"x402Version":2,"scheme":"exact","network":"eip155:84532"}],"extensions":[],"signers":{}}"#;
    let router = axum::Router::new().route("/supported", axum::routing::get(async move || kinds));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut changes = stage.loader.facilitator_changes();
    while !stage.pushed().rules.facilitator.as_ref().unwrap().ready {
        let changed = tokio::time::timeout(Duration::from_secs(5), changes.changed()).await;
        changed.expect("the facilitator is asked again").unwrap();
        stage.loader.facilitator_changed().await;
    }
    assert_eq!(stage.generation(), first.generation + 1);
    assert_eq!(stage.state.lock().rules.reloads, [1, 0, 0], "no load was attempted");
}

fn relay_with(facilitators: Facilitators) -> RelaySettings {
    RelaySettings {
        listen: Listen::Tcp(([127, 0, 0, 1], 0).into()),
        tls: None,
        secret: None,
        ledger: String::new(),
        retention: Duration::from_secs(1),
        companion: "c1".into(),
        facilitators,
    }
}

#[tokio::test]
async fn a_fall_back_of_the_relay_makes_the_rules_ready_while_the_first_is_away() {
    let fallbacks = vec![fake_facilitator().await];
    let relay = relay_with(Facilitators { fallbacks: fallbacks.clone(), ..Facilitators::default() });
    let mut stage = stage_with(None, Some(relay)).await;
    stage.load_text(&pricing("http://127.0.0.1:1", &["a"])).await;
    assert!(stage.pushed().rules.facilitator.as_ref().unwrap().ready);
    let state = stage.state.lock();
    let ready: Vec<_> =
        state.facilitators.all.iter().map(|of| (of.url.as_str(), of.kinds.is_some())).collect();
    assert_eq!(ready, [("http://127.0.0.1:1", false), (fallbacks[0].as_str(), true)]);
}

#[tokio::test]
async fn a_file_that_adds_a_chain_with_a_dead_facilitator_closes_that_chain_alone() {
    let base = farebox_core::evm::chain_by_name("base").unwrap();
    let chains = [(base, vec!["http://127.0.0.1:1".to_owned()])].into();
    let relay = relay_with(Facilitators { chains, ..Facilitators::default() });
    let mut stage = stage_with(None, Some(relay)).await;
    let text = pricing(&fake_facilitator().await, &["a"]);
    stage.load_text(&text).await;
    assert_eq!(stage.state.lock().closed(), []);
    let more = "- {pattern: /b/*, price: '1', network: base, offerNamespace: ns, offerName: b}\n";
    assert_eq!(stage.load_text(&(text + more)).await, ReloadResult::Applied);
    let closed = stage.state.lock().closed();
    let closed: Vec<_> = closed.iter().map(|chain| (chain.network.as_str(), &*chain.offers)).collect();
    assert_eq!(closed, [("eip155:8453", &["ns/b".to_owned()][..])]);
}

#[tokio::test]
async fn after_a_restart_generations_go_on_rising_and_lives_go_on() {
    let ahead = crate::clock::unix_seconds() * 1000 + 1_000_000;
    let births = [(tuple("ns", "a", 0), 17), (tuple("ns", "gone", 0), 3)].into();
    let mut stage = stage_after(Some(Published { generation: ahead, births, protected: vec![] })).await;
    stage.load(&["a", "b"]).await;
    assert_eq!(stage.generation(), ahead + 1);
    let pushed = stage.pushed();
    assert_eq!(pushed.rules.tuples, [tuple("ns", "a", 17), tuple("ns", "b", ahead + 1)]);
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
    stage.state.counted.lock().read([].into());
    let (state, stop) = (stage.state.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let reader = std::thread::spawn(move || {
        let mut generations = BTreeSet::new();
        while !stopped.load(Ordering::Relaxed) {
            let counted = state.counted.lock();
            let state = state.lock();
            let active = state.rules.active.as_ref().unwrap();
            let counted: BTreeSet<_> = counted.totals().tuples.into_keys().collect();
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

/// The load takes eleven seconds of processor time without optimisation. Work that grows with the square of the
/// offers would take minutes. Wall-clock time would also measure the other tests.
const SCALE_LIMIT: Duration = Duration::from_secs(40);

/// Processor time of this process, user and system: fields 14 and 15, in hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_offers_go_and_come_back_and_leave_nothing_behind() {
    let name =
        |number: usize| format!("{}-{number:05}", if number.is_multiple_of(2) { "kept" } else { "goes" });
    let names: Vec<String> = (0..10_000).map(name).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let kept: Vec<&str> = all.iter().copied().filter(|name| name.starts_with("kept")).collect();
    let mut stage = stage().await;
    let gatherer = Arc::new(Gatherer::new(stage.ledger.clone(), stage.state.for_counts()));
    let server = serve::router(stage.state.clone(), Some(gatherer.clone()), None);
    let page = async || {
        let request = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
        let response = server.clone().oneshot(request).await.unwrap();
        let page = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(page.to_vec()).unwrap()
    };
    let offers_on = |page: &str| page.matches("\nobol_x402_verifier_requests_total{").count();

    let started = processor_time();
    stage.load(&all).await;
    for cycle in 1..=2 {
        stage.report_everything(2 * cycle - 1).await;
        assert_eq!(stage.load(&kept).await, ReloadResult::Applied);
        let half = page().await;
        assert_eq!((half.contains("goes-"), offers_on(&half)), (false, kept.len()));
        gatherer.tidy().await.unwrap();
        assert_eq!(stage.ledger.counters().await.unwrap().len(), kept.len(), "nothing of the others is left");
        stage.report_everything(2 * cycle).await;
        stage.load(&all).await;
        let full = page().await;
        assert_eq!(offers_on(&full), all.len());
        let mine = |offer: &str| {
            let line = full.lines().find(|line| line.contains("_requests_total{") && line.contains(offer));
            line.unwrap().rsplit_once(' ').unwrap().1.to_owned()
        };
        assert_eq!((mine("kept-00000"), mine("goes-00001")), ((2 * cycle).to_string(), "0".to_owned()));
    }
    let took = processor_time() - started;
    assert!(took < SCALE_LIMIT, "{took:?}");
}
