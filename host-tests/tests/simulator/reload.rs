//! Pushes while requests are under way.

use crate::shop::{GENERATION, Shop, TRANSACTION, VALIDITY, body, option, rules, say, settled, verified};
use farebox_core::metrics::MetricSeries;
use farebox_host_tests::envoy::Request;
use serde_json::{Value, json};
use std::time::Duration;

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

/// A change between two requests with the same payment.
struct Change {
    name: &'static str,
    happen: fn(&Shop),
    /// Whether the payment still buys its answer here.
    still_buys: bool,
    /// Whether its settle call can be repeated here.
    still_settles: bool,
}

const CHANGES: [Change; 5] = [
    Change {
        name: "its window closes",
        happen: |shop| shop.envoy.advance(Duration::from_secs(VALIDITY + 1)),
        still_buys: true,
        still_settles: true,
    },
    Change {
        name: "the price rises",
        happen: |shop| push(shop, |rules| rules["routes"][0]["options"][0]["amount"] = json!("2000")),
        still_buys: true,
        still_settles: false,
    },
    Change {
        name: "another wallet is paid",
        happen: |shop| push(shop, |rules| rules["routes"][0]["options"][0]["payTo"] = json!(WALLET)),
        still_buys: true,
        still_settles: false,
    },
    Change {
        name: "the offer is renamed",
        happen: |shop| {
            push(shop, |rules| {
                rules["routes"][0]["offerName"] = json!("renamed");
                rules["tuples"][0]["offerName"] = json!("renamed");
            })
        },
        still_buys: false,
        still_settles: false,
    },
    Change {
        name: "the route is another",
        happen: |shop| push(shop, |rules| rules["routes"][0]["pattern"] = json!("/*/x")),
        still_buys: false,
        still_settles: false,
    },
];

/// The address of another recipient.
const WALLET: &str = "0x00000000000000000000000000000000000000b6";

fn push(shop: &Shop, change: impl FnOnce(&mut Value)) {
    let mut rules = rules(GENERATION + 1);
    change(&mut rules);
    shop.envoy.configure(rules.to_string()).expect_taken();
}

#[test]
fn a_payment_of_unknown_outcome_is_never_answered_with_a_price_whatever_changes() {
    for Change { name, happen, still_settles, .. } in CHANGES {
        let shop = Shop::open();
        let header = shop.header("/paid/x", 1);
        let stream = shop.at_upstream(0, "/paid/x", &header);
        stream.upstream_answers(200, &[]);
        let settle = stream.expect_callout("/settle");
        let asked = settle.body().to_vec();
        settle.times_out();
        stream.expect_response(503);
        happen(&shop);
        for worker in [1, 0] {
            let again = shop.send_paid(worker, "/paid/x", &header);
            if still_settles {
                let settle = again.expect_callout("/settle");
                assert_eq!(settle.body(), asked, "{name}");
                settle.times_out();
            }
            let response = again.expect_response(503);
            assert_eq!(response.headers.get("payment-required"), None, "{name}");
            assert_eq!((again.forwarded(), again.callout().map(|call| call.path())), (None, None), "{name}");
        }
        if still_settles {
            let last = shop.send_paid(0, "/paid/x", &header);
            say(last.expect_callout("/settle"), &settled());
            last.expect_forwarded();
            assert_eq!(shop.charged("paid", 1000), 1, "{name}");
        }
    }
}

#[test]
fn a_payment_that_is_owed_is_never_answered_with_a_price_whatever_changes() {
    for Change { name, happen, still_buys, .. } in CHANGES {
        let shop = Shop::open();
        let header = shop.header("/paid/x", 1);
        let stream = shop.at_upstream(0, "/paid/x", &header);
        stream.upstream_answers(200, &[]);
        say(stream.expect_callout("/settle"), &settled());
        stream.body_breaks_off();
        happen(&shop);
        let again = shop.send_paid(1, "/paid/x", &header);
        if still_buys {
            again.expect_forwarded();
            again.upstream_answers(200, &[]);
            assert_eq!(again.callout().map(|call| call.path()), None, "{name}");
            again.body_ends();
            again.expect_response(200);
        } else {
            let response = again.expect_response(409);
            assert_eq!((response.headers.get("payment-required"), again.forwarded()), (None, None), "{name}");
            let text = body(&response)["error"].as_str().unwrap().to_owned();
            assert!(text.contains(TRANSACTION) && text.contains("shop/paid"), "{name}: {text}");
            // If the offer is as before, the payment buys its answer.
            shop.envoy.configure(rules(GENERATION + 2).to_string()).expect_taken();
            shop.redeemed(0, "/paid/x", &header);
        }
        assert_eq!(shop.charged("paid", 1000), 1, "{name}");
    }
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
    shop.envoy.counted();
    assert!(shop.envoy.standings().values().all(|standing| standing.generation == GENERATION + 20));
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
    let reborn = MetricSeries::Charged(tuple, amount);
    assert_eq!(shop.of(&reborn), 0);
    shop.serve(0, "/paid/x", &shop.header("/paid/x", 2));
    assert_eq!(shop.of(&reborn), 1);
    assert_eq!(shop.charged("paid", 1000), 1);
}
