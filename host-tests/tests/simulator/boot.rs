//! Taking rules: refused pushes, the fate of counts, and a filter without rules.

use crate::shop::{GENERATION, Shop, rules, settle_first, tuple};
use farebox_core::metrics::{MetricSeries, TupleCounter};
use farebox_host_tests::envoy::{Envoy, Request};
use serde_json::json;

/// The generation that every VM reports.
fn generation_of(envoy: &Envoy) -> Option<u64> {
    envoy.counted();
    let generations: Vec<u64> = envoy.standings().values().map(|standing| standing.generation).collect();
    let first = *generations.first()?;
    generations.iter().all(|generation| *generation == first).then_some(first)
}

#[test]
fn what_was_counted_in_vms_that_are_replaced_is_reported_by_those_that_come_after_them() {
    let shop = Shop::with_rules(&rules(GENERATION), 2);
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(402);
    shop.envoy.send(1, Request::get("/upfront/x")).expect_response(402);
    shop.envoy.replace_vms(rules(GENERATION + 1).to_string()).expect_taken();
    shop.envoy.send(1, Request::get("/paid/x")).expect_response(402);
    assert_eq!(shop.count("paid", TupleCounter::PaymentRequired), 2);
    assert_eq!(shop.count("upfront", TupleCounter::PaymentRequired), 1);
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
    // The older VMs end with their last stream, and the newer VMs have no counts yet.
    drop((first, second));
    shop.envoy.tick();
    assert_eq!(shop.charged("upfront", 2500), 2);
    assert_eq!(shop.of(&MetricSeries::LastSuccess(tuple("upfront"))), shop.envoy.now());
    // No count is repeated.
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
    // The VMs that should send the counts are replaced before they do.
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
fn a_worker_that_crashes_takes_along_only_what_it_has_not_reported() {
    let shop = Shop::with_rules(&rules(GENERATION), 2);
    let ask = |worker| drop(shop.envoy.send(worker, Request::get("/paid/x")).expect_response(402));
    ask(0);
    assert_eq!(shop.count("paid", TupleCounter::PaymentRequired), 1);
    ask(0);
    ask(1);
    shop.envoy.crash(0);
    ask(0);
    assert_eq!(shop.count("paid", TupleCounter::PaymentRequired), 3);
}

#[test]
fn ticks_count_nothing_and_reserve_nothing() {
    let shop = Shop::with_rules(&rules(GENERATION), 4);
    let (before, keys) = (shop.envoy.counted(), shop.envoy.shared_keys(""));
    for _ in 0..200 {
        shop.envoy.tick();
        shop.envoy.reports(|_, _| (true, Some(204)));
        shop.envoy.advance(std::time::Duration::from_secs(5));
    }
    assert_eq!(shop.envoy.counted(), before);
    assert_eq!(shop.envoy.shared_keys(""), keys);
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
    assert_eq!(generation_of(&envoy), Some(0), "a proxy without rules says so");
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
    for push in bad {
        shop.envoy.configure(&push).expect_refused();
        assert_eq!(generation_of(&shop.envoy), Some(GENERATION));
        let offer = shop.offer("/paid/x");
        assert_eq!(offer["amount"], "1000");
    }
}

#[test]
fn a_refused_push_is_explained_in_the_log_and_in_reports_until_one_is_taken() {
    let shop = Shop::open();
    let mut push = rules(GENERATION + 1);
    push["format"] = json!(9);
    shop.envoy.configure(push.to_string()).expect_refused();
    let log = shop.envoy.log();
    let line = log.iter().find(|l| l.level >= 3).expect("a refusal is logged");
    assert!(line.text.contains("format is 9"), "{}", line.text);
    let refusals = || {
        shop.envoy.counted();
        shop.envoy.standings().into_values().map(|standing| standing.refusal).collect::<Vec<_>>()
    };
    shop.envoy.advance(std::time::Duration::from_secs(5));
    assert!(refusals().iter().all(|refusal| refusal.contains("format is 9")), "{:?}", refusals());
    shop.envoy.configure(rules(GENERATION + 2).to_string()).expect_taken();
    assert_eq!(refusals(), [""; 3]);
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
