use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use farebox_core::evm::Amount;
use farebox_core::metrics::{
    BlockedReason, CallOutcome, Counted, FailureReason, MetricSeries, Standing, TupleCounter, Written,
};
use farebox_core::protocol::{Operation, RELAY_PROXY};
use farebox_core::terms::Tuple;
use tower::ServiceExt;

use super::*;
use crate::ledger::Ledger;
use crate::publish::ProxyState;
use crate::rules::Active;
use crate::serve::Shared;
use crate::testing::{Database, on_every_database, pricing, standing, tuple};

on_every_database! {
    a_report_is_counted_once_to_whichever_companion_it_is_told,
    a_report_of_what_is_gone_is_taken_and_what_it_says_is_dropped_and_counted_once,
    a_report_waits_for_the_rules_and_for_those_of_its_proxy,
    money_is_taken_from_a_report_only_where_filters_settle,
    a_counter_that_cannot_grow_further_stays_stops_nothing_and_is_named_once,
    totals_are_those_of_all_companions_and_what_is_gone_goes_for_all,
}

const GENERATION: u64 = 7;

fn requests(offer: &str, born: u64) -> MetricSeries {
    MetricSeries::Tuple(tuple("ns", offer, born), TupleCounter::PaymentRequired)
}

fn births(tuples: &[(&str, u64)]) -> BTreeMap<Tuple, u64> {
    tuples.iter().map(|(offer, born)| (tuple("ns", offer, 0), *born)).collect()
}

/// Rules with these offers are in force.
fn load(state: &Shared, generation: u64, tuples: &[(&str, u64)]) {
    let offers: Vec<&str> = tuples.iter().map(|(offer, _)| *offer).collect();
    let snapshot = farebox_pricing::load(&pricing("https://pay.example.com", &offers)).snapshot.unwrap();
    let keys = Keys::from(&snapshot);
    state.counted.lock().apply(births(tuples), keys.offers);
    let snapshot = std::sync::Arc::new(snapshot);
    state.lock().rules.active = Some(Active { generation, hash: "0x00".into(), snapshot, applied_at: 1 });
}

/// A companion of this name on a database.
async fn companion(database: &Database, name: &str) -> (Ledger, Shared, Router) {
    let ledger = Ledger::open(&database.url, name, Default::default()).await.unwrap();
    let state = Shared::new("pricing.yaml".into());
    (ledger.clone(), state.clone(), reports::router(ledger, state.for_counts()))
}

/// What a filter reports under a number.
fn report(sequence: u64, changes: &[(MetricSeries, u64)]) -> Vec<u8> {
    let mut written = Written::new("vm.0", sequence);
    changes.iter().for_each(|(series, by)| written.push(series, *by));
    [standing("vm", GENERATION).line(), written.into_bytes()].concat()
}

async fn tell(router: &Router, body: Vec<u8>) -> u16 {
    let request = Request::post("/report").header(RELAY_PROXY, "e0").body(Body::from(body));
    router.clone().oneshot(request.unwrap()).await.unwrap().status().as_u16()
}

async fn a_report_is_counted_once_to_whichever_companion_it_is_told(database: Database) {
    let (ledger, first, to_first) = companion(&database, "c1").await;
    let (_, second, to_second) = companion(&database, "c2").await;
    for state in [&first, &second] {
        load(state, GENERATION, &[("a", 3)]);
    }
    let one = report(1, &[(requests("a", 3), 2)]);
    let told = tokio::join!(tell(&to_first, one.clone()), tell(&to_second, one.clone()));
    assert_eq!(told, (204, 204));
    assert_eq!(tell(&to_first, one).await, 204);
    assert_eq!(tell(&to_second, report(2, &[(requests("a", 3), 5)])).await, 204);
    assert_eq!(tell(&to_first, report(2, &[(requests("a", 3), 5)])).await, 204);
    assert_eq!(ledger.counters().await.unwrap(), [(requests("a", 3), 7)].into());
    let state = first.lock();
    let names: Vec<(&str, Option<u64>)> =
        state.published.proxies.iter().map(|proxy| (proxy.name.as_str(), proxy.confirmed())).collect();
    assert_eq!(names, [("e0", Some(GENERATION))]);
}

async fn a_report_of_what_is_gone_is_taken_and_what_it_says_is_dropped_and_counted_once(database: Database) {
    let (ledger, state, router) = companion(&database, "c1").await;
    load(&state, GENERATION, &[("a", 3)]);
    let mut body = report(1, &[(requests("a", 2), 1), (requests("b", 1), 1), (requests("a", 3), 1)]);
    body.extend_from_slice(b"nonsense\n");
    for _ in 0..2 {
        assert_eq!(tell(&router, body.clone()).await, 204);
    }
    assert_eq!(ledger.counters().await.unwrap(), [(requests("a", 3), 1)].into());
    assert_eq!(DropReason::ALL.map(|reason| state.counted.lock().dropped(reason)), [1, 1, 1, 0]);
    // A filter that lost reports says how many.
    let lost = Standing { lost: 4, ..standing("vm", GENERATION) };
    assert_eq!(tell(&router, lost.line()).await, 204);
    assert_eq!(state.counted.lock().dropped(DropReason::Lost), 4);
    assert_eq!(tell(&router, b"nonsense\n".to_vec()).await, 400);
}

async fn a_report_waits_for_the_rules_and_for_those_of_its_proxy(database: Database) {
    let (ledger, state, router) = companion(&database, "c1").await;
    let one = report(1, &[(requests("a", 3), 1)]);
    assert_eq!(tell(&router, one.clone()).await, 503, "nobody knows yet what may exist");
    assert_eq!(
        state.lock().published.proxies.iter().map(ProxyState::confirmed).collect::<Vec<_>>(),
        [Some(GENERATION)]
    );
    // Another companion published the rules that its proxy has.
    load(&state, GENERATION - 1, &[("b", 3)]);
    assert_eq!(tell(&router, one.clone()).await, 503);
    load(&state, GENERATION, &[("a", 3)]);
    assert_eq!(tell(&router, one).await, 204);
    assert_eq!(ledger.counters().await.unwrap().len(), 1);
    ledger.close().await;
    assert_eq!(tell(&router, report(2, &[(requests("a", 3), 1)])).await, 503);
    assert!(state.lock().ledger.error.is_some());
}

async fn money_is_taken_from_a_report_only_where_filters_settle(database: Database) {
    let (ledger, state, router) = companion(&database, "c1").await;
    load(&state, GENERATION, &[("a", 5)]);
    let money = [
        MetricSeries::Charged(tuple("ns", "a", 5), Amount::from_u64(10)),
        MetricSeries::LastSuccess(tuple("ns", "a", 5)),
        MetricSeries::Tuple(tuple("ns", "a", 5), TupleCounter::UnresolvedOpened),
    ]
    .map(|series| (series, 1));
    assert_eq!(tell(&router, report(1, &money)).await, 204);
    assert_eq!(ledger.counters().await.unwrap(), [].into());
    assert_eq!(state.counted.lock().dropped(DropReason::Malformed), 3);
    state.lock().ledger.settles_direct = true;
    assert_eq!(tell(&router, report(2, &money)).await, 204);
    assert_eq!(ledger.counters().await.unwrap(), money.into());
}

async fn a_counter_that_cannot_grow_further_stays_stops_nothing_and_is_named_once(database: Database) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let lines = tracing_subscriber::fmt().with_writer(Arc::new(std::fs::File::create(&path).unwrap()));
    let _guard = tracing::subscriber::set_default(lines.with_ansi(false).finish());
    let (ledger, state, router) = companion(&database, "c1").await;
    load(&state, GENERATION, &[("a", 5)]);
    for (sequence, by) in [(1, u64::MAX), (2, 1 << 53), (3, 1)] {
        assert_eq!(tell(&router, report(sequence, &[(requests("a", 5), by)])).await, 204);
        assert_eq!(ledger.counters().await.unwrap(), [(requests("a", 5), 1 << 53)].into());
    }
    let said = std::fs::read_to_string(path).unwrap();
    let said: Vec<_> = said.lines().filter(|line| line.contains("brings a counter to 2^53")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let name = farebox_core::metrics::series_name(&requests("a", 5));
    assert!(said[0].contains(&format!("series={name:?}")) && said[0].contains("reporter="), "{said:?}");
}

async fn totals_are_those_of_all_companions_and_what_is_gone_goes_for_all(database: Database) {
    let (first, first_state, _) = companion(&database, "c1").await;
    let (second, second_state, _) = companion(&database, "c2").await;
    let count = async |ledger: &Ledger, reporter: &str, at: u64| {
        let changes = [
            (requests("a", 1), 2),
            (requests("b", 1), 1),
            (MetricSeries::LastSuccess(tuple("ns", "a", 1)), at),
        ];
        let reporter = reporter.to_owned();
        let report = Counted { reporter, sequence: 1, changes: changes.into(), malformed: 0 };
        assert!(ledger.apply(&report).await.unwrap());
    };
    count(&first, "r1", 90).await;
    count(&second, "r2", 80).await;
    for (ledger, state) in [(&first, &first_state), (&second, &second_state)] {
        load(state, GENERATION, &[("a", 1), ("b", 1)]);
        std::sync::Arc::new(Gatherer::new(ledger.clone(), state.for_counts())).show().await;
        let totals = state.counted.lock().totals();
        let a = &totals.tuples[&tuple("ns", "a", 0)];
        assert_eq!((a.get(TupleCounter::PaymentRequired), a.last_success), (4, Some(90)));
    }
    load(&first_state, GENERATION + 1, &[("a", 1)]);
    Gatherer::new(first.clone(), first_state.for_counts()).tidy().await.unwrap();
    assert_eq!(first_state.counted.lock().totals().tuples.len(), 1);
    assert_eq!(second.counters().await.unwrap().len(), 2, "a's, of both companions");
}

#[test]
fn a_series_lives_as_long_as_its_tuple_or_offer_and_a_life_before_does_not_count() {
    let offers = [("ns".to_owned(), "a".to_owned())].into();
    let keep = KeepSet::new(births(&[("a", 5)]), offers);
    let blocked = |namespace: &str, name: &str| {
        MetricSeries::Blocked(namespace.into(), name.into(), BlockedReason::ALL[0])
    };
    for (series, verdict) in [
        (requests("a", 5), Verdict::Kept),
        (requests("a", 6), Verdict::Kept),
        (requests("a", 4), Verdict::Stale),
        (requests("b", 9), Verdict::Pruned),
        (MetricSeries::Charged(tuple("ns", "a", 4), Amount::from_u64(1)), Verdict::Stale),
        (MetricSeries::LastSuccess(tuple("other", "a", 5)), Verdict::Pruned),
        (blocked("ns", "a"), Verdict::Kept),
        (blocked("ns", "b"), Verdict::Pruned),
        (blocked("", ""), Verdict::Kept),
        (MetricSeries::CallMillis(Operation::Settle, CallOutcome::ALL[0]), Verdict::Kept),
    ] {
        assert_eq!(keep.judge(&series), verdict, "{series:?}");
    }
}

#[test]
fn what_exists_is_shown_at_zero_before_traffic_and_prices_and_lives_add_up() {
    let mut counts = Counts::default();
    assert_eq!(counts.totals(), Totals::default());
    counts.apply(births(&[("a", 5), ("b", 5)]), [].into());
    assert_eq!(counts.totals(), Totals::default(), "a zero instead of a total that was not read is a lie");
    counts.read([].into());
    let totals = counts.totals();
    assert_eq!((totals.tuples.len(), totals.blocked.len()), (2, BlockedReason::ALL.len()));
    assert_eq!(totals.calls.len(), 2 * CallOutcome::ALL.len());
    let charged = |born, amount| MetricSeries::Charged(tuple("ns", "a", born), Amount::from_u64(amount));
    let failed = TupleCounter::PaymentFailed(FailureReason::Other);
    let settling = |born, counter| MetricSeries::Tuple(tuple("ns", "a", born), counter);
    let gone = counts.read(
        [
            (charged(5, 10), 2),
            (charged(6, 1_000), 3),
            (charged(4, 7), 1),
            (settling(5, failed), 4),
            // What one life closed says nothing about another.
            (settling(5, TupleCounter::UnresolvedClosed), 3),
            (settling(6, TupleCounter::UnresolvedOpened), 2),
        ]
        .into(),
    );
    assert_eq!(gone, [charged(4, 7)].into());
    let totals = counts.totals();
    let a = &totals.tuples[&tuple("ns", "a", 0)];
    assert_eq!((a.charged, a.amount.to_string().as_str(), a.failed(), a.unresolved()), (5, "3020", 4, 2));
    counts.apply(births(&[("a", 6)]), [].into());
    let a = counts.totals().tuples.remove(&tuple("ns", "a", 0)).unwrap();
    assert_eq!((a.charged, a.failed()), (3, 0));
}
