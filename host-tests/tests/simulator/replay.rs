//! One payment, one service: across workers, envelopes, routes, lost races and clock jumps.

use crate::shop::{PAYMENTS, Shop, TRANSACTION, VALIDITY, body, decode, refused, say, settled, verified};
use farebox_core::metrics::{FailureReason, ReplayState, TupleCounter};
use farebox_host_tests::envoy::{Phase, Request};
use farebox_testkit::wallet::{Window, header_value};
use serde_json::json;
use std::time::Duration;

#[test]
fn of_a_hundred_concurrent_uses_over_two_workers_one_reaches_the_upstream() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let streams: Vec<_> = (0..100).map(|n| shop.send_paid(n % 2, "/paid/x", &header)).collect();
    let (waiting, refused): (Vec<_>, Vec<_>) = streams.iter().partition(|s| s.phase() == Phase::RequestHeld);
    assert_eq!((waiting.len(), refused.len()), (1, 99));
    for stream in refused {
        let response = stream.expect_response(409);
        assert_eq!(response.headers.get("retry-after").as_deref(), Some("1"));
        assert_eq!(response.headers.get("payment-required"), None);
        assert_eq!(body(&response)["retriable"], false);
        assert_eq!(stream.forwarded(), None);
    }
    say(waiting[0].expect_callout("/verify"), &verified());
    waiting[0].upstream_answers(200, &[]);
    say(waiting[0].expect_callout("/settle"), &settled());
    waiting[0].body_ends();
    assert_eq!(shop.charged("paid", 1000), 1);
    assert_eq!(shop.count("paid", TupleCounter::ReplayRejected(ReplayState::InFlight)), 99);
    assert_eq!(shop.failed("paid", FailureReason::PaymentReplayed), 99);
}

#[test]
fn of_two_workers_in_the_middle_of_the_same_reservation_one_wins() {
    let shop = Shop::open();
    for number in [1, 2] {
        let header = shop.header("/paid/x", number);
        let request = Request::get("/paid/x").header("payment-signature", &header);
        let rival = shop.envoy.send_before_next_write(1, request);
        let stream = shop.send_paid(0, "/paid/x", &header);
        assert_eq!(rival.phase(), Phase::RequestHeld);
        stream.expect_response(409);
        say(rival.expect_callout("/verify"), &verified());
        rival.upstream_answers(500, &[]);
        rival.body_ends();
        // The bucket of the payment was absent before and is present now.
        let again = shop
            .envoy
            .send_before_next_write(1, Request::get("/paid/x").header("payment-signature", &header));
        shop.send_paid(0, "/paid/x", &header).expect_response(409);
        assert_eq!(again.phase(), Phase::RequestHeld);
    }
}

#[test]
fn a_payment_that_was_served_is_refused_with_new_terms_on_every_worker() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.serve(0, "/paid/x", &header);
    for worker in [0, 1] {
        let stream = shop.send_paid(worker, "/paid/x", &header);
        let response = stream.expect_response(402);
        let challenge = decode(&response.headers.get("payment-required").unwrap());
        assert!(challenge["extensions"]["paymentFailure"]["reason"].is_string());
        assert_eq!(stream.forwarded(), None);
    }
    assert_eq!(shop.count("paid", TupleCounter::ReplayRejected(ReplayState::Settled)), 2);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn another_spelling_or_envelope_is_the_same_payment() {
    let shop = Shop::open();
    let payment = shop.payment("/paid/x", 1);
    let held = shop.send_paid(0, "/paid/x", &header_value(&payment));
    let padded = farebox_core::protocol::encode_base64(format!(" {payment} ").as_bytes());
    let mut upper = payment.clone();
    let from = payment["payload"]["authorization"]["from"].as_str().unwrap();
    upper["payload"]["authorization"]["from"] = json!(format!("0x{}", from[2..].to_ascii_uppercase()));
    let window = Window::numbered(1, shop.envoy.now(), VALIDITY);
    let v1 = shop.buyer.pay_v1(&payment["accepted"], "base-sepolia", window).unwrap();
    for (name, header) in [
        ("payment-signature", padded),
        ("payment-signature", header_value(&upper)),
        ("x-payment", header_value(&payment)),
        ("x-payment", header_value(&v1)),
    ] {
        shop.envoy.send(1, Request::get("/paid/x").header(name, header)).expect_response(409);
    }
    assert_eq!(held.phase(), Phase::RequestHeld);
}

#[test]
fn a_payment_buys_nothing_but_what_it_was_first_used_for() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let elsewhere = |status: u16| {
        let before = shop.payments();
        let stream = shop.send_paid(1, "/other/x", &header);
        let response = stream.expect_response(status);
        assert_eq!((stream.forwarded(), stream.callout().map(|call| call.path())), (None, None));
        let asks = response.headers.get("payment-required").is_some();
        assert_eq!((asks, shop.payments()), (status == 402, before), "{status}");
        body(&response)["error"].as_str().unwrap_or_default().to_owned()
    };
    let stream = shop.send_paid(0, "/paid/x", &header);
    elsewhere(409);
    say(stream.expect_callout("/verify"), &verified());
    elsewhere(409);
    stream.upstream_answers(200, &[]);
    elsewhere(409);
    stream.expect_callout("/settle").times_out();
    elsewhere(503);
    let again = shop.send_paid(0, "/paid/x", &header);
    say(again.expect_callout("/settle"), &settled());
    let owed = elsewhere(409);
    assert!(owed.contains("/paid/*") && owed.contains(TRANSACTION), "{owed}");
    again.router_answers(503, "no_healthy_upstream");
    elsewhere(409);
    let fetched = shop.redeemed(0, "/paid/x", &header);
    fetched.upstream_answers(200, &[]);
    fetched.body_ends();
    elsewhere(402);
    assert_eq!(shop.count("other", TupleCounter::ReplayRejected(ReplayState::OtherRoute)), 5);
    assert_eq!((shop.charged("paid", 1000), shop.charged("other", 1000)), (1, 0));
}

#[test]
fn a_payment_that_bought_nothing_can_be_used_again() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let invalid = shop.send_paid(0, "/paid/x", &header);
    invalid
        .expect_callout("/verify")
        .replies(200, r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#);
    invalid.expect_response(402);
    let failed = shop.at_upstream(1, "/paid/x", &header);
    failed.upstream_answers(500, &[]);
    failed.body_ends();
    let rejected = shop.at_upstream(0, "/paid/x", &header);
    rejected.upstream_answers(200, &[]);
    say(rejected.expect_callout("/settle"), &refused());
    rejected.expect_response(402);
    shop.serve(1, "/paid/x", &header);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn lost_races_are_run_again() {
    let shop = Shop::open();
    shop.envoy.lose_races(5);
    shop.serve(0, "/paid/x", &shop.header("/paid/x", 1));
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_table_that_cannot_be_written_refuses_the_payment() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.envoy.lose_races(1_000_000);
    let stream = shop.send_paid(0, "/paid/x", &header);
    let response = stream.expect_response(503);
    assert!(response.headers.get("retry-after").is_some());
    // The payment could be owed, so the answer does not ask for another one.
    assert_eq!((body(&response)["retriable"].clone(), stream.forwarded()), (json!(false), None));
    assert_eq!(response.headers.get("payment-required"), None);
    shop.envoy.lose_races(0);
    assert_eq!(shop.failed("paid", FailureReason::ReplayGuardUnavailable), 1);
    shop.serve(0, "/paid/x", &header);
}

#[test]
fn a_table_that_cannot_be_read_refuses_the_payment() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.serve(0, "/paid/x", &header);
    shop.envoy.corrupt_shared_data(b"\xff not ours");
    let stream = shop.send_paid(0, "/paid/x", &header);
    stream.expect_response(503);
    assert_eq!(stream.forwarded(), None);
    assert_eq!(shop.failed("paid", FailureReason::ReplayGuardUnavailable), 1);
}

#[test]
fn a_clock_that_jumps_back_does_not_forget_a_payment() {
    let shop = Shop::open();
    let start = shop.envoy.now();
    let header = shop.header("/paid/x", 1);
    shop.serve(0, "/paid/x", &header);
    shop.envoy.set_wall_clock(start - 30);
    shop.envoy.tick();
    shop.send_paid(1, "/paid/x", &header).expect_response(402);
    shop.envoy.set_wall_clock(start + 10 * VALIDITY);
    shop.envoy.tick();
    shop.send_paid(1, "/paid/x", &header).expect_response(402);
    shop.envoy.set_wall_clock(start);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn an_authorization_is_remembered_as_long_as_it_lives_and_one_that_lives_longer_is_refused() {
    let shop = Shop::open();
    let lives = |valid_before| {
        let window = Window { valid_after: 0, valid_before, nonce: [9; 32] };
        header_value(&shop.buyer.pay_v2(&shop.offer("/paid/x"), window).unwrap())
    };
    for valid_before in [u64::MAX, shop.envoy.now() + 90_001] {
        let stream = shop.send_paid(0, "/paid/x", &lives(valid_before));
        stream.expect_response(402);
        assert_eq!(stream.forwarded(), None);
    }
    let header = lives(shop.envoy.now() + 90_000);
    shop.serve(0, "/paid/x", &header);
    for _ in 0..12 {
        shop.envoy.advance(Duration::from_secs(7200));
        shop.envoy.tick();
        let stream = shop.send_paid(1, "/paid/x", &header);
        stream.expect_response(402);
        assert_eq!(stream.forwarded(), None);
    }
}

#[test]
fn the_table_is_bounded_however_many_payments_pass() {
    let shop = Shop::open();
    for number in 0..300 {
        let stream = shop.send_paid((number % 2) as usize, "/paid/x", &shop.header("/paid/x", number));
        stream.client_leaves();
    }
    assert!(shop.envoy.shared_keys(PAYMENTS) <= farebox_core::payment::BUCKETS as usize);
    assert!(shop.envoy.shared_keys("") - shop.envoy.shared_keys(PAYMENTS) <= 64);
    assert!(shop.payments().is_empty(), "what bought nothing leaves nothing");
    assert_eq!(shop.failed("paid", FailureReason::ClientDisconnected), 300);
}
