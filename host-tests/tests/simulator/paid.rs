//! A payment from its header to the receipt.

use crate::shop::{
    GENERATION, PAY_TO, PAYMENTS, Shop, TRANSACTION, VALIDITY, counters, decode, rules, say, settled,
    verified,
};
use farebox_core::metrics::MetricSeries;
use farebox_host_tests::envoy::{Headers, Origin, Phase, Request};
use farebox_testkit::wallet::{Window, header_value};
use serde_json::json;
use std::time::Duration;

#[test]
fn trailers_say_nothing_that_only_farebox_says() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/paid/x", &header_value(&shop.payment("/paid/x", 1)));
    say(stream.expect_callout("/verify"), &verified());
    let lies = [("x-payment-payer", "0x1"), ("X_Obol_Offer", "a"), ("grpc-status", "0")];
    let names = |trailers: Headers| trailers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(stream.request_trailers(&lies)), ["grpc-status"]);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.expect_response(200);
    assert_eq!(names(stream.response_trailers(&[("payment-response", "forged"), lies[2]])), ["grpc-status"]);
    stream.body_ends();
}

#[test]
fn a_paid_request_is_verified_served_settled_and_released() {
    let shop = Shop::open();
    let payment = shop.payment("/paid/x", 1);
    let offer = payment["accepted"].clone();
    let stream = shop.send_paid(0, "/paid/x", &header_value(&payment));

    let verify = stream.expect_callout("/verify");
    assert_eq!((verify.cluster(), verify.timeout()), ("facilitator", Duration::from_secs(5)));
    assert_eq!(verify.headers().get(":authority").as_deref(), Some("facilitator.test"));
    assert_eq!(verify.headers().get(":method").as_deref(), Some("POST"));
    assert_eq!(verify.headers().get("content-type").as_deref(), Some("application/json"));
    let asked = verify.json();
    assert_eq!(asked["x402Version"], 2);
    assert_eq!(asked["paymentRequirements"], offer);
    assert_eq!(asked["paymentPayload"]["payload"], payment["payload"]);
    assert_eq!((stream.phase(), stream.forwarded()), (Phase::RequestHeld, None));
    say(verify, &verified());

    let forwarded = stream.expect_forwarded();
    assert_eq!(forwarded.get("x-payment-payer"), Some(shop.buyer.address().to_string()));
    assert_eq!((forwarded.get("payment-signature"), forwarded.get("x-payment")), (None, None));

    stream.upstream_answers(200, &[("cache-control", "max-age=60"), ("x-payment-response", "forged")]);
    assert_eq!((stream.phase(), stream.response()), (Phase::ResponseHeld, None));
    let settle = stream.expect_callout("/settle");
    assert_eq!((settle.json(), settle.timeout()), (asked, Duration::from_secs(60)));
    say(settle, &settled());

    let response = stream.expect_response(200);
    assert_eq!(response.origin, Origin::Upstream);
    let receipt = response.headers.get("payment-response").unwrap();
    assert_eq!(response.headers.get("x-payment-response"), Some(receipt.clone()));
    assert_eq!(response.headers.count("x-payment-response"), 1);
    let receipt = decode(&receipt);
    assert_eq!(receipt["success"], true);
    assert_eq!(receipt["transaction"], TRANSACTION);
    assert_eq!(receipt["network"], "eip155:84532");
    assert_eq!(receipt["payer"], shop.buyer.address().to_string());
    let caching = response.headers.get("cache-control").unwrap();
    assert!(caching.contains("private") && caching.contains("max-age=60"), "{caching}");

    stream.body_chunk(1000);
    stream.body_ends();
    assert_eq!(stream.phase(), Phase::Ended);
    let challenges = [("PaymentPresented", 1), ("PaymentRequired", 1), ("PaymentVerified", 1)];
    assert_eq!(shop.counted("paid"), counters(&challenges));
    assert_eq!((shop.charged("paid", 1000), shop.charged("other", 1000)), (1, 0));
    assert_eq!(shop.of(&MetricSeries::LastSuccess(crate::shop::tuple("paid"))), shop.envoy.now());
}

#[test]
fn a_v2_payment_in_the_old_header_is_a_v2_payment() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.envoy.send(0, Request::get("/paid/x").header("x-payment", header));
    assert_eq!(stream.expect_callout("/verify").json()["x402Version"], 2);
}

#[test]
fn a_v1_payment_is_verified_as_v1_where_the_facilitator_knows_the_kind() {
    let shop = Shop::open();
    let window = Window::numbered(1, shop.envoy.now(), VALIDITY);
    let payment = shop.buyer.pay_v1(&shop.offer("/paid/x"), "base-sepolia", window).unwrap();
    let stream = shop.envoy.send(0, Request::get("/paid/x").header("x-payment", header_value(&payment)));
    let verify = stream.expect_callout("/verify");
    let asked = verify.json();
    assert_eq!(asked["x402Version"], 1);
    assert_eq!(asked["paymentRequirements"]["maxAmountRequired"], "1000");
    assert_eq!(asked["paymentRequirements"]["network"], "base-sepolia");
    assert_eq!(asked["paymentRequirements"]["payTo"], PAY_TO);
    say(verify, &verified());
    stream.upstream_answers(200, &[]);
    let reply = json!({ "success": true, "transaction": TRANSACTION, "network": "base-sepolia" });
    say(stream.expect_callout("/settle"), &reply);
    let receipt = decode(&stream.expect_response(200).headers.get("x-payment-response").unwrap());
    assert_eq!(receipt["network"], "base-sepolia");
}

#[test]
fn a_v1_payment_becomes_v2_where_the_facilitator_does_not_know_the_kind() {
    let mut rules = rules(GENERATION);
    rules["routes"][0]["options"][0]["v1Kind"] = json!(false);
    let shop = Shop::with_rules(&rules, 1);
    let window = Window::numbered(1, shop.envoy.now(), VALIDITY);
    let payment = shop.buyer.pay_v1(&shop.offer("/paid/x"), "base-sepolia", window).unwrap();
    let stream = shop.envoy.send(0, Request::get("/paid/x").header("x-payment", header_value(&payment)));
    let asked = stream.expect_callout("/verify").json();
    assert_eq!(asked["x402Version"], 2);
    assert_eq!(asked["paymentRequirements"]["amount"], "1000");
    assert_eq!(asked["paymentPayload"]["payload"], payment["payload"]);
}

#[test]
fn the_facilitator_gets_our_terms_whatever_the_client_repeats() {
    let shop = Shop::open();
    let offer = shop.offer("/paid/x");
    let mut payment = shop.payment("/paid/x", 1);
    payment["accepted"]["maxTimeoutSeconds"] = json!(1);
    payment["accepted"]["extra"]["agentSkills"] = json!(["old"]);
    let stream = shop.send_paid(0, "/paid/x", &header_value(&payment));
    assert_eq!(stream.expect_callout("/verify").json()["paymentRequirements"], offer);
}

#[test]
fn a_stream_of_events_is_settled_at_its_head_and_then_left_alone() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[("content-type", "text/event-stream")]);
    say(stream.expect_callout("/settle"), &settled());
    assert!(stream.expect_response(200).headers.get("payment-response").is_some());
    for _ in 0..5 {
        stream.body_chunk(64);
        assert_eq!(stream.phase(), Phase::Streaming);
    }
    stream.body_ends();
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_response_without_a_body_is_settled_too() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(204, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_ends();
    assert!(stream.expect_response(204).headers.get("payment-response").is_some());
}

#[test]
fn a_raw_recovery_byte_is_normalised_for_the_facilitator() {
    let shop = Shop::open();
    let mut payment = shop.payment("/paid/x", 1);
    let signature = payment["payload"]["signature"].as_str().unwrap().to_owned();
    let (rest, v) = signature.split_at(signature.len() - 2);
    let raw = if v == "1b" { "00" } else { "01" };
    payment["payload"]["signature"] = json!(format!("{rest}{raw}"));
    let stream = shop.send_paid(0, "/paid/x", &header_value(&payment));
    assert_eq!(stream.expect_callout("/verify").json()["paymentPayload"]["payload"]["signature"], signature);
}

#[test]
fn paying_for_one_thing_does_not_buy_another() {
    let shop = Shop::open();
    let cheap = shop.payment("/paid/x", 1);
    let stream = shop.send_paid(0, "/upfront/x", &header_value(&cheap));
    let response = stream.expect_response(402);
    let challenge = decode(&response.headers.get("payment-required").unwrap());
    assert_eq!(challenge["accepts"][0]["amount"], "2500");
    assert_eq!((stream.forwarded(), shop.envoy.shared_keys(PAYMENTS)), (None, 0));
    let expected = [("PaymentPresented", 1), ("PaymentFailed(NoMatchingRequirement)", 1)];
    assert_eq!(shop.counted("upfront"), counters(&expected));
}

#[test]
fn forged_underpaid_misdirected_and_expired_payments_are_refused_without_a_call() {
    let shop = Shop::open();
    let now = shop.envoy.now();
    let good = shop.payment("/paid/x", 1);
    let spoil = |path: &[&str], value: serde_json::Value| {
        let mut payment = good.clone();
        let member = path.iter().fold(&mut payment, |at, name| &mut at[*name]);
        *member = value;
        payment
    };
    let with_window = |after: u64, before: u64| {
        let window = Window { valid_after: after, valid_before: before, nonce: [7; 32] };
        shop.buyer.pay_v2(&good["accepted"], window).unwrap()
    };
    let spoiled = [
        spoil(&["payload", "authorization", "from"], json!(PAY_TO)),
        spoil(&["payload", "authorization", "value"], json!("999")),
        spoil(&["payload", "authorization", "to"], json!("0x0000000000000000000000000000000000000001")),
        spoil(&["payload", "authorization", "nonce"], json!(format!("0x{}", "11".repeat(32)))),
        spoil(&["payload", "signature"], json!(format!("0x{}", "00".repeat(65)))),
        with_window(now + 60, now + 600),
        with_window(now - 600, now - 1),
    ];
    for payment in &spoiled {
        let stream = shop.send_paid(0, "/paid/x", &header_value(payment));
        let response = stream.expect_response(402);
        let challenge = decode(&response.headers.get("payment-required").unwrap());
        assert!(challenge["extensions"]["paymentFailure"]["reason"].is_string(), "{payment}");
        assert_eq!(stream.forwarded(), None);
    }
    assert_eq!(shop.envoy.shared_keys(PAYMENTS), 0, "a payment that cannot be good reserves nothing");
    let failed = shop.failed("paid", farebox_core::metrics::FailureReason::PaymentInvalid);
    assert_eq!(failed, spoiled.len() as u64);
}
