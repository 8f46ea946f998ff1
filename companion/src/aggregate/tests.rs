use farebox_core::evm::Amount;
use farebox_core::metrics::{BlockedReason, CallOutcome, FailureReason, TupleCounter};
use farebox_core::protocol::Operation;

use super::*;

fn tuple(name: &str, chain: &str, born: u64) -> Tuple {
    Tuple {
        offer_namespace: "ns".into(),
        offer_name: name.into(),
        chain: chain.into(),
        asset_symbol: "USDC".into(),
        born,
    }
}

pub(super) fn base(name: &str, born: u64) -> Tuple {
    tuple(name, "eip155:8453", born)
}

pub(super) fn keys(names: &[&str]) -> Keys {
    Keys {
        tuples: names.iter().map(|name| base(name, 0)).collect(),
        offers: names.iter().map(|name| ("ns".to_owned(), (*name).to_owned())).collect(),
    }
}

pub(super) fn requests(name: &str, born: u64) -> HostSeries {
    HostSeries::Tuple(base(name, born), TupleCounter::PaymentPresented)
}

pub(super) fn charged(name: &str, born: u64, amount: u64) -> HostSeries {
    HostSeries::Charged(base(name, born), Amount::from_u64(amount))
}

/// A reading of a process that started at this Unix second.
pub(super) fn report(started: i64, values: &[(HostSeries, u64)]) -> Report {
    crate::testing::report(started, values.to_vec())
}

/// An aggregate whose first load had these offers.
pub(super) fn loaded(names: &[&str]) -> Aggregate {
    let mut aggregate = Aggregate::default();
    aggregate.apply(1000, keys(names));
    aggregate
}

pub(super) fn total(aggregate: &Aggregate, name: &str) -> Option<u128> {
    aggregate.totals().tuples.get(&base(name, 0)).map(|totals| totals.get(TupleCounter::PaymentPresented))
}

fn dropped(aggregate: &Aggregate) -> [u64; 3] {
    [DropReason::Pruned, DropReason::StaleGeneration, DropReason::Malformed]
        .map(|reason| aggregate.totals().dropped(reason))
}

#[test]
fn sources_add_up_and_a_value_read_twice_changes_nothing() {
    let mut aggregate = loaded(&["a"]);
    for _ in 0..3 {
        aggregate.ingest("e1", report(10, &[(requests("a", 0), 7)]));
        aggregate.ingest("e2", report(10, &[(requests("a", 0), 5)]));
    }
    assert_eq!(total(&aggregate, "a"), Some(12));
}

#[test]
fn a_missed_reading_costs_nothing() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 1)]));
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 90)]));
    assert_eq!(total(&aggregate, "a"), Some(90));
}

#[test]
fn a_restarted_proxy_counts_on() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", report(100, &[(requests("a", 0), 7)]));
    aggregate.ingest("e1", report(200, &[(requests("a", 0), 9)]));
    assert_eq!(total(&aggregate, "a"), Some(16));
    aggregate.ingest("e1", report(200, &[(requests("a", 0), 10)]));
    assert_eq!(total(&aggregate, "a"), Some(17));
}

#[test]
fn a_start_within_tolerance_is_no_restart() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", report(100, &[(requests("a", 0), 7)]));
    aggregate.ingest("e1", report(102, &[(requests("a", 0), 8)]));
    assert_eq!(total(&aggregate, "a"), Some(8));
}

#[test]
fn one_counter_going_down_is_a_reset_of_that_counter_only() {
    let mut aggregate = loaded(&["a", "b"]);
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 7), (requests("b", 0), 7)]));
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 2), (requests("b", 0), 8)]));
    assert_eq!((total(&aggregate, "a"), total(&aggregate, "b")), (Some(9), Some(8)));
}

#[test]
fn a_vanished_name_keeps_what_it_gave() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 7)]));
    aggregate.ingest("e1", report(10, &[]));
    assert_eq!(total(&aggregate, "a"), Some(7));
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 1)]));
    assert_eq!(total(&aggregate, "a"), Some(8));
}

#[test]
fn living_tuples_are_zero_before_traffic_and_have_no_gauge() {
    let totals = loaded(&["a"]).totals();
    assert_eq!(totals.tuples, BTreeMap::from([(base("a", 0), TupleTotals::default())]));
    assert_eq!(totals.tuples[&base("a", 0)].last_success, None);
}

#[test]
fn a_removed_offer_loses_every_series_and_the_others_none() {
    let mut aggregate = loaded(&["a", "b"]);
    let blocked = |name: &str| HostSeries::Blocked("ns".into(), name.into(), BlockedReason::UpgradeRefused);
    let values = ["a", "b"].map(|name| {
        [
            (requests(name, 0), 7),
            (charged(name, 0, 1000), 3),
            (HostSeries::LastSuccess(base(name, 0)), 55),
            (blocked(name), 2),
        ]
    });
    aggregate.ingest("e1", report(10, values.as_flattened()));
    aggregate.apply(2000, keys(&["a"]));
    let totals = aggregate.totals();
    assert_eq!(totals.tuples.keys().collect::<Vec<_>>(), [&base("a", 0)]);
    let kept = &totals.tuples[&base("a", 0)];
    assert_eq!((kept.get(TupleCounter::PaymentPresented), kept.charged, kept.last_success), (7, 3, Some(55)));
    let of_offers: Vec<_> = totals.blocked.iter().filter(|((ns, ..), _)| !ns.is_empty()).collect();
    assert_eq!(of_offers, [(&("ns".to_owned(), "a".to_owned(), BlockedReason::UpgradeRefused), &2)]);
    // The proxy still lists what it counted before: that is no late report.
    aggregate.ingest("e1", report(10, values.as_flattened()));
    assert_eq!(dropped(&aggregate), [0, 0, 0]);
}

#[test]
fn a_late_value_of_a_removed_offer_is_refused_and_named() {
    let mut aggregate = loaded(&["a", "b"]);
    aggregate.ingest("e1", report(10, &[(charged("b", 0, 1000), 3)]));
    aggregate.apply(2000, keys(&["a"]));
    let news = aggregate.ingest("e1", report(10, &[(charged("b", 0, 1000), 5)]));
    assert_eq!(
        news,
        [Refused {
            reason: DropReason::Pruned,
            series: charged("b", 0, 1000),
            growth: 2,
            removed_in: Some(2000)
        }]
    );
    assert_eq!(aggregate.ingest("e1", report(10, &[(charged("b", 0, 1000), 5)])), []);
    assert_eq!(dropped(&aggregate), [1, 0, 0]);
    assert_eq!(total(&aggregate, "b"), None);
}

#[test]
fn a_removed_and_readded_offer_starts_clean_whatever_the_old_life_still_reports() {
    let mut aggregate = loaded(&["a", "b"]);
    aggregate.ingest("e1", report(10, &[(requests("b", 0), 7), (HostSeries::LastSuccess(base("b", 0)), 55)]));
    aggregate.apply(2000, keys(&["a"]));
    aggregate.apply(3000, keys(&["a", "b"]));
    assert_eq!(aggregate.births(4000, &keys(&["b"]))[&base("b", 0)], 3000);
    assert_eq!(total(&aggregate, "b"), Some(0));
    aggregate.ingest("e1", report(10, &[(requests("b", 0), 9), (requests("b", 3000), 1)]));
    assert_eq!(total(&aggregate, "b"), Some(1));
    assert_eq!(aggregate.totals().tuples[&base("b", 0)].last_success, None);
    assert_eq!(dropped(&aggregate), [0, 1, 0]);
}

#[test]
fn blocked_requests_of_a_readded_offer_start_at_zero() {
    let mut aggregate = loaded(&["a"]);
    let blocked = HostSeries::Blocked("ns".into(), "a".into(), BlockedReason::RouteSkipped);
    let count = |aggregate: &Aggregate| {
        let key = ("ns".to_owned(), "a".to_owned(), BlockedReason::RouteSkipped);
        aggregate.totals().blocked.get(&key).copied()
    };
    aggregate.ingest("e1", report(10, &[(blocked.clone(), 4)]));
    aggregate.apply(2000, keys(&[]));
    aggregate.ingest("e1", report(10, &[(blocked.clone(), 4)]));
    assert_eq!(count(&aggregate), None);
    aggregate.apply(3000, keys(&["a"]));
    aggregate.ingest("e1", report(10, &[(blocked, 6)]));
    assert_eq!(count(&aggregate), Some(2));
}

#[test]
fn a_changed_chain_rekeys_only_the_tuples_that_have_it() {
    let mut aggregate = loaded(&["a", "b"]);
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 7), (requests("b", 0), 7)]));
    let mut moved = keys(&["a"]);
    moved.tuples.insert(tuple("b", "eip155:1", 0));
    moved.offers.insert(("ns".into(), "b".into()));
    aggregate.apply(2000, moved);
    let totals = aggregate.totals();
    let seen: Vec<_> = totals
        .tuples
        .iter()
        .map(|(tuple, totals)| (tuple.clone(), totals.get(TupleCounter::PaymentPresented)))
        .collect();
    assert_eq!(seen, [(base("a", 0), 7), (tuple("b", "eip155:1", 0), 0)]);
}

#[test]
fn after_a_companion_restart_values_held_by_proxies_are_accepted_whatever_their_birth() {
    let mut aggregate = loaded(&["a"]);
    aggregate.ingest("e1", report(10, &[(requests("a", 0), 4), (requests("a", 900), 3)]));
    assert_eq!(total(&aggregate, "a"), Some(7));
    assert_eq!(dropped(&aggregate), [0, 0, 0]);
}

#[test]
fn a_reading_before_the_first_load_is_neither_lost_nor_refused() {
    let mut aggregate = Aggregate::default();
    let blocked = HostSeries::Blocked("ns".into(), "a".into(), BlockedReason::RouteSkipped);
    let held = [(requests("a", 0), 7), (blocked, 4)];
    assert_eq!(aggregate.ingest("e1", report(10, &held)), []);
    aggregate.apply(1000, keys(&["a"]));
    // The first scrape after the load may come before the next reading.
    assert_eq!(total(&aggregate, "a"), Some(7));
    aggregate.ingest("e1", report(10, &held));
    assert_eq!(total(&aggregate, "a"), Some(7));
    assert_eq!(aggregate.totals().blocked[&("ns".into(), "a".into(), BlockedReason::RouteSkipped)], 4);
    assert_eq!(dropped(&aggregate), [0, 0, 0]);
}

#[test]
fn what_a_reading_before_the_first_load_holds_of_removed_offers_is_refused_with_the_next_one() {
    let mut aggregate = Aggregate::default();
    let held = [(requests("a", 0), 7), (charged("gone", 0, 1000), 2)];
    aggregate.ingest("e1", report(10, &held));
    aggregate.apply(1000, keys(&["a"]));
    assert_eq!(dropped(&aggregate), [0, 0, 0]);
    let refused = aggregate.ingest("e1", report(10, &held));
    assert_eq!(refused.iter().map(|refused| refused.growth).collect::<Vec<_>>(), [2]);
    assert_eq!(dropped(&aggregate), [1, 0, 0]);
    assert_eq!(total(&aggregate, "a"), Some(7));
}

#[test]
fn births_of_an_earlier_run_keep_old_lives_out() {
    let published = BTreeMap::from([(base("a", 0), 900)]);
    let mut aggregate = Aggregate::default().published(Some(published));
    aggregate.apply(1000, keys(&["a", "b"]));
    aggregate.ingest(
        "e1",
        report(
            10,
            &[
                (requests("a", 0), 4),
                (requests("a", 900), 3),
                (requests("b", 0), 5),
                (requests("b", 1000), 1),
            ],
        ),
    );
    assert_eq!((total(&aggregate, "a"), total(&aggregate, "b")), (Some(3), Some(1)));
    assert_eq!(dropped(&aggregate), [0, 2, 0]);
}

#[test]
fn charges_of_every_price_add_up_exactly_beyond_64_bits() {
    let mut aggregate = loaded(&["a"]);
    let one_obol = Amount::from_u64(1_000_000_000_000_000_000);
    let values =
        [(HostSeries::Charged(base("a", 0), one_obol), 20), (charged("a", 0, 1), 3), (charged("a", 0, 0), 1)];
    aggregate.ingest("e1", report(10, &values));
    aggregate.ingest("e2", report(10, &values));
    let totals = aggregate.totals();
    let totals = &totals.tuples[&base("a", 0)];
    assert_eq!(totals.charged, 48);
    assert_eq!(totals.amount.to_string(), "40000000000000000006");
}

#[test]
fn failures_are_the_sum_of_their_reasons_and_unresolved_the_difference_of_its_counters() {
    let mut aggregate = loaded(&["a"]);
    let count = |counter, value| (HostSeries::Tuple(base("a", 0), counter), value);
    aggregate.ingest(
        "e1",
        report(
            10,
            &[
                count(TupleCounter::PaymentFailed(FailureReason::PaymentInvalid), 3),
                count(TupleCounter::PaymentFailed(FailureReason::Other), 2),
                count(TupleCounter::UnresolvedOpened, 5),
                count(TupleCounter::UnresolvedClosed, 4),
            ],
        ),
    );
    let totals = aggregate.totals();
    let totals = &totals.tuples[&base("a", 0)];
    assert_eq!((totals.failed(), totals.unresolved()), (5, 1));
}

#[test]
fn the_last_success_never_moves_backward_even_over_a_proxy_restart() {
    let mut aggregate = loaded(&["a"]);
    let last = |value| (HostSeries::LastSuccess(base("a", 0)), value);
    aggregate.ingest("e1", report(10, &[last(50)]));
    aggregate.ingest("e2", report(10, &[last(40)]));
    aggregate.ingest("e1", report(500, &[last(0)]));
    assert_eq!(aggregate.totals().tuples[&base("a", 0)].last_success, Some(50));
}

#[test]
fn call_durations_add_up_per_bucket() {
    let mut aggregate = loaded(&[]);
    let bucket = |index| HostSeries::CallBucket(Operation::Settle, CallOutcome::Success, index);
    let values = [
        (bucket(0), 2),
        (bucket(13), 1),
        (HostSeries::CallMillis(Operation::Settle, CallOutcome::Success), 61_007),
    ];
    aggregate.ingest("e1", report(10, &values));
    let calls = aggregate.totals().calls;
    assert_eq!(calls.len(), 12);
    let settled = &calls[&(Operation::Settle, CallOutcome::Success)];
    assert_eq!((settled.buckets[0], settled.buckets[13], settled.millis), (2, 1, 61_007));
}

#[test]
fn unreadable_names_are_counted_when_they_grow() {
    let mut aggregate = loaded(&[]);
    let odd = |value| Report { malformed: vec![("x.farebox_odd".into(), value)], ..report(1, &[]) };
    for value in [0, 1, 1, 2] {
        aggregate.ingest("e1", odd(value));
    }
    assert_eq!(dropped(&aggregate), [0, 0, 2]);
}

#[test]
fn removals_are_forgotten_once_every_source_has_heard_of_them() {
    let mut aggregate = loaded(&["a"]);
    aggregate.apply(2000, keys(&[]));
    let verdict = |aggregate: &Aggregate| aggregate.keep.judge(&requests("a", 0));
    aggregate.forget_removals(Some(1000));
    assert_eq!(verdict(&aggregate), Verdict::Pruned(Some(2000)));
    aggregate.forget_removals(Some(2000));
    assert_eq!(verdict(&aggregate), Verdict::Pruned(None));
}

#[test]
fn what_an_old_life_closed_too_often_hides_nothing_of_a_new_one() {
    let mut aggregate = loaded(&["a"]);
    let count = |counter, born, value| (HostSeries::Tuple(base("a", born), counter), value);
    aggregate.ingest(
        "e1",
        report(
            10,
            &[
                count(TupleCounter::UnresolvedClosed, 0, 3),
                count(TupleCounter::UnresolvedOpened, 900, 2),
                count(TupleCounter::UnresolvedClosed, 900, 1),
            ],
        ),
    );
    assert_eq!(aggregate.totals().tuples[&base("a", 0)].unresolved(), 1);
}

#[test]
fn a_removed_and_readded_offer_has_no_unresolved_settlement_however_many_the_old_life_closes() {
    let mut aggregate = loaded(&["a"]);
    let count = |counter, born, value| (HostSeries::Tuple(base("a", born), counter), value);
    aggregate.ingest("e1", report(10, &[count(TupleCounter::UnresolvedOpened, 0, 2)]));
    aggregate.apply(2000, keys(&[]));
    aggregate.apply(3000, keys(&["a"]));
    let unresolved = |aggregate: &Aggregate| aggregate.totals().tuples[&base("a", 0)].unresolved();
    assert_eq!(unresolved(&aggregate), 0);
    let late = [count(TupleCounter::UnresolvedOpened, 0, 2), count(TupleCounter::UnresolvedClosed, 0, 2)];
    aggregate.ingest("e1", report(10, &late));
    assert_eq!(unresolved(&aggregate), 0);
    let mut both = late.to_vec();
    both.push(count(TupleCounter::UnresolvedOpened, 3000, 1));
    aggregate.ingest("e1", report(10, &both));
    assert_eq!(unresolved(&aggregate), 1);
}
