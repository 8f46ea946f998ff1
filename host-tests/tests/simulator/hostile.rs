//! Bytes that only a hostile or broken client sends.

use crate::shop::{PAYMENTS, Shop, body};
use farebox_core::metrics::FailureReason;
use farebox_core::protocol::encode_base64;
use farebox_host_tests::envoy::{Phase, Request, Response};
use farebox_testkit::wallet::header_value;
use serde_json::json;

/// Sends a header that is not a payment, and expects the refusal.
#[track_caller]
fn refused(shop: &Shop, name: &str, value: impl AsRef<[u8]>) -> Response {
    let stream = shop.envoy.send(0, Request::get("/paid/x").header(name, value));
    let response = stream.expect_response(400);
    assert_eq!(body(&response)["reason"], "invalid_payment_header");
    assert_eq!(body(&response)["retriable"], false);
    assert_eq!((stream.forwarded(), stream.phase()), (None, Phase::Ended));
    response
}

#[test]
fn a_non_utf8_header_is_data_not_death() {
    let shop = Shop::open();
    let stream = shop.envoy.send(0, Request::get("/free/x").header("x-bytes", b"a\xffb"));
    assert_eq!(stream.expect_forwarded().get_bytes("x-bytes"), Some(b"a\xffb".as_slice()));
    refused(&shop, "payment-signature", b"\xff\xfe");
    refused(&shop, "x-payment", b"e30\xff");
    for name in ["accept", "user-agent", "x-forwarded-host", "upgrade", "connection", "origin"] {
        shop.envoy.send(0, Request::get("/paid/x").replacing(name, b"Mozilla text/html \xff"));
    }
    let stream = shop.envoy.send(0, Request::get("/paid/x").replacing(":authority", b"a\xffb"));
    assert_eq!(stream.forwarded(), None);
    let stream = shop.envoy.send(0, Request::get("/paid/x").replacing(":path", b"/paid/\xff"));
    stream.expect_response(400);
    let stream = shop.envoy.send(0, Request::get("/free/x").replacing(":method", b"\xff"));
    assert_ne!(stream.phase(), Phase::Hung);
}

#[test]
fn base64_that_is_none_is_refused() {
    let shop = Shop::open();
    for value in ["!", "=", "====", "a", "e30=e30=", "e30-", "e3_0", "e30 e30", "\u{feff}e30="] {
        refused(&shop, "payment-signature", value);
    }
}

#[test]
fn json_that_is_no_payment_is_refused() {
    let shop = Shop::open();
    let texts = [
        "",
        "null",
        "[]",
        "{}",
        "2",
        "\"x\"",
        "{\"x402Version\":2}",
        "{\"x402Version\":3}",
        "{\"x402Version\":\"2\"}",
        "{\"x402Version\":2,\"accepted\":[],\"payload\":{}}",
        "{\"x402Version\":2,\"accepted\":{},\"payload\":5}",
        "{\"x402Version\":2,\"x402Version\":2,\"accepted\":{},\"payload\":{}}",
        "{\"x402Version\":2",
        "{\"x402Version\":1e400}",
        "{\"x402Version\":99999999999999999999999999}",
        "nan",
    ];
    for text in texts.iter().skip(1) {
        refused(&shop, "payment-signature", encode_base64(text.as_bytes()));
    }
    refused(&shop, "payment-signature", encode_base64(b"{\"x402Version\":2,\"\xff\":1}"));
}

#[test]
fn deep_json_is_refused() {
    let shop = Shop::open();
    for (open, count) in [("[", 30_000), ("{\"a\":", 6_000)] {
        refused(&shop, "payment-signature", encode_base64(open.repeat(count).as_bytes()));
        let nested =
            format!("{}1{}", open.repeat(count / 2), if open == "[" { "]" } else { "}" }.repeat(count / 2));
        let inside = format!("{{\"x402Version\":2,\"accepted\":{{}},\"payload\":{nested}}}");
        refused(&shop, "payment-signature", encode_base64(inside.as_bytes()));
        let extension =
            format!("{{\"x402Version\":2,\"accepted\":{{}},\"payload\":{{}},\"extensions\":{nested}}}");
        refused(&shop, "payment-signature", encode_base64(extension.as_bytes()));
    }
}

#[test]
fn a_payment_over_the_size_cap_is_refused() {
    let shop = Shop::open();
    let mut payment = shop.payment("/paid/x", 1);
    payment["extensions"] = json!({ "pad": "x".repeat(64 * 1024) });
    let header = header_value(&payment);
    assert!(header.len() > 64 * 1024);
    refused(&shop, "payment-signature", header);
    refused(&shop, "x-payment", "A".repeat(64 * 1024));
}

#[test]
fn a_payment_just_under_the_size_cap_is_served() {
    let shop = Shop::open();
    let mut payment = shop.payment("/paid/x", 1);
    payment["extensions"] = json!({ "pad": "x".repeat(30 * 1024) });
    shop.serve(0, "/paid/x", &header_value(&payment));
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_header_map_that_breaks_off_is_never_served() {
    let shop = Shop::open();
    for bytes in 0..200 {
        shop.envoy.cut_header_maps(Some(bytes));
        let stream = shop.envoy.send(0, Request::get("/free/x").header("x-pad", "x".repeat(100)));
        assert_eq!(stream.forwarded(), None, "{bytes}");
    }
    shop.envoy.cut_header_maps(None);
    shop.envoy.send(0, Request::get("/free/x")).expect_forwarded();
}

#[test]
fn a_fault_of_ours_after_the_charge_invites_nobody_to_pay_again() {
    let shop = Shop::open();
    let stream = shop.settled_first(0, "/upfront/x", &shop.header("/upfront/x", 1));
    shop.envoy.cut_header_maps(Some(3));
    stream.upstream_answers(200, &[]);
    assert_eq!(body(&stream.expect_response(500))["retriable"], false);
}

#[test]
fn huge_other_headers_are_carried() {
    let shop = Shop::open();
    let big = "x".repeat(64 * 1024);
    let stream = shop.envoy.send(0, Request::get("/free/x").header("x-big", &big));
    assert_eq!(stream.expect_forwarded().get("x-big"), Some(big.clone()));
    shop.envoy.send(0, Request::get("/paid/x").header("x-big", &big)).expect_response(402);
    let many = (0..2000).fold(Request::get("/paid/x"), |r, n| r.header(&format!("x-{n}"), "1"));
    shop.envoy.send(0, many).expect_response(402);
}

#[test]
fn numbers_no_machine_word_holds_are_refused() {
    let shop = Shop::open();
    let huge = "9".repeat(400);
    for member in ["value", "validAfter", "validBefore"] {
        for value in
            [json!(huge), json!("-1"), json!("0x10"), json!("1e3"), json!("1.0"), json!(" 1"), json!(1)]
        {
            let mut payment = shop.payment("/paid/x", 1);
            payment["payload"]["authorization"][member] = value.clone();
            let stream = shop.send_paid(0, "/paid/x", &header_value(&payment));
            let response = stream.response().expect("an answer");
            assert!(matches!(response.status, 400 | 402), "{member} {value}: {}", response.status);
            assert_eq!(stream.forwarded(), None, "{member} {value}");
        }
    }
    assert_eq!(shop.envoy.shared_keys(PAYMENTS), 0);
}

#[test]
fn a_repeated_payment_header_is_refused() {
    let shop = Shop::open();
    let (first, second) = (shop.header("/paid/x", 1), shop.header("/paid/x", 2));
    for name in ["payment-signature", "x-payment"] {
        let request = Request::get("/paid/x").header(name, &first).header(name, &second);
        let stream = shop.envoy.send(0, request);
        assert_eq!(body(&stream.expect_response(400))["reason"], "invalid_payment_header");
        assert_eq!(stream.forwarded(), None);
    }
    assert_eq!(shop.failed("paid", FailureReason::InvalidPaymentHeader), 2);
}

#[test]
fn of_two_different_payment_headers_the_new_one_counts() {
    let shop = Shop::open();
    let request = Request::get("/paid/x")
        .header("x-payment", "garbage")
        .header("payment-signature", shop.header("/paid/x", 1));
    shop.envoy.send(0, request).expect_callout("/verify");
}

#[test]
fn signatures_of_every_length_are_refused_or_left_to_the_facilitator() {
    let shop = Shop::open();
    for length in [0, 1, 63, 64, 65, 66, 96, 200, 2000] {
        let mut payment = shop.payment("/paid/x", length as u64);
        payment["payload"]["signature"] = json!(format!("0x{}", "ab".repeat(length)));
        let stream = shop.send_paid(0, "/paid/x", &header_value(&payment));
        assert_eq!(stream.forwarded(), None, "{length}");
        if stream.callout().is_none() {
            stream.expect_response(402);
        }
    }
}
