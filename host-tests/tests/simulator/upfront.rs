//! Routes that settle before they serve: the money buys an answer, not an attempt.

use crate::shop::{Shop, body, counters, decode, refused, say, settle_first, settled, verified};
use farebox_core::metrics::{FailureReason, TupleCounter, UnchargedReason};
use farebox_host_tests::envoy::{Request, Stream};
use serde_json::json;

/// Header of an answer that is not the paid one: how to fetch the paid answer.
const OWED: &str = "x-payment-owed";

#[test]
fn an_upfront_payment_is_verified_and_settled_before_the_upstream_sees_it() {
    let shop = Shop::open();
    let offer = shop.offer("/upfront/x");
    assert_eq!(offer["extra"]["paymentFlow"], "upfront");
    let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    let verify = stream.expect_callout("/verify");
    let asked = verify.json();
    say(verify, &verified());
    assert_eq!((stream.forwarded(), shop.charged("upfront", 2500)), (None, 0));
    let settle = stream.expect_callout("/settle");
    assert_eq!(settle.json(), asked, "what is settled is what was verified");
    say(settle, &settled());
    let expected = [("PaymentPresented", 1), ("PaymentRequired", 2), ("PaymentVerified", 1)];
    assert_eq!(shop.counted("upfront"), counters(&expected), "counted before the upstream answers");
    assert_eq!(shop.charged("upfront", 2500), 1);
    let payer = stream.expect_forwarded().get("x-payment-payer");
    assert_eq!(payer, Some(shop.buyer.address().to_string()));
    stream.upstream_answers(200, &[]);
    assert!(stream.callout().is_none());
    let response = stream.expect_response(200);
    assert!(response.headers.get("payment-response").is_some());
    assert_eq!(response.headers.get(OWED), None);
    stream.body_ends();
}

#[test]
fn an_upfront_payment_that_is_refused_reaches_no_upstream() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    say(stream.expect_callout("/verify"), &verified());
    say(stream.expect_callout("/settle"), &refused());
    stream.expect_response(402);
    assert_eq!((stream.forwarded(), shop.charged("upfront", 2500)), (None, 0));
    assert!(shop.payments().is_empty());
}

#[test]
fn a_signature_that_only_a_chain_could_check_is_verified_and_never_settled_unless_it_is_good() {
    let shop = Shop::open();
    let mut payment = shop.payment("/upfront/x", 1);
    payment["payload"]["signature"] = json!(format!("0x{}", "ab".repeat(66)));
    let header = farebox_testkit::wallet::header_value(&payment);
    for _ in 0..3 {
        let stream = shop.send_paid(0, "/upfront/x", &header);
        say(
            stream.expect_callout("/verify"),
            &json!({ "isValid": false, "invalidReason": "invalid_exact_evm_payload_signature" }),
        );
        stream.expect_response(402);
        assert_eq!((stream.callout().map(|call| call.path()), stream.forwarded()), (None, None));
        assert!(shop.payments().is_empty(), "a stranger leaves nothing behind");
    }
    assert_eq!(shop.failed("upfront", FailureReason::PaymentInvalid), 3);
    assert_eq!(shop.count("upfront", TupleCounter::UnresolvedOpened), 0);
    // It does not block the good authorization of this nonce either.
    shop.settled_first(1, "/upfront/x", &shop.header("/upfront/x", 1));
}

#[test]
fn an_upfront_payment_of_unknown_outcome_reaches_no_upstream() {
    let shop = Shop::open();
    let header = shop.header("/upfront/x", 1);
    let stream = shop.send_paid(0, "/upfront/x", &header);
    say(stream.expect_callout("/verify"), &verified());
    stream.expect_callout("/settle").times_out();
    stream.expect_response(503);
    assert_eq!(stream.forwarded(), None);
    let again = shop.send_paid(1, "/upfront/x", &header);
    say(again.expect_callout("/settle"), &settled());
    again.expect_forwarded();
    assert_eq!(shop.charged("upfront", 2500), 1);
}

#[test]
fn an_upstream_that_fails_after_the_charge_owes_its_answer_and_says_so() {
    type End = fn(&Stream<'_>);
    let ends: [(u16, End); 5] = [
        (500, |stream| stream.upstream_answers(500, &[])),
        (404, |stream| stream.upstream_answers(404, &[])),
        (302, |stream| stream.upstream_answers(302, &[("location", "/elsewhere")])),
        (502, |stream| stream.router_answers(503, "no_healthy_upstream")),
        (504, |stream| stream.router_answers(504, "response_timeout")),
    ];
    for (number, (status, end)) in ends.into_iter().enumerate() {
        let shop = Shop::open();
        let header = shop.header("/upfront/x", number as u64);
        let stream = shop.settled_first(0, "/upfront/x", &header);
        end(&stream);
        let response = stream.expect_response(status);
        let receipt = response.headers.get("payment-response");
        assert_eq!(decode(receipt.as_ref().unwrap())["success"], true, "{status}");
        assert_eq!(response.headers.get("payment-required"), None, "{status}");
        let hint = response.headers.get(OWED).or_else(|| body(&response)["hint"].as_str().map(str::to_owned));
        assert!(hint.unwrap().contains("same payment"), "{status}");
        drop(stream);

        let again = shop.redeemed(1, "/upfront/x", &header);
        shop.send_paid(0, "/upfront/x", &header).expect_response(409);
        again.upstream_answers(200, &[]);
        let response = again.expect_response(200);
        assert_eq!((response.headers.get("payment-response"), response.headers.get(OWED)), (receipt, None));
        again.body_ends();
        assert_eq!(shop.charged("upfront", 2500), 1, "{status}");
        let redeemed = TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed);
        assert_eq!(shop.count("upfront", redeemed), 1, "{status}");
        shop.send_paid(0, "/upfront/x", &header).expect_response(402);
    }
}

#[test]
fn an_answer_is_owed_however_often_the_upstream_fails() {
    let shop = Shop::open();
    let header = shop.header("/upfront/x", 1);
    shop.settled_first(0, "/upfront/x", &header).upstream_answers(500, &[]);
    let again = shop.redeemed(1, "/upfront/x", &header);
    again.upstream_answers(503, &[]);
    let response = again.expect_response(503);
    assert!(response.headers.get(OWED).is_some() && response.headers.get("payment-response").is_some());
    again.body_ends();
    let third = shop.redeemed(0, "/upfront/x", &header);
    third.upstream_answers(404, &[]);
    assert_eq!(third.expect_response(404).headers.get(OWED), None, "it is an answer, and the last");
    third.body_ends();
    let fourth = shop.send_paid(0, "/upfront/x", &header);
    fourth.expect_response(402);
    assert_eq!((fourth.forwarded(), shop.charged("upfront", 2500)), (None, 1));
}

#[test]
fn a_buyer_who_leaves_before_the_answer_is_owed_it() {
    let shop = Shop::open();
    let header = shop.header("/upfront/x", 1);
    shop.settled_first(0, "/upfront/x", &header).client_leaves();
    let again = shop.redeemed(1, "/upfront/x", &header);
    again.upstream_answers(200, &[]);
    again.body_ends();
    again.expect_response(200);
    shop.send_paid(0, "/upfront/x", &header).expect_response(402);
    assert_eq!(shop.charged("upfront", 2500), 1);
}

#[test]
fn a_charge_without_service_is_counted_and_kept_from_caches() {
    let shop = Shop::open();
    let stream = shop.settled_first(0, "/upfront/x", &shop.header("/upfront/x", 1));
    stream.upstream_answers(500, &[]);
    assert!(stream.expect_response(500).headers.get("cache-control").unwrap().contains("private"));
    stream.body_ends();
    assert_eq!(shop.count("upfront", TupleCounter::UpstreamFailedAfterCharge), 1);
    assert_eq!(shop.charged("upfront", 2500), 1);
}

#[test]
fn a_websocket_is_sold_upfront() {
    let shop = Shop::open();
    let upgrade = |request: Request| request.header("connection", "Upgrade").header("upgrade", "websocket");
    let header = shop.header("/upfront/x", 1);
    let request = upgrade(Request::get("/upfront/x")).header("payment-signature", header);
    let stream = shop.envoy.send(0, request);
    settle_first(&stream);
    assert_eq!(stream.expect_forwarded().get("upgrade").as_deref(), Some("websocket"));
    stream.upstream_answers(101, &[("upgrade", "websocket")]);
    assert!(stream.expect_response(101).headers.get("payment-response").is_some());
    assert_eq!(shop.charged("upfront", 2500), 1);
}

#[test]
fn an_upfront_payment_is_used_once() {
    let shop = Shop::open();
    let header = shop.header("/upfront/x", 1);
    let stream = shop.send_paid(0, "/upfront/x", &header);
    let rival = shop.send_paid(1, "/upfront/x", &header);
    assert_eq!(body(&rival.expect_response(409))["retriable"], false);
    settle_first(&stream);
    stream.upstream_answers(200, &[]);
    stream.body_ends();
    shop.send_paid(1, "/upfront/x", &header).expect_response(402);
    assert_eq!(shop.charged("upfront", 2500), 1);
}
