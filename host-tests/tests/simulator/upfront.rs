//! Routes that settle before they serve.

use crate::shop::{Shop, body, counters, decode, say, settled};
use farebox_core::metrics::TupleCounter;
use farebox_host_tests::envoy::Request;
use serde_json::json;

#[test]
fn an_upfront_payment_is_settled_first_and_never_verified() {
    let shop = Shop::open();
    let offer = shop.offer("/upfront/x");
    assert_eq!(offer["extra"]["paymentFlow"], "upfront");
    let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    say(stream.expect_callout("/settle"), &settled());
    let expected = [("PaymentPresented", 1), ("PaymentRequired", 2), ("PaymentVerified", 1)];
    assert_eq!(shop.counted("upfront"), counters(&expected), "counted before the upstream answers");
    assert_eq!(shop.charged("upfront", 2500), 1);
    let payer = stream.expect_forwarded().get("x-payment-payer");
    assert_eq!(payer, Some(shop.buyer.address().to_string()));
    stream.upstream_answers(200, &[]);
    assert!(stream.callout().is_none());
    assert!(stream.expect_response(200).headers.get("payment-response").is_some());
    stream.body_ends();
}

#[test]
fn an_upfront_payment_that_is_refused_reaches_no_upstream() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    let refusal = json!({
        "success": false, "errorReason": "insufficient_funds", "transaction": "", "network": "eip155:84532",
    });
    say(stream.expect_callout("/settle"), &refusal);
    stream.expect_response(402);
    assert_eq!((stream.forwarded(), shop.charged("upfront", 2500)), (None, 0));
}

#[test]
fn an_upfront_payment_of_unknown_outcome_reaches_no_upstream() {
    let shop = Shop::open();
    let header = shop.header("/upfront/x", 1);
    let stream = shop.send_paid(0, "/upfront/x", &header);
    stream.expect_callout("/settle").times_out();
    stream.expect_response(503);
    assert_eq!(stream.forwarded(), None);
    let again = shop.send_paid(1, "/upfront/x", &header);
    say(again.expect_callout("/settle"), &settled());
    again.expect_forwarded();
    assert_eq!(shop.charged("upfront", 2500), 1);
}

#[test]
fn a_charge_without_service_is_counted_and_keeps_its_receipt() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    say(stream.expect_callout("/settle"), &settled());
    stream.upstream_answers(500, &[]);
    let response = stream.expect_response(500);
    let receipt = decode(&response.headers.get("payment-response").unwrap());
    assert_eq!(receipt["success"], true);
    assert!(response.headers.get("cache-control").unwrap().contains("private"));
    stream.body_ends();
    assert_eq!(shop.count("upfront", TupleCounter::UpstreamFailedAfterCharge), 1);
    assert_eq!(shop.charged("upfront", 2500), 1);
}

#[test]
fn a_settled_request_the_router_could_not_deliver_keeps_its_receipt() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/upfront/x", &shop.header("/upfront/x", 1));
    say(stream.expect_callout("/settle"), &settled());
    stream.router_answers(503, "no_healthy_upstream");
    let response = stream.response().expect("the client gets an answer");
    assert!(response.status >= 500);
    assert!(response.headers.get("payment-response").is_some());
    assert_eq!(shop.count("upfront", TupleCounter::UpstreamFailedAfterCharge), 1);
}

#[test]
fn a_websocket_is_sold_upfront() {
    let shop = Shop::open();
    let upgrade = |request: Request| request.header("connection", "Upgrade").header("upgrade", "websocket");
    let header = shop.header("/upfront/x", 1);
    let request = upgrade(Request::get("/upfront/x")).header("payment-signature", header);
    let stream = shop.envoy.send(0, request);
    say(stream.expect_callout("/settle"), &settled());
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
    say(stream.expect_callout("/settle"), &settled());
    stream.upstream_answers(200, &[]);
    stream.body_ends();
    shop.send_paid(1, "/upfront/x", &header).expect_response(402);
    assert_eq!(shop.charged("upfront", 2500), 1);
}
