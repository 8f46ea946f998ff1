//! The VM dies at every host call: no request is served unpaid, no payment is charged twice, and the answer of a
//! charged payment can be fetched.

use crate::shop::{Shop, VALIDITY, decode, say, settled, verified};
use farebox_core::metrics::TupleCounter;
use farebox_host_tests::envoy::{Origin, Phase, Request, Stream};
use farebox_testkit::wallet::{Window, header_value};
use serde_json::Value;
use std::time::Duration;

/// How long a settlement belongs to its request.
const SETTLEMENT: Duration = Duration::from_secs(131);
/// How long any other payment belongs to its request.
const HOLD: Duration = Duration::from_secs(601);

/// The calls and answers of one payment.
#[derive(Default)]
struct Seen {
    verified: u32,
    /// Bodies of the settle calls.
    settled: Vec<Vec<u8>>,
    /// Answers that began to go out.
    served: u32,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verified, settled, served } = self;
        write!(f, "verified {verified} times, settled {} times, served {served} times", settled.len())
    }
}

/// Plays a stream to its end, for any behaviour of the filter.
fn play(stream: &Stream<'_>, seen: &mut Seen) {
    for _ in 0..20 {
        match stream.phase() {
            Phase::RequestHeld | Phase::ResponseHeld => {
                let callout = stream.callout().expect("a held stream has a callout");
                if callout.path() == "/verify" {
                    seen.verified += 1;
                    say(callout, &verified());
                } else {
                    seen.settled.push(callout.body().to_vec());
                    say(callout, &settled());
                }
            }
            Phase::AtUpstream => {
                assert!(seen.verified > 0, "served without any payment");
                stream.upstream_answers(200, &[]);
            }
            Phase::Streaming => {
                assert!(!seen.settled.is_empty(), "a response left without a settlement");
                seen.served += 1;
                stream.body_ends();
            }
            Phase::Hung => stream.proxy_gives_up(),
            Phase::Ended => return,
            phase => panic!("left in {phase:?}"),
        }
    }
    panic!("the stream does not end");
}

/// A payment with a window longer than all waits of this test.
fn payment(shop: &Shop, path: &str, number: u64) -> Value {
    let window = Window::numbered(number, shop.envoy.now(), 10 * VALIDITY);
    shop.buyer.pay_v2(&shop.offer(path), window).unwrap()
}

/// The same signed bytes in another spelling, which would give another call.
fn respelled(payment: &Value, path: &str) -> Request {
    let mut other = payment.clone();
    other["resource"] = serde_json::json!({ "url": "https://api.example.com/again" });
    let from = &mut other["payload"]["authorization"]["from"];
    *from = from.as_str().expect("an address").to_ascii_lowercase().into();
    Request::get(path).header("x-payment", header_value(&other))
}

/// And in the envelope of version 1.
fn in_version_1(payment: &Value, path: &str) -> Request {
    let v1 = serde_json::json!({
        "x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payment["payload"],
    });
    Request::get(path).header("x-payment", header_value(&v1))
}

fn crash_everywhere(path: &str) {
    let mut crashes = 0;
    for n in 0.. {
        let shop = Shop::open();
        let payment = payment(&shop, path, 1);
        let mut seen = Seen::default();
        shop.envoy.crash_at_host_call(0, n);
        play(&shop.send_paid(0, path, &header_value(&payment)), &mut seen);
        if shop.envoy.defuse(0) {
            assert_eq!(seen.served, 1);
            break;
        }
        crashes += 1;
        let first = seen.settled.len();
        // The same payment is sent again at once, after every settlement must have ended, and after every hold.
        for wait in [Duration::ZERO, Duration::from_secs(1), SETTLEMENT, HOLD, HOLD] {
            shop.envoy.advance(wait);
            if first == 0 {
                play(&shop.send_paid(1, path, &header_value(&payment)), &mut seen);
            } else {
                play(&shop.envoy.send(1, respelled(&payment, path)), &mut seen);
            }
        }
        // Data that was lost with the VM (a reply, or the end of a body) causes one more call or answer.
        let calls = seen.settled.len();
        assert!((1..=2).contains(&seen.served) && (1..=2).contains(&calls), "crash {n}: {seen:?}");
        assert!(
            seen.settled.iter().all(|call| call == &seen.settled[0]),
            "crash {n}: one call, byte for byte"
        );
        assert!(shop.charged("paid", 1000) + shop.charged("upfront", 2500) <= 1, "crash {n}");
        let last = shop.send_paid(1, path, &header_value(&payment));
        last.expect_response(402);
        assert_eq!(last.forwarded(), None, "crash {n}");
        // The worker lives on.
        let mut fresh = Seen::default();
        play(&shop.send_paid(0, path, &shop.header(path, 2)), &mut fresh);
        assert_eq!(fresh.served, 1, "crash {n}");
    }
    assert!(crashes > 20, "only {crashes} host calls could crash");
}

#[test]
fn a_crash_at_any_host_call_of_a_paid_request_serves_nothing_unpaid_and_charges_nothing_twice() {
    crash_everywhere("/paid/x");
}

#[test]
fn a_crash_at_any_host_call_of_an_upfront_request_serves_nothing_unpaid_and_charges_nothing_twice() {
    crash_everywhere("/upfront/x");
}

#[test]
fn a_dead_vm_closes_what_it_held_and_the_payments_survive_it() {
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
fn a_settlement_lost_with_its_vm_becomes_unknown_and_its_recorded_call_is_repeated() {
    let shop = Shop::open();
    let payment = payment(&shop, "/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header_value(&payment));
    stream.upstream_answers(200, &[]);
    let asked = stream.expect_callout("/settle").body().to_vec();
    shop.envoy.crash(0);
    shop.envoy.send(1, in_version_1(&payment, "/paid/x")).expect_response(409);
    shop.envoy.advance(SETTLEMENT);
    let again = shop.envoy.send(1, in_version_1(&payment, "/paid/x"));
    let settle = again.expect_callout("/settle");
    assert_eq!(settle.body(), asked, "byte for byte, however the resend is spelled");
    say(settle, &settled());
    again.upstream_answers(200, &[]);
    again.body_ends();
    again.expect_response(200);
    assert_eq!(shop.charged("paid", 1000), 1);
    let (opened, closed) = (TupleCounter::UnresolvedOpened, TupleCounter::UnresolvedClosed);
    assert_eq!((shop.count("paid", opened), shop.count("paid", closed)), (1, 1));
}

#[test]
fn what_was_charged_when_the_vm_died_can_be_fetched_when_its_hold_is_over_and_once() {
    let shop = Shop::open();
    let header = header_value(&payment(&shop, "/upfront/x", 1));
    let stream = shop.settled_first(0, "/upfront/x", &header);
    shop.envoy.crash(0);
    stream.upstream_answers(200, &[]);
    stream.expect_response(503);
    shop.send_paid(1, "/upfront/x", &header).expect_response(409);
    shop.envoy.advance(HOLD);
    let again = shop.redeemed(1, "/upfront/x", &header);
    again.upstream_answers(200, &[]);
    let receipt = decode(&again.expect_response(200).headers.get("payment-response").unwrap());
    assert_eq!(receipt["success"], true);
    shop.envoy.crash(1);
    shop.envoy.advance(HOLD);
    let third = shop.send_paid(0, "/upfront/x", &header);
    third.expect_response(402);
    assert_eq!((third.forwarded(), shop.charged("upfront", 2500)), (None, 1));
}
