//! A client, or the proxy itself, gives up on a stream in every state it can be in.

use crate::shop::{GENERATION, Shop, TRANSACTION, counters, refused, rules, say, settled, verified};
use farebox_core::metrics::{FailureReason, LateResult, TupleCounter, UnchargedReason};
use farebox_host_tests::envoy::{Callout, Phase, Request, Stream};
use std::time::Duration;

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
fn a_settlement_outlives_its_client_and_its_answer_is_owed_and_fetched_once() {
    let leaves: [fn(&Stream<'_>); 2] = [|stream| stream.client_leaves(), |stream| stream.proxy_gives_up()];
    for (path, offer, amount) in [("/paid/x", "paid", 1000), ("/upfront/x", "upfront", 2500)] {
        for leave in leaves {
            let shop = Shop::open();
            let header = shop.header(path, 1);
            let stream = shop.send_paid(0, path, &header);
            say(stream.expect_callout("/verify"), &verified());
            if offer == "paid" {
                stream.upstream_answers(200, &[]);
            }
            let settle = stream.expect_callout("/settle");
            leave(&stream);
            // While the call runs, no second call is made.
            for worker in [0, 1] {
                let resend = shop.send_paid(worker, path, &header);
                resend.expect_response(409);
                assert!(resend.callout().is_none());
            }
            assert_eq!(
                (shop.failed(offer, FailureReason::ClientDisconnected), shop.charged(offer, amount)),
                (1, 0)
            );
            say(settle, &settled());
            assert_eq!(shop.charged(offer, amount), 1);
            let late = TupleCounter::ResolvedLate(LateResult::Settled);
            assert_eq!((shop.count(offer, late), shop.count(offer, TupleCounter::UnresolvedOpened)), (1, 0));
            let lines = shop.envoy.log();
            let told = lines.iter().filter(|line| line.text.contains(TRANSACTION));
            assert_eq!(told.count(), 1, "{lines:?}");

            let again = shop.redeemed(1, path, &header);
            again.upstream_answers(200, &[]);
            assert!(again.expect_response(200).headers.get("payment-response").is_some());
            again.body_ends();
            shop.send_paid(0, path, &header).expect_response(402);
            assert_eq!(shop.charged(offer, amount), 1);
        }
    }
}

#[test]
fn a_settlement_that_is_refused_when_its_client_has_left_frees_the_payment() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let settle = |stream: &Stream<'_>| stream.upstream_answers(200, &[]);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    settle(&stream);
    let call = stream.expect_callout("/settle");
    stream.client_leaves();
    say(call, &refused());
    assert!(shop.payments().is_empty());
    shop.serve(1, "/paid/x", &header);
    assert_eq!(shop.charged("paid", 1000), 1);
}

#[test]
fn a_settlement_of_unknown_outcome_whose_client_has_left_is_open_and_repeated_by_a_resend() {
    let ends: [fn(Callout<'_>); 4] = [
        |call| call.times_out(),
        |call| call.is_unreachable(),
        |call| call.breaks_off(),
        |call| {
            call.replies(200, r#"{"success":false,"errorReason":"settlement_pending","transaction":"0x1"}"#)
        },
    ];
    for end in ends {
        let shop = Shop::open();
        let header = shop.header("/paid/x", 1);
        let stream = shop.at_upstream(0, "/paid/x", &header);
        stream.upstream_answers(200, &[]);
        let settle = stream.expect_callout("/settle");
        let asked = settle.json();
        stream.client_leaves();
        end(settle);
        assert!(stream.callout().is_none(), "a resend repeats it, not the filter");
        assert_eq!(shop.count("paid", TupleCounter::UnresolvedOpened), 1);

        let again = shop.send_paid(1, "/paid/x", &header);
        let settle = again.expect_callout("/settle");
        assert_eq!(settle.json(), asked);
        say(settle, &settled());
        again.upstream_answers(200, &[]);
        again.body_ends();
        again.expect_response(200);
        assert_eq!((shop.charged("paid", 1000), shop.count("paid", TupleCounter::UnresolvedClosed)), (1, 1));
    }
}

#[test]
fn a_settlement_whose_filter_is_gone_as_well_is_repeated_when_its_lease_is_over() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let stream = shop.at_upstream(0, "/paid/x", &header);
    stream.upstream_answers(200, &[]);
    let settle = stream.expect_callout("/settle");
    let asked = settle.json();
    shop.envoy.configure(rules(GENERATION + 1).to_string()).expect_taken();
    stream.client_leaves();
    say(settle, &settled());
    assert_eq!(shop.charged("paid", 1000), 0, "the reply came to nobody");
    shop.send_paid(0, "/paid/x", &header).expect_response(409);
    shop.envoy.advance(Duration::from_secs(131));
    let again = shop.send_paid(0, "/paid/x", &header);
    let settle = again.expect_callout("/settle");
    assert_eq!(settle.json(), asked);
    say(settle, &settled());
    again.upstream_answers(200, &[]);
    again.expect_response(200);
    assert_eq!(shop.charged("paid", 1000), 1);
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
    // A client that reads nothing until the upstream's timeout can cause the upstream's reset.
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
fn who_leaves_while_an_owed_answer_is_made_has_fetched_it() {
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
fn leaving_a_free_request_counts_nothing() {
    let shop = Shop::open();
    shop.envoy.send(0, Request::get("/free/x")).client_leaves();
    for offer in ["paid", "other", "upfront"] {
        assert_eq!(shop.counted(offer), counters(&[]));
    }
}
