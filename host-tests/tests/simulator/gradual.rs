//! Rules that are too long to be compiled at once.

use crate::shop::{GENERATION, Shop, option, rules, say, settled, verified};
use farebox_core::rules::PushedRules;
use farebox_host_tests::envoy::Request;
use serde_json::json;

/// Number of further routes: enough to be compiled in several pieces.
const MORE: usize = 400;
/// Ticks after which they are in force, at the latest.
const TICKS: usize = 32;

/// The shop's rules with `/paid/*` at another price and many routes more, as the companion writes them.
fn long(generation: u64, price: &str) -> String {
    let mut rules = rules(generation);
    rules["routes"][0]["options"] = json!([option(0, price, "authorization")]);
    for number in 0..MORE {
        let route = json!({
            "pattern": format!("/more/{number}"), "gate": "paid", "offerNamespace": "shop", "offerName": "other",
            "options": [option(1, "1000", "authorization")],
        });
        rules["routes"].as_array_mut().unwrap().push(route);
    }
    PushedRules::from_json(&rules.to_string()).unwrap().to_lines()
}

/// Lets time pass until the new rules must be in force. Returns after how many ticks `/paid/x` had this price.
fn ticks_until(shop: &Shop, price: &str) -> usize {
    for ticks in 0..TICKS {
        if shop.offer("/paid/x")["amount"] == price {
            return ticks;
        }
        shop.envoy.tick();
    }
    panic!("after {TICKS} ticks /paid/x does not cost {price}");
}

#[test]
fn a_new_vm_compiles_the_longest_rules_at_once() {
    let shop = Shop::with_push(&long(GENERATION, "2000"), 2);
    assert_eq!(ticks_until(&shop, "2000"), 0);
    shop.envoy.send(1, Request::get("/more/399")).expect_response(402);
}

#[test]
fn long_rules_come_into_force_as_a_whole_and_those_before_them_serve_meanwhile() {
    let shop = Shop::open();
    shop.envoy.configure(long(GENERATION + 1, "2000")).expect_taken();
    let mut ticks = 0;
    while shop.offer("/paid/x")["amount"] == "1000" {
        shop.envoy.send(1, Request::get("/more/0")).expect_response(404);
        shop.envoy.tick();
        ticks += 1;
        assert!(ticks < TICKS, "the rules never come into force");
    }
    assert!(ticks > 2, "it took {ticks} ticks");
    for worker in [0, 1] {
        for path in ["/more/0", "/more/399"] {
            shop.envoy.send(worker, Request::get(path)).expect_response(402);
        }
    }
    assert_eq!(shop.envoy.live_roots(0), 1);
}

#[test]
fn a_payment_that_came_before_long_rules_are_in_force_is_served_by_those_before_them() {
    let shop = Shop::open();
    shop.envoy.configure(long(GENERATION + 1, "2000")).expect_taken();
    let header = shop.header("/paid/x", 1);
    let stream = shop.send_paid(0, "/paid/x", &header);
    ticks_until(&shop, "2000");
    say(stream.expect_callout("/verify"), &verified());
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_ends();
    assert!(stream.expect_response(200).headers.get("payment-response").is_some());
    assert_eq!((shop.charged("paid", 1000), shop.charged("paid", 2000)), (1, 0));
    // Counts under both rules add up.
    shop.serve(1, "/paid/x", &shop.header("/paid/x", 2));
    assert_eq!((shop.charged("paid", 1000), shop.charged("paid", 2000)), (1, 1));
}

#[test]
fn a_push_that_comes_meanwhile_wins() {
    for next in [rules(GENERATION + 2).to_string(), long(GENERATION + 2, "3000")] {
        let shop = Shop::open();
        shop.envoy.configure(long(GENERATION + 1, "2000")).expect_taken();
        shop.envoy.tick();
        shop.envoy.configure(&next).expect_taken();
        let price = if next.contains("3000") { "3000" } else { "1000" };
        ticks_until(&shop, price);
        (0..TICKS).for_each(|_| shop.envoy.tick());
        assert_eq!(shop.offer("/paid/x")["amount"], price);
        assert_eq!(shop.envoy.live_roots(0), 1);
    }
}

#[test]
fn long_rules_that_cannot_be_used_are_refused_and_those_before_them_stay() {
    let shop = Shop::open();
    let broken = long(GENERATION + 1, "2000").replace("/more/399", "no path");
    shop.envoy.configure(broken).expect_refused();
    (0..TICKS).for_each(|_| shop.envoy.tick());
    assert_eq!(shop.offer("/paid/x")["amount"], "1000");
}

#[test]
fn reports_say_which_rules_are_in_force_while_others_are_coming() {
    let shop = Shop::open();
    shop.envoy.configure(long(GENERATION + 1, "2000")).expect_taken();
    let generations = |shop: &Shop| -> Vec<u64> {
        shop.envoy.counted();
        shop.envoy.standings().into_values().map(|standing| standing.generation).collect()
    };
    shop.envoy.tick();
    assert!(!generations(&shop).contains(&(GENERATION + 1)), "rules are confirmed before they are in force");
    ticks_until(&shop, "2000");
    let in_force = generations(&shop);
    assert!(in_force.len() > 1 && in_force.iter().all(|it| *it == GENERATION + 1), "{in_force:?}");
}
