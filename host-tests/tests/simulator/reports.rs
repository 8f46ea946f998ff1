//! Reports to the companion: each report is counted once, for any loss or repetition.

use crate::shop::{GENERATION, Shop, rules, settle_first, tuple};
use farebox_core::metrics::{MetricSeries, TupleCounter};
use farebox_host_tests::envoy::Request;
use std::time::Duration;

const REQUIRED: TupleCounter = TupleCounter::PaymentRequired;

fn ask(shop: &Shop, worker: usize) {
    shop.envoy.send(worker, Request::get("/paid/x")).expect_response(402);
}

#[test]
fn counting_writes_nothing_and_calls_nobody_before_the_next_tick() {
    let shop = Shop::open();
    shop.envoy.counted();
    let keys = shop.envoy.shared_data("");
    ask(&shop, 0);
    assert_eq!(shop.envoy.shared_data(""), keys);
    assert_eq!(shop.envoy.reports(|_, _| (true, Some(204))), 0);
    shop.envoy.tick();
    assert_eq!(shop.envoy.reports(|_, _| (true, Some(204))), 1, "one worker counted");
}

#[test]
fn money_that_nobody_else_counts_is_reported_at_once_and_while_a_report_is_under_way_right_after_it() {
    let shop = Shop::open();
    shop.envoy.counted();
    let pay = |number| {
        let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", number));
        settle_first(&stream);
        stream.upstream_answers(200, &[]);
        stream.body_ends();
    };
    pay(1);
    pay(2);
    let mut charges = Vec::new();
    let money = MetricSeries::Charged(tuple("upfront"), farebox_core::evm::Amount::from_u64(2500));
    for _ in 0..2 {
        shop.envoy.reports(|_, report| {
            charges.extend(report.counted.as_ref().and_then(|counted| counted.changes.get(&money)).copied());
            (true, Some(204))
        });
    }
    assert_eq!(charges, [1, 1]);
}

#[test]
fn a_report_without_an_acknowledgement_is_told_again_under_its_number_and_later_counts_wait() {
    let shop = Shop::open();
    shop.envoy.counted();
    ask(&shop, 0);
    shop.envoy.tick();
    let mut seen = Vec::new();
    let mut note = |status: Option<u16>| {
        shop.envoy.reports(|_, report| {
            seen.extend(report.counted.clone());
            (false, status)
        })
    };
    assert_eq!(note(None), 1);
    ask(&shop, 0);
    for status in [Some(503), Some(401), None] {
        shop.envoy.tick();
        assert_eq!(note(status), 1);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    assert_eq!(shop.count("paid", REQUIRED), 2);
}

#[test]
fn a_report_whose_answer_never_comes_is_told_again_after_a_while() {
    let shop = Shop::open();
    shop.envoy.counted();
    ask(&shop, 0);
    shop.envoy.tick();
    // Its filter is replaced, and Envoy drops the reply.
    shop.envoy.configure(rules(GENERATION + 1).to_string()).expect_taken();
    shop.envoy.tick();
    shop.envoy.advance(Duration::from_secs(11));
    assert_eq!(shop.count("paid", REQUIRED), 1);
}

#[test]
fn a_report_the_companion_cannot_read_is_told_until_it_can() {
    let shop = Shop::open();
    shop.envoy.counted();
    for _ in 0..3 {
        ask(&shop, 0);
        shop.envoy.tick();
        assert_eq!(shop.envoy.reports(|_, _| (false, Some(400))), 1);
    }
    shop.envoy.tick();
    assert_eq!(shop.count("paid", REQUIRED), 3);
}

#[test]
fn a_vm_says_that_it_is_there_every_two_seconds_and_at_once_when_its_rules_change() {
    let shop = Shop::open();
    shop.envoy.counted();
    let signs = || {
        shop.envoy.tick();
        let mut signs = 0;
        shop.envoy.reports(|_, report| {
            assert_eq!(report.counted, None);
            signs += 1;
            (true, Some(204))
        });
        signs
    };
    assert_eq!(signs(), 0);
    shop.envoy.advance(Duration::from_millis(1_900));
    assert_eq!(signs(), 0);
    shop.envoy.advance(Duration::from_millis(100));
    assert_eq!(signs(), 3, "two workers and the main thread");
    shop.envoy.configure(rules(GENERATION + 1).to_string()).expect_taken();
    assert_eq!(signs(), 3);
    let standings = shop.envoy.standings();
    let processes: std::collections::BTreeSet<_> = standings.values().map(|it| &it.process).collect();
    assert_eq!((standings.len(), processes.len()), (3, 1));
    let standing = standings.values().next().unwrap();
    assert_eq!((standing.generation, standing.hash.as_str()), (GENERATION + 1, "0x00"));
    assert_eq!(standing.unix_ms / 1_000, shop.envoy.now());
}

#[test]
fn without_a_companion_counts_wait_in_one_report_and_in_memory() {
    let shop = Shop::open();
    shop.envoy.counted();
    for _ in 0..50 {
        ask(&shop, 0);
        shop.envoy.tick();
        shop.envoy.reports(|_, _| (false, None));
        shop.envoy.advance(Duration::from_secs(1));
    }
    shop.envoy.tick();
    shop.envoy.reports(|_, report| {
        assert!(report.standing.waiting <= 1, "{}", report.standing.waiting);
        (false, None)
    });
    assert_eq!(shop.count("paid", REQUIRED), 50);
}

#[test]
fn many_offers_are_reported_in_several_reports_one_right_after_the_other() {
    let mut push = rules(GENERATION);
    let (mut tuples, mut routes) = (Vec::new(), Vec::new());
    for number in 0..3_000 {
        let name = format!("offer-{number}-{}", "x".repeat(100));
        let mut tuple = push["tuples"][0].clone();
        tuple["offerName"] = name.as_str().into();
        tuples.push(tuple);
        let mut route = push["routes"][0].clone();
        route["pattern"] = format!("/o{number}").into();
        route["offerName"] = name.into();
        route["options"][0]["tuple"] = number.into();
        routes.push(route);
    }
    push["tuples"] = tuples.into();
    push["routes"] = routes.into();
    let shop = Shop::with_rules(&push, 1);
    shop.envoy.counted();
    for number in 0..3_000 {
        shop.envoy.send(0, Request::get(&format!("/o{number}"))).expect_response(402);
    }
    shop.envoy.tick();
    let mut reports = 0;
    while shop.envoy.reports(|_, _| (true, Some(204))) > 0 {
        reports += 1;
    }
    assert!(reports > 1, "{reports}");
    assert_eq!(shop.envoy.counted().values().sum::<u64>(), 3_000);
}

/// Plays reports that are lost or doubled, and acknowledgements that are lost, while rules are pushed and VMs
/// replaced.
fn play(seed: u64) {
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let shop = Shop::open();
    let (mut asked, mut generation) = (0, GENERATION);
    for _ in 0..400 {
        match random(10) {
            0..4 => {
                ask(&shop, random(2) as usize);
                asked += 1;
            }
            4..6 => shop.envoy.tick(),
            6..8 => {
                let fates: Vec<u64> = (0..8).map(|_| random(4)).collect();
                shop.envoy.reports(|number, _| match fates[number % 8] {
                    0 => (false, None),
                    1 => (true, None),
                    2 => (false, Some(503)),
                    _ => (true, Some(204)),
                });
            }
            8 => {
                generation += 1;
                shop.envoy.configure(rules(generation).to_string()).expect_taken();
            }
            _ => match random(4) {
                0 => {
                    generation += 1;
                    shop.envoy.replace_vms(rules(generation).to_string()).expect_taken();
                }
                _ => shop.envoy.advance(Duration::from_secs(random(12))),
            },
        }
    }
    shop.envoy.advance(Duration::from_secs(11));
    assert_eq!(shop.count("paid", REQUIRED), asked);
}

#[test]
fn whatever_becomes_of_reports_and_vms_nothing_is_lost_and_nothing_counts_twice() {
    (0..20).for_each(play);
}
