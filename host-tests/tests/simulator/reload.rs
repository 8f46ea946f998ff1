//! Pushes while requests are under way.

use crate::shop::{GENERATION, Shop, option, rules, say, settled, verified};
use farebox_core::metrics::{HostSeries, host_name};
use farebox_host_tests::envoy::Request;
use serde_json::{Value, json};

/// The shop's rules without `/paid/*`, which stays protected.
fn without_paid(generation: u64) -> Value {
    let mut rules = rules(generation);
    rules["routes"].as_array_mut().unwrap().remove(0);
    rules
}

#[test]
fn a_request_under_way_finishes_on_the_rules_it_started_with() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.send_paid(0, "/paid/x", &header);
    shop.envoy.configure(without_paid(GENERATION + 1).to_string()).expect_taken();
    assert_eq!(shop.envoy.live_roots(0), 2);
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(403);

    say(stream.expect_callout("/verify"), &verified());
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_ends();
    stream.expect_response(200);
    assert_eq!(shop.charged("paid", 1000), 1);
    assert_eq!(shop.envoy.live_roots(0), 1);
}

#[test]
fn a_path_whose_offer_is_gone_is_closed_for_its_payments_too() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.envoy.configure(without_paid(GENERATION + 1).to_string()).expect_taken();
    let stream = shop.send_paid(1, "/paid/x", &header);
    stream.expect_response(403);
    assert_eq!(stream.forwarded(), None);
}

#[test]
fn a_payment_signed_for_an_old_price_gets_the_new_terms() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let mut dearer = rules(GENERATION + 1);
    dearer["routes"][0]["options"] = json!([option(0, "2000", "authorization")]);
    shop.envoy.configure(dearer.to_string()).expect_taken();
    shop.send_paid(0, "/paid/x", &header).expect_response(402);
    assert_eq!(shop.offer("/paid/x")["amount"], "2000");
    shop.serve(0, "/paid/x", &shop.header("/paid/x", 2));
    assert_eq!((shop.charged("paid", 2000), shop.charged("paid", 1000)), (1, 0));
}

#[test]
fn a_served_payment_stays_used_across_pushes() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.serve(0, "/paid/x", &header);
    for step in 1..=3 {
        shop.envoy.configure(rules(GENERATION + step).to_string()).expect_taken();
        shop.send_paid(1, "/paid/x", &header).expect_response(402);
    }
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn twenty_pushes_under_load_fail_no_request() {
    let shop = Shop::open();
    let mut waiting = Vec::new();
    for step in 0..20 {
        let header = shop.header("/paid/x", step);
        waiting.push(shop.at_upstream((step % 2) as usize, "/paid/x", &header));
        shop.envoy.configure(rules(GENERATION + 1 + step).to_string()).expect_taken();
    }
    for stream in &waiting {
        stream.upstream_answers(200, &[]);
        say(stream.expect_callout("/settle"), &settled());
        stream.body_ends();
        stream.expect_response(200);
    }
    assert_eq!(shop.charged("paid", 1000), 20);
    assert_eq!((shop.envoy.live_roots(0), shop.envoy.live_roots(1)), (1, 1));
    let generation = shop.envoy.metric(&host_name(&HostSeries::ConfigGeneration));
    assert_eq!(generation, Some(GENERATION + 20));
}

#[test]
fn counters_go_on_across_a_push_and_a_new_life_starts_at_zero() {
    let shop = Shop::open();
    shop.serve(0, "/paid/x", &shop.header("/paid/x", 1));
    shop.envoy.configure(rules(GENERATION + 1).to_string()).expect_taken();
    assert_eq!(shop.charged("paid", 1000), 1);
    let mut reborn = rules(GENERATION + 2);
    reborn["tuples"][0]["born"] = json!(GENERATION + 2);
    shop.envoy.configure(reborn.to_string()).expect_taken();
    let mut tuple = crate::shop::tuple("paid");
    tuple.born = GENERATION + 2;
    let amount = farebox_core::evm::Amount::from_u64(1000);
    let reborn = host_name(&HostSeries::Charged(tuple, amount));
    assert_eq!(shop.envoy.metric(&reborn), None);
    shop.serve(0, "/paid/x", &shop.header("/paid/x", 2));
    assert_eq!(shop.envoy.metric(&reborn), Some(1));
    assert_eq!(shop.charged("paid", 1000), 1);
}
