//! Reservation, verification, the upstream, and a settlement that goes well.

use super::host::{Does, End, Host, Up, ok, request, settled, valid};
use super::world::{START, Terms, Wallet, payment, upfront_payment};
use crate::metrics::Stamp;
use crate::protocol::Operation::{Settle, Verify};
use crate::replay::KeyChange::{Delivered, Delivering, Free, Owed, Settling};

const TX: &str = "0xabc";
const SERVED: &str =
    "PaymentPresented@0 Verify(Success,7) Settle(Success,7) PaymentVerified@0 Charged@0 LastSuccess@0";

fn delivering() -> crate::replay::KeyChange {
    Delivering { transaction: TX.into() }
}
fn owed() -> crate::replay::KeyChange {
    Owed { transaction: TX.into() }
}
/// A host whose payment 1 was settled, but not served: the upstream broke off.
fn host_with_an_owed_service() -> Host {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &Up::Breaks(200));
    assert_eq!(story.short(), format!("{SERVED} UpstreamFailedAfterCharge@0"));
    assert_eq!(story.keys, [Settling, delivering(), owed()]);
    host.script([]);
    host
}

#[test]
fn a_good_payment_is_verified_served_settled_and_charged_once() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    let up = Up::Answers(201, vec![("location", "/paid/a/1"), ("cache-control", "public, max-age=5")]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
    assert_eq!(story.short(), SERVED);
    assert_eq!(story.operations(), [Verify, Settle]);
    assert_eq!(story.calls[0].1, story.calls[1].1, "both calls carry the same bytes");
    assert_eq!(story.keys, [Settling, delivering(), Delivered]);
    let (status, edits) = story.released();
    assert_eq!(status, 201);
    assert!(edits.remove.is_empty());
    assert_eq!(story.header("cache-control"), Some("private, max-age=5"));
    let receipt = story.receipt().unwrap();
    assert_eq!(receipt["success"], true);
    assert_eq!(receipt["transaction"], TX);
    assert_eq!(receipt["network"], "eip155:84532");
    assert_eq!(receipt["payer"], Wallet::new(1).address.checksummed());
    assert!(host.counted.contains(&Stamp::LastSuccess(crate::rules::TupleIndex(0), START)));
}

#[test]
fn the_facilitator_is_sent_our_own_requirement() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    let story = host.play(&request("/two").paying(&Wallet::new(1).pay(&Terms::of(2, 1, 1))), &ok());
    assert_eq!(
        story.short(),
        "PaymentPresented@1 Verify(Success,7) Settle(Success,7) PaymentVerified@2 Charged@2 LastSuccess@2"
    );
    let body: serde_json::Value = serde_json::from_slice(&story.calls[0].1).unwrap();
    assert_eq!(body["paymentRequirements"]["amount"], "3000");
    assert_eq!(body["paymentRequirements"]["network"], "eip155:84532");
    assert!(body["paymentPayload"].is_object());
}

#[test]
fn either_header_and_either_version_end_the_same_way() {
    let v1 = Wallet::new(1).pay(&Terms { v1: true, ..Terms::of(0, 0, 1) });
    for (header, value) in
        [("payment-signature", payment(1)), ("x-payment", payment(1)), ("x-payment", v1.clone())]
    {
        let mut host = Host::new();
        host.script([valid(), settled(84532, TX)]);
        let story = host.play(&request("/paid/a").with(header, &value), &ok());
        assert_eq!(story.short(), SERVED);
        let expected = if value == v1 { "base-sepolia" } else { "eip155:84532" };
        assert_eq!(story.receipt().unwrap()["network"], expected);
    }
}

#[test]
fn a_payment_is_served_once_however_it_is_spelled() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
    let pretty = Wallet::new(1).pay(&Terms { pretty: true, ..Terms::of(0, 0, 1) });
    let unpadded = payment(1).trim_end_matches('=').to_owned();
    let v1 = Wallet::new(1).pay(&Terms { v1: true, ..Terms::of(0, 0, 1) });
    for header in [payment(1), pretty, unpadded, v1] {
        let story = host.play(&request("/paid/a").with("x-payment", &header), &ok());
        assert_eq!(story.status(), 402);
        assert_eq!(
            story.short(),
            "PaymentPresented@0 ReplayRejected(Settled)@0 PaymentFailed(PaymentReplayed)@0"
        );
        let failure = &story.body()["extensions"]["paymentFailure"];
        assert_eq!(failure["reason"], "payment_replayed");
        assert_eq!(failure["detail"], "invalid_exact_evm_nonce_already_used");
    }
}

#[test]
fn a_payment_belongs_to_the_route_it_was_first_used_on() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
    let story = host.play(&request("/same-price").paying(&payment(1)), &ok());
    assert_eq!(story.status(), 402);
    assert_eq!(
        story.short(),
        "PaymentPresented@0 ReplayRejected(OtherRoute)@0 PaymentFailed(PaymentReplayed)@0"
    );
}

#[test]
fn a_payment_in_flight_is_answered_409_without_terms() {
    let mut host = Host::new();
    host.script([Does::ClientGone]);
    // The first request holds the key until its call is over; play it by hand.
    let first = host.begin(&request("/paid/a").paying(&payment(1)));
    let crate::exchange::Next::Reserve(state) = first.next else { panic!("no reservation") };
    let ask = state.request();
    let claim = crate::replay::reserve(&[], &ask, &host.limits, host.now());
    host.table.insert(ask.key.bucket(), claim.write.unwrap());
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!((story.status(), story.header("retry-after")), (409, Some("1")));
    assert_eq!(story.body()["retriable"], false);
    assert_eq!(
        story.short(),
        "PaymentPresented@0 ReplayRejected(InFlight)@0 PaymentFailed(PaymentReplayed)@0"
    );
}

#[test]
fn an_owed_service_is_served_once_with_the_stored_receipt_and_no_call() {
    let mut host = host_with_an_owed_service();
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!(story.short(), "PaymentPresented@0 PaymentVerified@0 VerifiedUncharged(Redeemed)@0");
    assert_eq!(story.keys, [Delivered]);
    assert_eq!(story.receipt().unwrap()["transaction"], TX);
    assert_eq!(story.header("cache-control"), Some("private"));
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 402);
    assert_eq!(host.charges(), 1);
}

#[test]
fn only_a_2xx_uses_an_owed_service_up() {
    let failed = "PaymentPresented@0 UpstreamFailedAfterVerify@0";
    let moved = "PaymentPresented@0 PaymentVerified@0 VerifiedUncharged(Redirect)@0";
    let gone = "PaymentPresented@0 PaymentFailed(ClientDisconnected)@0";
    let mut host = host_with_an_owed_service();
    let cases = [
        (Up::Answers(500, vec![]), failed, Some(500)),
        (Up::Answers(302, vec![]), moved, Some(302)),
        (Up::Answers(101, vec![]), failed, Some(502)),
        (Up::Unreachable, failed, Some(502)),
        (Up::TimesOut, failed, Some(504)),
        (Up::ClientGone, gone, None),
    ];
    for (up, stamps, status) in cases {
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        assert_eq!(story.short(), stamps, "{up:?}");
        assert_eq!(story.keys, [owed()]);
        if let Some(status) = status {
            assert_eq!(story.status(), status);
            assert_eq!(story.receipt().unwrap()["success"], true);
        }
    }
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
}

#[test]
fn without_room_or_store_nothing_is_served() {
    let mut host = Host::new();
    host.limits.records = 0;
    for down in [false, true] {
        host.store_down = down;
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("1")));
        assert_eq!(story.body()["retriable"], true);
        assert_eq!(story.short(), "PaymentPresented@0 PaymentFailed(ReplayGuardUnavailable)@0");
        assert!(story.calls.is_empty() && story.forwarded.is_none());
    }
}

#[test]
fn a_facilitator_that_cannot_be_reached_costs_nothing() {
    let cases = [
        (Does::TimesOut, "Timeout"),
        (Does::Unreachable, "Unreachable"),
        (Does::Cuts, "Unreachable"),
        (Does::NotSent, "Unreachable"),
    ];
    for (does, outcome) in cases {
        let mut host = Host::new();
        host.script([does]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("2")));
        assert_eq!(story.body()["retriable"], true);
        assert_eq!(
            story.short(),
            format!("PaymentPresented@0 Verify({outcome},7) PaymentFailed(FacilitatorUnreachable)@0")
        );
        assert_eq!(story.keys, [Free]);
        assert!(story.forwarded.is_none());
        host.script([valid(), settled(84532, TX)]);
        assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
    }
}

#[test]
fn a_facilitator_that_answers_nonsense_is_never_valid() {
    let cases = [
        (500, "oops", false, "HttpError"),
        (500, r#"{"isValid":true}"#, false, "HttpError"),
        (200, "<html>", false, "BadReply"),
        (200, r#"{"isValid":"true"}"#, false, "BadReply"),
        (200, "{}", false, "BadReply"),
        (200, r#"{"isValid":tr"#, false, "BadReply"),
        (308, "", false, "HttpError"),
        (302, r#"{"isValid":true}"#, false, "HttpError"),
        (429, "", true, "HttpError"),
        (503, "", true, "HttpError"),
        (503, r#"{"error":"unexpected_error"}"#, false, "HttpError"),
        (400, r#"{"errorType":"invalid_request"}"#, false, "HttpError"),
    ];
    for (status, body, retriable, outcome) in cases {
        let mut host = Host::new();
        host.script([Does::Says(status, body.into())]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!(story.status(), 503, "{status} {body}");
        assert_eq!(story.body()["retriable"], retriable, "{status} {body}");
        assert_eq!(
            story.short(),
            format!("PaymentPresented@0 Verify({outcome},7) PaymentFailed(FacilitatorError)@0")
        );
        assert_eq!(story.keys, [Free]);
        assert!(story.forwarded.is_none());
    }
}

#[test]
fn a_payment_the_facilitator_refuses_gets_new_terms() {
    for (reason, status) in [("insufficient_funds", 402), ("permit2_allowance_required", 412)] {
        let mut host = Host::new();
        let says = format!(r#"{{"isValid":false,"invalidReason":"{reason}","invalidMessage":"no\nway"}}"#);
        host.script([Does::Says(200, says)]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!(story.status(), status);
        assert_eq!(story.short(), "PaymentPresented@0 Verify(Refused,7) PaymentFailed(PaymentInvalid)@0");
        assert_eq!(story.keys, [Free]);
        let body = story.body();
        assert_eq!(body["error"], format!("Payment verification failed: {reason}"));
        assert_eq!(body["extensions"]["paymentFailure"]["detail"], "no?way");
        assert!(story.forwarded.is_none());
    }
}

#[test]
fn upfront_settles_first_and_counts_at_once() {
    let mut host = Host::new();
    host.script([settled(84532, TX)]);
    let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
    assert_eq!(
        story.short(),
        "PaymentPresented@3 Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3"
    );
    assert_eq!(story.operations(), [Settle]);
    assert_eq!(story.keys, [Settling, Delivered]);
    assert_eq!(story.receipt().unwrap()["transaction"], TX);
    assert_eq!(host.play(&request("/up/a").paying(&upfront_payment(1)), &ok()).status(), 402);
}

#[test]
fn an_upfront_upgrade_carries_the_receipt_on_its_101() {
    let mut host = Host::new();
    host.script([settled(84532, TX)]);
    let upgrade = request("/up/a").with("upgrade", "websocket").paying(&upfront_payment(1));
    let story = host.play(&upgrade, &Up::Answers(101, vec![]));
    assert_eq!(story.status(), 101);
    assert_eq!(story.receipt().unwrap()["transaction"], TX);
    assert_eq!(
        story.short(),
        "PaymentPresented@3 Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3"
    );
}

#[test]
fn an_upgrade_nobody_asked_for_is_refused_though_it_was_paid_for_upfront() {
    let mut host = Host::new();
    host.script([settled(84532, TX)]);
    let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &Up::Answers(101, vec![]));
    assert_eq!(story.status(), 502);
    assert_eq!(
        story.short(),
        "PaymentPresented@3 Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3 UpstreamFailedAfterCharge@3"
    );
}

#[test]
fn rows_23_to_26_an_upstream_that_fails_is_not_paid_and_frees_the_payment() {
    let cases = [
        (Up::Unreachable, 502),
        (Up::TimesOut, 504),
        (Up::Answers(400, vec![]), 400),
        (Up::Answers(402, vec![]), 402),
        (Up::Answers(500, vec![]), 500),
        (Up::Answers(999, vec![]), 999),
        (Up::Answers(101, vec![]), 502),
        (Up::Answers(200, vec![("grpc-status", "13")]), 200),
    ];
    for (up, status) in cases {
        let mut host = Host::new();
        host.script([valid()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        assert_eq!(story.status(), status);
        assert_eq!(
            story.short(),
            "PaymentPresented@0 Verify(Success,7) UpstreamFailedAfterVerify@0",
            "{up:?}"
        );
        assert_eq!(story.keys, [Free]);
        assert_eq!(story.receipt(), None);
        if matches!(story.end, End::Reply(_)) {
            assert_eq!(story.body()["reason"], "upstream_unavailable");
            assert_eq!(story.body()["retriable"], true);
        }
        host.script([valid(), settled(84532, TX)]);
        assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
    }
}

#[test]
fn a_redirect_is_passed_on_and_not_charged() {
    for status in [301, 302, 304, 307] {
        let mut host = Host::new();
        host.script([valid()]);
        let up = Up::Answers(status, vec![("location", "/x"), ("payment-response", "forged")]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        assert_eq!(
            story.short(),
            "PaymentPresented@0 Verify(Success,7) PaymentVerified@0 VerifiedUncharged(Redirect)@0"
        );
        assert_eq!(story.keys, [Free]);
        assert_eq!(story.released().1.remove, ["payment-response"]);
        assert_eq!(story.receipt(), None);
    }
}

#[test]
fn a_client_that_leaves_before_the_settlement_pays_nothing() {
    let mut host = Host::new();
    host.script([Does::ClientGone]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!(story.short(), "PaymentPresented@0 Verify(Unreachable,7) PaymentFailed(ClientDisconnected)@0");
    assert_eq!(story.keys, [Free]);
    host.script([valid()]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &Up::ClientGone);
    assert_eq!(story.short(), "PaymentPresented@0 Verify(Success,7) PaymentFailed(ClientDisconnected)@0");
    assert_eq!(story.keys, [Free]);
}

#[test]
fn a_stream_is_settled_at_its_head() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX)]);
    let up = Up::Answers(200, vec![("content-type", "text/event-stream")]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
    assert_eq!(story.short(), SERVED);
    assert_eq!(story.receipt().unwrap()["transaction"], TX);
}

#[test]
fn upfront_money_stays_paid_when_the_upstream_fails() {
    let charged = "PaymentPresented@3 Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3";
    let cases = [
        (Up::Answers(500, vec![]), 500, true),
        (Up::Unreachable, 502, true),
        (Up::TimesOut, 504, true),
        (Up::Breaks(200), 200, true),
        (Up::Answers(302, vec![]), 302, false),
    ];
    for (up, status, counts) in cases {
        let mut host = Host::new();
        host.script([settled(84532, TX)]);
        let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &up);
        assert_eq!(story.status(), status);
        let failed = if counts { " UpstreamFailedAfterCharge@3" } else { "" };
        assert_eq!(story.short(), format!("{charged}{failed}"), "{up:?}");
        assert_eq!(story.receipt().unwrap()["success"], true);
        if let End::Reply(_) = story.end {
            assert_eq!(story.body()["retriable"], false, "a new authorization would pay twice");
        } else {
            assert_eq!(story.header("cache-control"), Some("private"));
        }
        assert_eq!(host.play(&request("/up/a").paying(&upfront_payment(1)), &ok()).status(), 402);
    }
    let mut host = Host::new();
    host.script([settled(84532, TX)]);
    let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &Up::ClientGone);
    assert_eq!(story.short(), charged);
}

#[test]
fn a_payment_is_remembered_until_it_ends_plus_skew() {
    let host = Host::new();
    let turn = host.begin(&request("/paid/a").paying(&payment(1)));
    let crate::exchange::Next::Reserve(state) = turn.next else { panic!("no reservation") };
    assert_eq!(state.request().keep_until, START + 600 + 5);
    let far = Wallet::new(1).pay(&Terms { valid_before: START + 10_000_000, ..Terms::of(0, 0, 1) });
    let turn = host.begin(&request("/paid/a").paying(&far));
    let crate::exchange::Next::Reserve(state) = turn.next else { panic!("no reservation") };
    assert_eq!(state.request().keep_until, START + 90_000);
}
