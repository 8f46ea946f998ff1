//! Taking rules: what is defined, what is refused, what an unconfigured filter does.

use crate::shop::{GENERATION, Shop, rules, settle_first, tuple};
use farebox_core::metrics::{HostSeries, TupleCounter, host_name};
use farebox_host_tests::envoy::{Envoy, MetricKind, Request};
use serde_json::json;

/// Where the VMs agree which of them are the last.
const LAST: &str = "farebox.last";

fn generation_of(envoy: &Envoy) -> Option<u64> {
    envoy.metric(&host_name(&HostSeries::ConfigGeneration))
}

#[test]
fn nothing_but_the_generation_is_defined_at_boot_whatever_is_sold() {
    for workers in [1, 4] {
        let shop = Shop::with_rules(&rules(GENERATION), workers);
        let generation = host_name(&HostSeries::ConfigGeneration);
        let defined: Vec<_> = shop.envoy.metrics().into_iter().collect();
        assert_eq!(defined, [(generation, (MetricKind::Gauge, GENERATION))]);
        assert_eq!(shop.envoy.shared_keys(""), shop.envoy.shared_keys(LAST));
    }
}

#[test]
fn a_counter_is_defined_when_it_is_first_moved_and_no_other_with_it() {
    let shop = Shop::open();
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(402);
    let moved = host_name(&HostSeries::Tuple(tuple("paid"), TupleCounter::PaymentRequired));
    let generation = host_name(&HostSeries::ConfigGeneration);
    let defined: Vec<_> = shop.envoy.metrics().into_iter().map(|(name, (_, value))| (name, value)).collect();
    assert_eq!(defined, [(generation, GENERATION), (moved, 1)]);
}

#[test]
fn what_was_counted_lives_on_in_fresh_vms_and_what_was_removed_does_not() {
    let shop = Shop::with_rules(&rules(GENERATION), 2);
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(402);
    shop.envoy.send(1, Request::get("/upfront/x")).expect_response(402);
    let mut without = rules(GENERATION + 1);
    without["routes"].as_array_mut().unwrap().retain(|route| route["offerName"] != "upfront");
    without["tuples"].as_array_mut().unwrap().retain(|tuple| tuple["offerName"] != "upfront");
    shop.envoy.replace_vms(without.to_string()).expect_taken();
    assert_eq!(shop.count("paid", TupleCounter::PaymentRequired), 1);
    shop.envoy.send(1, Request::get("/paid/x")).expect_response(402);
    assert_eq!(shop.count("paid", TupleCounter::PaymentRequired), 2);
    let removed = host_name(&HostSeries::Tuple(tuple("upfront"), TupleCounter::PaymentRequired));
    assert_eq!(shop.envoy.metric(&removed), None);
    // Nothing brings it back at its old value either.
    shop.envoy.replace_vms(rules(GENERATION + 2).to_string()).expect_taken();
    assert_eq!(shop.envoy.metric(&removed), None);
}

#[test]
fn what_a_request_counts_under_older_rules_is_taken_over_by_the_vms_of_the_newer_ones() {
    let shop = Shop::with_rules(&rules(GENERATION), 2);
    let first = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    let second = shop.send_paid(1, "/upfront/x", &shop.header("/upfront/x", 2));
    shop.envoy.replace_vms(rules(GENERATION + 1).to_string()).expect_taken();
    for late in [&first, &second] {
        settle_first(late);
        late.upstream_answers(200, &[]);
        late.body_ends();
    }
    // The last stream of the older VMs takes them along, and no VM of the newer has counted anything yet.
    drop((first, second));
    shop.envoy.tick();
    assert_eq!(shop.charged("upfront", 2500), 2);
    let time = shop.envoy.metric(&host_name(&HostSeries::LastSuccess(tuple("upfront"))));
    assert_eq!(time, Some(shop.envoy.now()));
    // Nothing of it is counted again.
    shop.envoy.tick();
    shop.envoy.replace_vms(rules(GENERATION + 2).to_string()).expect_taken();
    shop.envoy.tick();
    assert_eq!(shop.charged("upfront", 2500), 2);
}

#[test]
fn no_count_is_lost_or_made_up_wherever_a_request_is_when_the_vms_are_replaced() {
    let mut moments = 0;
    for n in 0.. {
        let shop = Shop::with_rules(&rules(GENERATION), 1);
        let late = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
        let has_happened = shop.envoy.replace_vms_at_host_call(0, n, rules(GENERATION + 1).to_string());
        settle_first(&late);
        late.upstream_answers(200, &[]);
        late.body_ends();
        drop(late);
        if !has_happened.get() {
            break;
        }
        moments += 1;
        shop.envoy.tick();
        assert_eq!(shop.charged("upfront", 2500), 1, "at host call {n}");
        for counter in [TupleCounter::PaymentPresented, TupleCounter::PaymentVerified] {
            assert_eq!(shop.count("upfront", counter), 1, "{counter:?} at host call {n}");
        }
    }
    assert!(moments > 30, "{moments}");
}

#[test]
fn what_is_left_by_older_vms_waits_for_the_last_and_goes_on_what_they_have_counted() {
    let shop = Shop::with_rules(&rules(GENERATION), 1);
    let late = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    shop.envoy.replace_vms(rules(GENERATION + 1).to_string()).expect_taken();
    settle_first(&late);
    late.upstream_answers(200, &[]);
    late.body_ends();
    drop(late);
    // Those it was left to are replaced before they looked.
    shop.envoy.replace_vms(rules(GENERATION + 2).to_string()).expect_taken();
    let later = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 2));
    settle_first(&later);
    later.upstream_answers(200, &[]);
    later.body_ends();
    drop(later);
    shop.envoy.tick();
    assert_eq!(shop.charged("upfront", 2500), 2);
}

#[test]
fn what_is_left_for_an_offer_that_is_removed_is_dropped() {
    let shop = Shop::with_rules(&rules(GENERATION), 1);
    let late = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    shop.envoy.replace_vms(rules(GENERATION + 1).to_string()).expect_taken();
    settle_first(&late);
    late.upstream_answers(200, &[]);
    late.body_ends();
    drop(late);
    let mut without = rules(GENERATION + 2);
    without["routes"].as_array_mut().unwrap().retain(|route| route["offerName"] != "upfront");
    without["tuples"].as_array_mut().unwrap().retain(|tuple| tuple["offerName"] != "upfront");
    shop.envoy.replace_vms(without.to_string()).expect_taken();
    shop.envoy.tick();
    shop.envoy.replace_vms(rules(GENERATION + 3).to_string()).expect_taken();
    shop.envoy.tick();
    let amount = farebox_core::evm::Amount::from_u64(2500);
    let charged = host_name(&HostSeries::Charged(tuple("upfront"), amount));
    assert_eq!(shop.envoy.metric(&charged), None);
}

#[test]
fn a_worker_that_counted_alone_and_crashed_takes_nothing_with_it() {
    let shop = Shop::with_rules(&rules(GENERATION), 2);
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(402);
    shop.envoy.crash(0);
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(402);
    shop.envoy.send(1, Request::get("/paid/x")).expect_response(402);
    assert_eq!(shop.count("paid", TupleCounter::PaymentRequired), 3);
}

#[test]
fn ticks_count_nothing_and_reserve_nothing() {
    let shop = Shop::with_rules(&rules(GENERATION), 4);
    let before = shop.envoy.metrics();
    for _ in 0..200 {
        shop.envoy.tick();
        shop.envoy.advance(std::time::Duration::from_secs(5));
    }
    assert_eq!(shop.envoy.metrics(), before);
    assert_eq!(shop.envoy.shared_keys(""), shop.envoy.shared_keys(LAST));
}

#[test]
fn the_time_of_the_last_payment_is_no_series_before_the_first() {
    let shop = Shop::open();
    let gauge = shop.envoy.metric(&host_name(&HostSeries::LastSuccess(tuple("paid"))));
    assert_eq!(gauge.unwrap_or(0), 0);
}

#[test]
fn without_rules_everything_is_refused() {
    let envoy = Envoy::new(1);
    envoy.configure("").expect_taken();
    for path in ["/", "/free/x", "/paid/x"] {
        let stream = envoy.send(0, Request::get(path));
        let response = stream.expect_response(503);
        assert_eq!(response.headers.get("cache-control").as_deref(), Some("no-store"));
        assert_eq!(stream.forwarded(), None);
    }
    assert_eq!(generation_of(&envoy).unwrap_or(0), 0);
}

#[test]
fn rules_that_cannot_be_used_are_refused_and_the_old_ones_go_on_serving() {
    let shop = Shop::open();
    let spoiled = |spoil: fn(&mut serde_json::Value)| {
        let mut rules = rules(GENERATION + 1);
        spoil(&mut rules);
        rules.to_string().into_bytes()
    };
    let bad: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"null".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![b'['; 200_000],
        spoiled(|r| r["format"] = json!(2)),
        spoiled(|r| r["surprise"] = json!(1)),
        spoiled(|r| r["generation"] = json!(-1)),
        spoiled(|r| r["routes"][0]["options"][0]["tuple"] = json!(99)),
        spoiled(|r| r["routes"][0]["options"][0]["amount"] = json!("1e3")),
        spoiled(|r| r["routes"][0]["options"][0]["payTo"] = json!("0x12")),
        spoiled(|r| r["routes"][0]["options"] = json!([])),
        spoiled(|r| r["facilitator"] = json!(null)),
        spoiled(|r| r["tuples"][0]["offerName"] = json!("a;.;b")),
    ];
    shop.offer("/paid/x");
    let names: Vec<String> = shop.envoy.metrics().into_keys().collect();
    for push in bad {
        shop.envoy.configure(&push).expect_refused();
        assert_eq!(generation_of(&shop.envoy), Some(GENERATION));
        let offer = shop.offer("/paid/x");
        assert_eq!(offer["amount"], "1000");
    }
    assert_eq!(shop.envoy.metrics().into_keys().collect::<Vec<_>>(), names, "a refused push defines nothing");
}

#[test]
fn a_refused_push_is_explained_in_the_log() {
    let shop = Shop::open();
    let mut push = rules(GENERATION + 1);
    push["format"] = json!(9);
    shop.envoy.configure(push.to_string()).expect_refused();
    let log = shop.envoy.log();
    let line = log.iter().find(|l| l.level >= 3).expect("a refusal is logged");
    assert!(line.text.contains("format is 9"), "{}", line.text);
}

#[test]
fn counters_are_counters_and_only_times_and_generations_are_gauges() {
    let shop = Shop::open();
    for (name, (kind, _)) in shop.envoy.metrics() {
        let gauge = name.ends_with("farebox_config_generation") || name.ends_with("_seconds");
        let expected = if gauge { MetricKind::Gauge } else { MetricKind::Counter };
        assert_eq!(kind, expected, "{name}");
    }
}

#[test]
fn a_request_is_answered_wherever_another_worker_is_in_taking_a_push() {
    let mut moments = 0;
    for n in 0.. {
        let shop = Shop::with_rules(&rules(GENERATION), 2);
        let header = shop.header("/upfront/x", 1);
        let request = Request::get("/upfront/x").header("payment-signature", header);
        let stream = shop.envoy.send_at_host_call(0, n, 1, request);
        shop.envoy.configure(rules(GENERATION + 1).to_string()).expect_taken();
        if shop.envoy.defuse(0) {
            break;
        }
        moments += 1;
        settle_first(&stream);
        stream.upstream_answers(200, &[]);
        stream.body_ends();
        stream.expect_response(200);
        drop(stream);
        shop.envoy.tick();
        assert_eq!(shop.charged("upfront", 2500), 1, "at host call {n}");
        assert_eq!(shop.count("upfront", TupleCounter::PaymentVerified), 1, "at host call {n}");
        assert_eq!(generation_of(&shop.envoy), Some(GENERATION + 1));
    }
    assert!(moments > 5, "{moments}");
}
