//! The VM dies at every host call it makes: nothing is served unpaid, nothing is settled twice.

use crate::shop::{Shop, say, settled, verified};
use farebox_host_tests::envoy::{Origin, Phase, Stream};
use std::time::Duration;

/// What a facilitator and an upstream saw of one payment.
#[derive(Debug, Default)]
struct Seen {
    verified: u32,
    settled: u32,
    served: u32,
}

/// Plays a stream to its end, whatever the filter does.
fn play(stream: &Stream<'_>, seen: &mut Seen) {
    for _ in 0..20 {
        match stream.phase() {
            Phase::RequestHeld | Phase::ResponseHeld => {
                let callout = stream.callout().expect("a held stream has a callout");
                if callout.path() == "/verify" {
                    seen.verified += 1;
                    say(callout, &verified());
                } else {
                    seen.settled += 1;
                    say(callout, &settled());
                }
            }
            Phase::AtUpstream => {
                assert!(seen.verified + seen.settled > 0, "served without any payment");
                stream.upstream_answers(200, &[]);
            }
            Phase::Streaming => {
                assert!(seen.settled > 0, "a response left without a settlement");
                stream.body_ends();
                seen.served += 1;
            }
            Phase::Hung => stream.proxy_gives_up(),
            Phase::Ended => return,
            phase => panic!("left in {phase:?}"),
        }
    }
    panic!("the stream does not end");
}

fn crash_everywhere(path: &str) {
    let mut crashes = 0;
    for n in 0.. {
        let shop = Shop::open();
        let header = shop.header(path, 1);
        let mut seen = Seen::default();
        shop.envoy.crash_at_host_call(0, n);
        play(&shop.send_paid(0, path, &header), &mut seen);
        if shop.envoy.defuse(0) {
            assert_eq!(seen.served, 1);
            break;
        }
        crashes += 1;
        // The same payment comes back at once and again when every settlement must be over.
        for wait in [0, 1, 200, 200] {
            shop.envoy.advance(Duration::from_secs(wait));
            play(&shop.send_paid(1, path, &header), &mut seen);
        }
        assert!(seen.served <= 1, "crash {n}: {seen:?}");
        // A settlement whose reply died with the VM is asked for again, with the identical call.
        assert!(seen.settled <= 2, "crash {n}: {seen:?}");
        // The worker lives on.
        let other = shop.header(path, 2);
        let mut fresh = Seen::default();
        play(&shop.send_paid(0, path, &other), &mut fresh);
        assert_eq!(fresh.served, 1, "crash {n}");
    }
    assert!(crashes > 20, "only {crashes} host calls could crash");
}

#[test]
fn a_crash_at_any_host_call_of_a_paid_request_serves_nothing_unpaid_and_settles_nothing_twice() {
    crash_everywhere("/paid/x");
}

#[test]
fn a_crash_at_any_host_call_of_an_upfront_request_serves_nothing_unpaid_and_settles_nothing_twice() {
    crash_everywhere("/upfront/x");
}

#[test]
fn a_dead_vm_closes_what_it_held_and_the_replay_table_survives_it() {
    let shop = Shop::open();
    let used = shop.header("/paid/x", 1);
    shop.serve(0, "/paid/x", &used);
    let waiting = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 2));
    shop.envoy.crash(0);
    waiting.upstream_answers(200, &[("set-cookie", "paid-content")]);
    let response = waiting.expect_response(503);
    assert_eq!((response.origin, response.headers.get("set-cookie")), (Origin::DeadVm, None));
    shop.send_paid(0, "/paid/x", &used).expect_response(402);
    shop.serve(0, "/paid/x", &shop.header("/paid/x", 3));
    assert_eq!(shop.charged("paid", 1000), 2);
}

#[test]
fn a_settlement_lost_with_its_vm_becomes_unknown_and_is_repeated() {
    use farebox_core::metrics::TupleCounter;
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    let asked = stream.expect_callout("/settle").json();
    shop.envoy.crash(0);
    shop.send_paid(1, "/paid/x", &header).expect_response(409);
    shop.envoy.advance(Duration::from_secs(150));
    let again = shop.send_paid(1, "/paid/x", &header);
    let settle = again.expect_callout("/settle");
    assert_eq!(settle.json(), asked);
    say(settle, &settled());
    again.upstream_answers(200, &[]);
    again.body_ends();
    again.expect_response(200);
    assert_eq!(shop.charged("paid", 1000), 1);
    let (opened, closed) = (TupleCounter::UnresolvedOpened, TupleCounter::UnresolvedClosed);
    assert_eq!(shop.count("paid", opened), shop.count("paid", closed), "what was closed was opened");
}
