//! A facilitator that is down, slow, faulty or hostile.

use crate::shop::{Shop, TRANSACTION, body, decode, refused, say, settled, verified};
use farebox_core::metrics::{FailureReason, TupleCounter, series_name};
use farebox_host_tests::envoy::{Callout, Headers, Origin};
use serde_json::{Value, json};

/// One way in which a facilitator fails to answer.
struct Fault {
    name: &'static str,
    happen: fn(Callout<'_>),
    /// Reason of a failed verify.
    reason: FailureReason,
    /// Whether the answer says that a new attempt is safe.
    retriable: bool,
}

const DEEP: usize = 200_000;

const FAULTS: &[Fault] = &[
    unreachable("connection refused", |c| c.is_unreachable()),
    unreachable("no answer in time", |c| c.times_out()),
    unreachable("cut after the headers", |c| c.breaks_off()),
    unreachable("an absurd status", |c| {
        let headers = Headers::from_pairs([(":status", "banana"), ("x-envoy-upstream-service-time", "1")]);
        c.replies_with(headers, br#"{"isValid":true,"success":true}"#, Headers::default());
    }),
    answer("an internal error", |c| c.replies(500, r#"{"error":"boom"}"#), false),
    answer("too many requests", |c| c.replies(429, "{}"), true),
    answer("a genuine 502", |c| c.replies(502, "<html>bad gateway</html>"), true),
    answer("a genuine 503", |c| c.replies(503, "{}"), true),
    answer("a genuine 504", |c| c.replies(504, "{}"), true),
    answer("a redirect", |c| c.replies(307, ""), false),
    answer("a page", |c| c.replies(200, "<html>welcome</html>"), false),
    answer("nothing", |c| c.replies(200, ""), false),
    answer("an empty object", |c| c.replies(200, "{}"), false),
    answer("a list", |c| c.replies(200, "[]"), false),
    answer("yes as text", |c| c.replies(200, r#"{"isValid":"true","success":"true"}"#), false),
    answer("yes with an error status", |c| c.replies(500, r#"{"isValid":true,"success":true}"#), false),
    answer("yes, cut", |c| c.replies(200, r#"{"isValid":true,"success":true"#), false),
    answer("yes and more", |c| c.replies(200, r#"{"isValid":true,"success":true}}"#), false),
    answer("not UTF-8", |c| c.replies(200, b"{\"isValid\":true,\"success\":true,\"x\":\"\xff\"}"), false),
    answer("deep lists", |c| c.replies(200, "[".repeat(DEEP)), false),
    answer("deep objects", |c| c.replies(200, r#"{"a":"#.repeat(DEEP)), false),
    answer(
        "a megabyte of spaces before yes",
        |c| {
            c.replies(200, format!("{}{{\"isValid\":true,\"success\":true}}", " ".repeat(1 << 20)));
        },
        false,
    ),
];

const fn unreachable(name: &'static str, happen: fn(Callout<'_>)) -> Fault {
    Fault { name, happen, reason: FailureReason::FacilitatorUnreachable, retriable: true }
}

/// `busy`: the fault is temporary.
const fn answer(name: &'static str, happen: fn(Callout<'_>), busy: bool) -> Fault {
    let reason = if busy { FailureReason::FacilitatorOverloaded } else { FailureReason::FacilitatorError };
    Fault { name, happen, reason, retriable: busy }
}

#[test]
fn whatever_goes_wrong_with_verify_is_closed_and_leaves_the_payment_usable() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    for fault in FAULTS {
        let before = shop.failed("paid", fault.reason);
        let stream = shop.send_paid(0, "/paid/x", &header);
        (fault.happen)(stream.expect_callout("/verify"));
        let response = stream.expect_response(503);
        assert_eq!((stream.forwarded(), response.origin), (None, Origin::Guest), "{}", fault.name);
        assert_eq!(response.headers.get("payment-required"), None, "{}", fault.name);
        assert_eq!(response.headers.get("retry-after").is_some(), fault.retriable, "{}", fault.name);
        assert_eq!(body(&response)["reason"], fault.reason.as_str(), "{}", fault.name);
        assert_eq!(body(&response)["retriable"], fault.retriable, "{}", fault.name);
        assert_eq!(shop.failed("paid", fault.reason), before + 1, "{}", fault.name);
    }
    shop.serve(1, "/paid/x", &header);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn whatever_goes_wrong_with_settle_is_an_unknown_outcome_that_is_asked_again_and_never_charged_twice() {
    for (number, fault) in FAULTS.iter().enumerate() {
        let shop = Shop::open();
        let header = shop.header("/paid/x", number as u64);
        let stream = shop.at_upstream(0, "/paid/x", &header);
        stream.upstream_answers(200, &[("set-cookie", "paid-content"), ("content-length", "5")]);
        let settle = stream.expect_callout("/settle");
        let asked = settle.json();
        (fault.happen)(settle);
        let response = stream.expect_response(503);
        assert_eq!(response.headers.get("payment-required"), None, "{}", fault.name);
        assert_eq!(response.headers.get("set-cookie"), None, "{}", fault.name);
        assert!(response.headers.get("retry-after").is_some(), "{}", fault.name);
        let receipt = decode(&response.headers.get("payment-response").unwrap());
        assert_eq!(receipt["success"], false, "{}", fault.name);
        assert!(response.headers.get("x-payment-response").is_some(), "{}", fault.name);
        assert_eq!(shop.failed("paid", FailureReason::SettlementFailed), 1, "{}", fault.name);
        assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1, "{}", fault.name);

        let again = shop.send_paid(1, "/paid/x", &header);
        let settle = again.expect_callout("/settle");
        assert_eq!(settle.json(), asked, "{}: the identical call", fault.name);
        say(settle, &settled());
        again.expect_forwarded();
        assert_eq!(shop.charged("paid", 1000), 1, "{}", fault.name);
        assert_eq!(shop.count("paid", TupleCounter::UnresolvedClosed), 1, "{}", fault.name);
        again.upstream_answers(200, &[]);
        assert_eq!(again.callout().map(|c| c.path()), None, "{}: settled already", fault.name);
        again.body_ends();
        assert!(again.expect_response(200).headers.get("payment-response").is_some());
        shop.send_paid(0, "/paid/x", &header).expect_response(402);
    }
}

#[test]
fn an_outcome_that_stays_unknown_is_opened_once() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    stream.expect_callout("/settle").times_out();
    stream.expect_response(503);
    for worker in [0, 1, 0] {
        let again = shop.send_paid(worker, "/paid/x", &header);
        again.expect_callout("/settle").is_unreachable();
        again.expect_response(503);
        assert_eq!(again.forwarded(), None);
    }
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1);
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedClosed), 0);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn a_nonce_already_used_after_an_unknown_outcome_is_still_unknown() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    stream.expect_callout("/settle").times_out();
    let again = shop.send_paid(0, "/paid/x", &header);
    let used: Value = json!({
        "success": false, "errorReason": "invalid_exact_evm_nonce_already_used", "transaction": "",
        "network": "eip155:84532",
    });
    say(again.expect_callout("/settle"), &used);
    let response = again.expect_response(503);
    assert_eq!(response.headers.get("payment-required"), None);
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedClosed), 0);
}

#[test]
fn a_refused_settlement_discards_the_response_and_asks_again_for_money() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[("etag", "paid-content"), ("content-encoding", "br")]);
    say(stream.expect_callout("/settle"), &refused());
    let response = stream.expect_response(402);
    assert_eq!((response.headers.get("etag"), response.headers.get("content-encoding")), (None, None));
    assert!(response.headers.get("payment-required").is_some());
    let receipt = decode(&response.headers.get("payment-response").unwrap());
    assert_eq!(
        (receipt["success"].clone(), receipt["errorReason"].clone()),
        (json!(false), json!("insufficient_funds"))
    );
    assert_eq!(shop.failed("paid", FailureReason::SettlementRejected), 1);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn whatever_is_refused_after_an_unknown_outcome_leaves_it_unknown() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    stream.expect_callout("/settle").breaks_off();
    for _ in 0..3 {
        let again = shop.send_paid(1, "/paid/x", &header);
        say(again.expect_callout("/settle"), &refused());
        let response = again.expect_response(503);
        assert_eq!((response.headers.get("payment-required"), again.forwarded()), (None, None));
    }
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1);
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedClosed), 0);
    let last = shop.send_paid(0, "/paid/x", &header);
    say(last.expect_callout("/settle"), &settled());
    last.expect_forwarded();
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_pending_settlement_is_repeated_once_and_then_served() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[]);
    let first = stream.expect_callout("/settle");
    let asked = first.json();
    say(first, &pending());
    let second = stream.expect_callout("/settle");
    assert_eq!(second.json(), asked);
    say(second, &settled());
    stream.expect_response(200);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_settlement_that_stays_pending_is_unknown_and_names_its_transaction() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &pending());
    say(stream.expect_callout("/settle"), &pending());
    let response = stream.expect_response(503);
    let receipt = decode(&response.headers.get("payment-response").unwrap());
    assert_eq!(
        (receipt["success"].clone(), receipt["transaction"].clone()),
        (json!(false), json!(TRANSACTION))
    );
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1);
}

fn pending() -> Value {
    json!({
        "success": false, "errorReason": "settlement_pending", "transaction": TRANSACTION,
        "network": "eip155:84532",
    })
}

#[test]
fn a_success_on_another_network_is_no_success() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[]);
    let mut reply = settled();
    reply["network"] = json!("eip155:8453");
    say(stream.expect_callout("/settle"), &reply);
    stream.expect_response(503);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn a_refused_verification_says_why_and_a_missing_allowance_is_412() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    for (reason, status) in [("insufficient_funds", 402), ("permit2_allowance_required", 412)] {
        let stream = shop.send_paid(0, "/paid/x", &header);
        say(stream.expect_callout("/verify"), &json!({ "isValid": false, "invalidReason": reason }));
        let response = stream.expect_response(status);
        let challenge = decode(&response.headers.get("payment-required").unwrap());
        let failure = &challenge["extensions"]["paymentFailure"];
        assert_eq!(failure["reason"], "payment_invalid");
        assert!(failure["detail"].as_str().unwrap().contains(reason), "{failure}");
    }
    assert_eq!(shop.failed("paid", FailureReason::PaymentInvalid), 2);
}

#[test]
fn free_text_of_a_facilitator_never_breaks_a_header_or_becomes_a_metric() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", 1));
    let hostile = format!("bad\r\nset-cookie: x\0\u{1f4a3}{}", "y".repeat(10_000));
    say(
        stream.expect_callout("/verify"),
        &json!({ "isValid": false, "invalidReason": hostile, "invalidMessage": hostile }),
    );
    let response = stream.expect_response(402);
    assert_eq!(response.headers.get("set-cookie"), None);
    assert!(response.headers.get("payment-required").unwrap().len() < 4096);
    let counted = shop.envoy.counted();
    assert!(!counted.is_empty() && counted.keys().all(|series| !series_name(series).contains("bad")));
}

#[test]
fn a_cluster_the_proxy_does_not_know_is_an_unreachable_facilitator() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.envoy.remove_clusters();
    let stream = shop.send_paid(0, "/paid/x", &header);
    stream.expect_response(503);
    assert_eq!(stream.forwarded(), None);
    shop.envoy.add_cluster("farebox");
    assert_eq!(shop.failed("paid", FailureReason::FacilitatorUnreachable), 1);
}

#[test]
fn a_cluster_that_vanishes_before_the_settlement_leaves_it_closed() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    shop.envoy.remove_clusters();
    stream.upstream_answers(200, &[]);
    stream.expect_response(503);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn trailers_of_a_reply_change_nothing() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", 1));
    let headers = Headers::from_pairs([(":status", "200"), ("x-envoy-upstream-service-time", "1")]);
    let trailers = Headers::from_pairs([("x-trailer", "1")]);
    stream.expect_callout("/verify").replies_with(headers, verified().to_string().as_bytes(), trailers);
    stream.expect_forwarded();
}
