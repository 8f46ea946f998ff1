//! Decisions by the upstream's answer.

use crate::shop::{Shop, body, counters};
use farebox_core::metrics::{TupleCounter, UnchargedReason};
use farebox_host_tests::envoy::{Headers, Origin};

#[test]
fn an_upstream_error_is_passed_on_and_not_charged() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    for status in [400, 402, 404, 429, 500, 503] {
        let stream = shop.at_upstream(0, "/paid/x", &header);
        let own = [("x-reason", "mine"), ("payment-response", "forged"), ("x-payment-response", "forged")];
        stream.upstream_answers(status, &own);
        stream.body_ends();
        let response = stream.expect_response(status);
        assert_eq!(
            (response.origin, response.headers.get("x-reason").as_deref()),
            (Origin::Upstream, Some("mine"))
        );
        assert_eq!(response.headers.get("payment-response"), None);
        assert_eq!(response.headers.get("x-payment-response"), None);
    }
    let expected = [("PaymentPresented", 6), ("PaymentRequired", 1), ("UpstreamFailedAfterVerify", 6)];
    assert_eq!(shop.counted("paid"), counters(&expected));
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn a_redirect_is_passed_on_and_not_charged() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    for status in [301, 302, 304, 307] {
        let stream = shop.at_upstream(0, "/paid/x", &header);
        stream.upstream_answers(status, &[("location", "/elsewhere")]);
        stream.body_ends();
        assert_eq!(stream.expect_response(status).headers.get("location").as_deref(), Some("/elsewhere"));
    }
    assert_eq!(shop.count("paid", TupleCounter::PaymentVerified), 4);
    assert_eq!(shop.count("paid", TupleCounter::VerifiedUncharged(UnchargedReason::Redirect)), 4);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn an_upstream_the_router_could_not_reach_is_unavailable() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    for (status, details, seen) in [
        (503, "no_healthy_upstream", 502),
        (503, "cluster_not_found", 502),
        (503, "upstream_reset_before_response_started{connection_termination}", 502),
        (504, "response_timeout", 504),
    ] {
        let stream = shop.at_upstream(0, "/paid/x", &header);
        stream.router_answers(status, details);
        let response = stream.expect_response(seen);
        assert_eq!(body(&response)["reason"], "upstream_unavailable", "{details}");
        assert_eq!(response.headers.get("payment-response"), None);
    }
    assert_eq!(shop.count("paid", TupleCounter::UpstreamFailedAfterVerify), 4);
    assert_eq!(shop.charged("paid", 1000), 0);
    shop.serve(1, "/paid/x", &header);
}

#[test]
fn a_protocol_switch_nobody_settled_for_is_closed() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(101, &[("upgrade", "websocket")]);
    stream.expect_response(502);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn bytes_of_an_upstream_that_are_not_text_pass_through_a_settlement() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    let mut head = Headers::from_pairs([(":status", "200")]);
    head.add("x-bytes", b"a\xffb");
    head.add("cache-control", b"\xfe");
    head.add("content-type", b"\xff");
    stream.upstream_answers_with(head);
    crate::shop::say(stream.expect_callout("/settle"), &crate::shop::settled());
    let response = stream.expect_response(200);
    assert_eq!(response.headers.get_bytes("x-bytes"), Some(b"a\xffb".as_slice()));
    assert!(response.headers.get("cache-control").unwrap().contains("private"));
}

#[test]
fn an_absurd_status_of_an_upstream_is_not_charged() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(599, &[]);
    assert_eq!(stream.expect_response(599).origin, Origin::Upstream);
    assert_eq!(shop.charged("paid", 1000), 0);
}
