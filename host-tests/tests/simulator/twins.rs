//! Two authorizations of one nonce: the chain takes one of them at most. They are two payments, of which at most one
//! is charged and served, and the other one never changes the first.

use crate::shop::{Shop, VALIDITY, body, refused, say, settled, verified};
use farebox_core::metrics::{ReplayState, TupleCounter};
use farebox_host_tests::envoy::Stream;
use farebox_testkit::wallet::{Window, header_value};
use std::time::Duration;

/// Longer than a request may hold a payment before a settlement.
const HOLD: Duration = Duration::from_secs(601);
/// Longer than a settlement may take.
const SETTLEMENT: Duration = Duration::from_secs(131);

/// A state of a payment, and the answer to the other authorization in this state.
struct Moment {
    name: &'static str,
    /// Brings a payment into this state. Returns the stream under way.
    reach: for<'a> fn(&'a Shop, &str) -> Option<Stream<'a>>,
    status: u16,
    /// Plays the first payment from there until it is served.
    finish: for<'a> fn(&'a Shop, &str, Option<Stream<'a>>),
}

/// The two, with one nonce and different ends.
fn twins(shop: &Shop, path: &str, seconds: u64) -> [String; 2] {
    let offer = shop.offer(path);
    let window = Window::numbered(1, shop.envoy.now(), seconds);
    let other = Window { valid_before: window.valid_before + 1, ..window };
    [window, other].map(|window| header_value(&shop.buyer.pay_v2(&offer, window).unwrap()))
}

fn answered(stream: &Stream<'_>) {
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_ends();
    stream.expect_response(200);
}

fn fetched(stream: &Stream<'_>) {
    stream.expect_forwarded();
    stream.upstream_answers(200, &[]);
    stream.body_ends();
    stream.expect_response(200);
}

fn broken(shop: &Shop, header: &str) {
    let stream = shop.at_upstream(0, "/paid/x", header);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_breaks_off();
}

fn unknown(shop: &Shop, header: &str) {
    let stream = shop.at_upstream(0, "/paid/x", header);
    stream.upstream_answers(200, &[]);
    stream.expect_callout("/settle").times_out();
    stream.expect_response(503);
}

fn settled_again(shop: &Shop, header: &str) {
    let stream = shop.send_paid(0, "/paid/x", header);
    say(stream.expect_callout("/settle"), &settled());
    fetched(&stream);
}

const MOMENTS: &[Moment] = &[
    Moment {
        name: "being verified",
        reach: |shop, header| Some(shop.send_paid(0, "/paid/x", header)),
        status: 409,
        finish: |_, _, stream| {
            let stream = stream.unwrap();
            say(stream.expect_callout("/verify"), &verified());
            answered(&stream);
        },
    },
    Moment {
        name: "verified",
        reach: |shop, header| Some(shop.at_upstream(0, "/paid/x", header)),
        status: 409,
        finish: |_, _, stream| answered(&stream.unwrap()),
    },
    Moment {
        name: "settling",
        reach: |shop, header| {
            let stream = shop.at_upstream(0, "/paid/x", header);
            stream.upstream_answers(200, &[]);
            Some(stream)
        },
        status: 409,
        finish: |_, _, stream| {
            let stream = stream.unwrap();
            say(stream.expect_callout("/settle"), &settled());
            stream.body_ends();
        },
    },
    Moment {
        name: "settling, with nobody left to hear of it",
        reach: |shop, header| {
            let stream = shop.at_upstream(0, "/paid/x", header);
            stream.upstream_answers(200, &[]);
            shop.envoy.crash(0);
            shop.envoy.advance(SETTLEMENT);
            None
        },
        status: 409,
        finish: |shop, header, _| settled_again(shop, header),
    },
    Moment {
        name: "of unknown outcome",
        reach: |shop, header| {
            unknown(shop, header);
            None
        },
        status: 409,
        finish: |shop, header, _| settled_again(shop, header),
    },
    Moment {
        name: "being settled again",
        reach: |shop, header| {
            unknown(shop, header);
            Some(shop.send_paid(0, "/paid/x", header))
        },
        status: 409,
        finish: |_, _, stream| {
            let stream = stream.unwrap();
            say(stream.expect_callout("/settle"), &settled());
            fetched(&stream);
        },
    },
    Moment {
        name: "being delivered",
        reach: |shop, header| {
            let stream = shop.at_upstream(0, "/paid/x", header);
            stream.upstream_answers(200, &[]);
            say(stream.expect_callout("/settle"), &settled());
            Some(stream)
        },
        status: 402,
        finish: |_, _, stream| stream.unwrap().body_ends(),
    },
    Moment {
        name: "owed",
        reach: |shop, header| {
            broken(shop, header);
            None
        },
        status: 402,
        finish: |shop, header, _| fetched(&shop.send_paid(0, "/paid/x", header)),
    },
    Moment {
        name: "being redeemed",
        reach: |shop, header| {
            broken(shop, header);
            Some(shop.send_paid(0, "/paid/x", header))
        },
        status: 402,
        finish: |_, _, stream| fetched(&stream.unwrap()),
    },
    Moment {
        name: "delivered",
        reach: |shop, header| {
            shop.serve(0, "/paid/x", header);
            None
        },
        status: 402,
        finish: |_, _, _| {},
    },
];

#[test]
fn the_other_authorization_of_a_nonce_touches_nothing_whatever_became_of_the_first() {
    for moment in MOMENTS {
        let shop = Shop::open();
        let [first, other] = twins(&shop, "/paid/x", VALIDITY);
        let stream = (moment.reach)(&shop, &first);
        let before = shop.payments();
        assert_eq!(before.len(), 1, "{}", moment.name);
        for worker in [1, 0, 1] {
            let twin = shop.send_paid(worker, "/paid/x", &other);
            let response = twin.expect_response(moment.status);
            assert_eq!((twin.forwarded(), twin.callout().map(|call| call.path())), (None, None));
            assert_ne!(body(&response)["retriable"], true, "{}", moment.name);
            assert_eq!(shop.payments(), before, "{}: the record of the first", moment.name);
        }
        let state = if moment.status == 409 { ReplayState::InFlight } else { ReplayState::Settled };
        let rejected = shop.count("paid", TupleCounter::ReplayRejected(state));
        assert_eq!(rejected, 3, "{}", moment.name);
        (moment.finish)(&shop, &first, stream);
        assert_eq!(shop.charged("paid", 1000), 1, "{}", moment.name);
        // Both are used up now.
        for header in [&first, &other] {
            let stream = shop.send_paid(1, "/paid/x", header);
            stream.expect_response(402);
            assert_eq!(stream.forwarded(), None, "{}", moment.name);
        }
        assert_eq!(shop.charged("paid", 1000), 1, "{}", moment.name);
    }
}

#[test]
fn the_other_authorization_may_be_used_once_the_first_is_known_to_be_refused() {
    let shop = Shop::open();
    let [first, other] = twins(&shop, "/paid/x", VALIDITY);
    let stream = shop.at_upstream(0, "/paid/x", &first);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &refused());
    stream.expect_response(402);
    assert!(shop.payments().is_empty());
    shop.serve(1, "/paid/x", &other);
    shop.send_paid(0, "/paid/x", &first).expect_response(402);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_request_that_outlived_its_hold_settles_nothing_for_the_one_that_took_over() {
    for same in [true, false] {
        let shop = Shop::open();
        let [first, other] = twins(&shop, "/paid/x", 10_000);
        let slow = shop.at_upstream(0, "/paid/x", &first);
        shop.envoy.advance(HOLD);
        let quick = shop.at_upstream(1, "/paid/x", if same { &first } else { &other });
        let before = shop.payments();
        slow.upstream_answers(200, &[("set-cookie", "paid-content")]);
        assert_eq!(slow.expect_response(409).headers.get("set-cookie"), None);
        assert_eq!((slow.callout().map(|call| call.path()), shop.payments()), (None, before));
        assert_eq!(shop.charged("paid", 1000), 0);
        answered(&quick);
        assert_eq!(shop.charged("paid", 1000), 1);
    }
}

#[test]
fn an_authorization_of_another_amount_is_another_payment() {
    let shop = Shop::open();
    let cheap = shop.header("/paid/x", 1);
    let dear = shop.header("/upfront/x", 1);
    let stream = shop.settled_first(0, "/upfront/x", &dear);
    shop.send_paid(1, "/paid/x", &cheap).expect_response(402);
    stream.client_leaves();
    let before = shop.payments();
    let twin = shop.send_paid(1, "/paid/x", &cheap);
    twin.expect_response(402);
    assert_eq!((twin.forwarded(), shop.payments()), (None, before));
    fetched(&shop.send_paid(1, "/upfront/x", &dear));
    assert_eq!((shop.charged("upfront", 2500), shop.charged("paid", 1000)), (1, 0));
}
