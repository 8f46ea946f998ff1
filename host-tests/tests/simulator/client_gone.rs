//! A client, or the proxy itself, gives up on a stream in every state it can be in.

use crate::shop::{Shop, counters, say, settled};
use farebox_core::metrics::{FailureReason, TupleCounter, UnchargedReason};
use farebox_host_tests::envoy::{Phase, Request};

#[test]
fn a_client_that_leaves_before_the_settlement_can_come_back_with_its_payment() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    shop.send_paid(0, "/paid/x", &header).client_leaves();
    assert_eq!(shop.failed("paid", FailureReason::ClientDisconnected), 1);
    shop.at_upstream(1, "/paid/x", &header).client_leaves();
    assert_eq!(shop.failed("paid", FailureReason::ClientDisconnected), 2);
    shop.serve(0, "/paid/x", &header);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_reply_to_a_client_that_left_changes_nothing() {
    let shop = Shop::open();
    let stream = shop.send_paid(0, "/paid/x", &shop.header("/paid/x", 1));
    let verify = stream.expect_callout("/verify");
    stream.client_leaves();
    verify.replies(200, crate::shop::verified().to_string());
    assert_eq!((stream.phase(), stream.forwarded()), (Phase::Ended, None));
}

#[test]
fn a_client_that_leaves_during_the_settlement_leaves_its_outcome_unknown() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    let settle = stream.expect_callout("/settle");
    let asked = settle.json();
    stream.client_leaves();
    say(settle, &settled());
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1);
    assert_eq!(shop.failed("paid", FailureReason::SettlementFailed), 1);
    assert_eq!(shop.charged("paid", 1000), 0);

    let again = shop.send_paid(1, "/paid/x", &header);
    let settle = again.expect_callout("/settle");
    assert_eq!(settle.json(), asked);
    say(settle, &settled());
    again.upstream_answers(200, &[]);
    again.body_ends();
    again.expect_response(200);
    assert_eq!((shop.charged("paid", 1000), shop.count("paid", TupleCounter::UnresolvedClosed)), (1, 1));
}

#[test]
fn a_client_that_leaves_during_the_body_has_been_served() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_chunk(10);
    stream.client_leaves();
    shop.send_paid(0, "/paid/x", &header).expect_response(402);
    assert_eq!(shop.count("paid", TupleCounter::UpstreamFailedAfterCharge), 0);
}

#[test]
fn a_body_the_upstream_cut_short_is_owed_once_more() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    let receipt = stream.expect_response(200).headers.get("payment-response");
    stream.body_breaks_off();
    assert_eq!(shop.count("paid", TupleCounter::UpstreamFailedAfterCharge), 1);

    let again = shop.send_paid(1, "/paid/x", &header);
    again.expect_forwarded();
    let rival = shop.send_paid(0, "/paid/x", &header);
    rival.expect_response(409);
    again.upstream_answers(200, &[]);
    again.body_ends();
    assert_eq!(again.expect_response(200).headers.get("payment-response"), receipt);
    assert_eq!(shop.count("paid", TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed)), 1);
    assert_eq!(shop.charged("paid", 1000), 1);
    shop.send_paid(1, "/paid/x", &header).expect_response(402);
}

#[test]
fn an_answer_that_breaks_off_again_and_again_is_served_twice_in_all() {
    // The upstream's reset may be the doing of a client that reads nothing until the upstream's patience is over.
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let mut answers = 0;
    for attempt in 0..50 {
        let stream = shop.send_paid(attempt % 2, "/paid/x", &header);
        if attempt == 0 {
            say(stream.expect_callout("/verify"), &crate::shop::verified());
        }
        if stream.phase() == Phase::AtUpstream {
            stream.upstream_answers(200, &[]);
            if let Some(settle) = stream.callout() {
                say(settle, &settled());
            }
            stream.expect_response(200);
            stream.body_chunk(50);
            stream.body_breaks_off();
            answers += 1;
        } else {
            stream.expect_response(402);
        }
    }
    assert_eq!((answers, shop.charged("paid", 1000)), (2, 1));
    assert_eq!(shop.count("paid", TupleCounter::UpstreamFailedAfterCharge), 2);
    assert_eq!(shop.count("paid", TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed)), 1);
}

#[test]
fn who_leaves_while_an_owed_answer_is_fetched_has_fetched_it() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    say(stream.expect_callout("/settle"), &settled());
    stream.body_breaks_off();
    shop.redeemed(1, "/paid/x", &header).client_leaves();
    let third = shop.send_paid(0, "/paid/x", &header);
    third.expect_response(402);
    assert_eq!((third.forwarded(), shop.charged("paid", 1000)), (None, 1));
}

#[test]
fn a_proxy_that_gives_up_on_a_verification_counts_and_frees() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.send_paid(0, "/paid/x", &header);
    stream.proxy_gives_up();
    stream.expect_response(408);
    let failed = shop.failed("paid", FailureReason::ClientDisconnected);
    assert_eq!((failed, stream.forwarded()), (1, None));
    shop.serve(1, "/paid/x", &header);
}

#[test]
fn a_proxy_that_gives_up_on_a_settlement_leaves_its_outcome_unknown() {
    let shop = Shop::open();
    let stream = shop.at_upstream(0, "/paid/x", &shop.header("/paid/x", 1));
    stream.upstream_answers(200, &[]);
    stream.proxy_gives_up();
    assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1);
    assert_eq!(shop.charged("paid", 1000), 0);
}

#[test]
fn leaving_a_free_request_counts_nothing() {
    let shop = Shop::open();
    shop.envoy.send(0, Request::get("/free/x")).client_leaves();
    for offer in ["paid", "other", "upfront"] {
        assert_eq!(shop.counted(offer), counters(&[]));
    }
}
