//! Requests with a claim, a verification, the upstream, and a successful settlement.

use super::host::{Host, MODES, Mode};
use super::script::{Does, End, Up, invalid, ok, request, settled, valid};
use super::world::{START, Terms, Wallet, payment, upfront_payment};
use crate::metrics::Stamp;
use crate::protocol::Operation::{Settle, Verify};

const TX: &str = "0xabc";
const SERVED: &str =
    "PaymentPresented@0 Verify(Success,7) Settle(Success,7) PaymentVerified@0 Charged@0 LastSuccess@0";
const UPFRONT: &str =
    "PaymentPresented@3 Verify(Success,7) Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3";

/// A host whose facilitator will verify and settle the next payment.
fn ready(mode: Mode) -> Host {
    let mut host = Host::of(mode);
    host.script([valid(), settled(84532, TX)]);
    host
}

#[test]
fn a_good_payment_is_verified_served_settled_and_charged_once() {
    for mode in MODES {
        let mut host = ready(mode);
        let up = Up::Answers(201, vec![("location", "/paid/a/1"), ("cache-control", "public, max-age=5")]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        host.assert_counted(&story, SERVED);
        assert_eq!(story.operations(), [Verify, Settle]);
        assert_eq!(story.calls[0].1, story.calls[1].1, "both calls carry the same bytes");
        assert_eq!(host.lives(), ["delivered"]);
        let (status, edits) = story.released();
        assert_eq!(status, 201);
        assert!(edits.remove.is_empty());
        assert_eq!(story.header("cache-control"), Some("private, max-age=5"));
        assert_eq!(story.header("x-payment-owed"), None);
        let receipt = story.receipt().unwrap();
        assert_eq!(receipt["success"], true);
        assert_eq!(receipt["transaction"], TX);
        assert_eq!(receipt["network"], "eip155:84532");
        assert_eq!(receipt["payer"], Wallet::new(1).address.checksummed());
        assert!(host.counted.contains(&Stamp::LastSuccess(crate::rules::TupleIndex(0), START)));
    }
}

#[test]
fn a_shell_asks_its_store_three_times_for_a_payment_and_a_relay_twice() {
    let asked = MODES.map(|mode| ready(mode).play(&request("/paid/a").paying(&payment(1)), &ok()).asked);
    assert_eq!(asked, [3, 2]);
}

#[test]
fn the_facilitator_is_sent_our_own_requirement() {
    for mode in MODES {
        let mut host = ready(mode);
        let story = host.play(&request("/two").paying(&Wallet::new(1).pay(&Terms::of(2, 1, 1))), &ok());
        let expected = "PaymentPresented@1 Verify(Success,7) Settle(Success,7) PaymentVerified@2 Charged@2 \
                        LastSuccess@2";
        host.assert_counted(&story, expected);
        let body: serde_json::Value = serde_json::from_slice(&story.calls[0].1).unwrap();
        assert_eq!(body["paymentRequirements"]["amount"], "3000");
        assert_eq!(body["paymentRequirements"]["network"], "eip155:84532");
        assert!(body["paymentPayload"].is_object());
    }
}

#[test]
fn either_header_and_either_version_end_the_same_way() {
    let v1 = Wallet::new(1).pay(&Terms { v1: true, ..Terms::of(0, 0, 1) });
    let spelled = [("payment-signature", payment(1)), ("x-payment", payment(1)), ("x-payment", v1.clone())];
    for ((header, value), mode) in spelled.iter().flat_map(|spelled| MODES.map(|mode| (spelled, mode))) {
        let mut host = ready(mode);
        let story = host.play(&request("/paid/a").with(header, value), &ok());
        host.assert_counted(&story, SERVED);
        let expected = if *value == v1 { "base-sepolia" } else { "eip155:84532" };
        assert_eq!(story.receipt().unwrap()["network"], expected);
    }
}

#[test]
fn a_payment_is_served_once_however_it_is_spelled() {
    for mode in MODES {
        let mut host = ready(mode);
        assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
        let pretty = Wallet::new(1).pay(&Terms { pretty: true, ..Terms::of(0, 0, 1) });
        let unpadded = payment(1).trim_end_matches('=').to_owned();
        let v1 = Wallet::new(1).pay(&Terms { v1: true, ..Terms::of(0, 0, 1) });
        for header in [payment(1), pretty, unpadded, v1] {
            let story = host.play(&request("/paid/a").with("x-payment", &header), &ok());
            assert_eq!(story.status(), 402);
            let counted = "PaymentPresented@0 ReplayRejected(Settled)@0 PaymentFailed(PaymentReplayed)@0";
            host.assert_counted(&story, counted);
            let failure = &story.body()["extensions"]["paymentFailure"];
            assert_eq!(failure["reason"], "payment_replayed");
            assert_eq!(failure["detail"], "invalid_exact_evm_nonce_already_used");
        }
    }
}

#[test]
fn a_payment_in_flight_is_answered_409_without_terms() {
    for mode in MODES {
        // Another request with the same payment is at the upstream.
        let mut host = ready(mode);
        let first = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!((story.status(), story.header("retry-after")), (409, Some("1")));
        assert_eq!(story.body()["retriable"], false);
        let counted = "PaymentPresented@0 ReplayRejected(InFlight)@0 PaymentFailed(PaymentReplayed)@0";
        host.assert_counted(&story, counted);
        drop(first);
    }
}

#[test]
fn without_room_or_store_nothing_is_served_and_no_answer_asks_for_another_signature() {
    for (mode, down) in [(Mode::Direct, false), (Mode::Direct, true), (Mode::Relay, true)] {
        let mut host = Host::of(mode);
        host.limits.records = 0;
        host.store_down = down;
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("1")));
        // The payment may be charged already.
        assert_eq!(story.body()["retriable"], false);
        assert!(story.body()["hint"].as_str().unwrap().contains("same payment"));
        host.assert_counted(&story, "PaymentPresented@0 PaymentFailed(ReplayGuardUnavailable)@0");
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
    for ((does, outcome), mode) in cases.iter().flat_map(|case| MODES.map(|mode| (case, mode))) {
        let mut host = Host::of(mode);
        host.script([does.clone()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("2")));
        assert_eq!(story.body()["retriable"], true);
        let counted =
            format!("PaymentPresented@0 Verify({outcome},7) PaymentFailed(FacilitatorUnreachable)@0");
        host.assert_counted(&story, &counted);
        assert!(host.lives().is_empty() && story.forwarded.is_none());
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
    for ((status, body, retriable, outcome), mode) in
        cases.iter().flat_map(|case| MODES.map(|mode| (case, mode)))
    {
        let mut host = Host::of(mode);
        host.script([Does::Says(*status, (*body).into())]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!(story.status(), 503, "{status} {body}");
        assert_eq!(story.body()["retriable"], *retriable, "{status} {body}");
        let reason = if *retriable { "FacilitatorOverloaded" } else { "FacilitatorError" };
        let counted = format!("PaymentPresented@0 Verify({outcome},7) PaymentFailed({reason})@0");
        host.assert_counted(&story, &counted);
        assert!(host.lives().is_empty() && story.forwarded.is_none());
    }
}

#[test]
fn a_payment_the_facilitator_refuses_gets_new_terms() {
    for (reason, status) in [("insufficient_funds", 402), ("permit2_allowance_required", 412)] {
        for mode in MODES {
            let mut host = Host::of(mode);
            let says =
                format!(r#"{{"isValid":false,"invalidReason":"{reason}","invalidMessage":"no\nway"}}"#);
            host.script([Does::Says(200, says)]);
            let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
            assert_eq!(story.status(), status);
            let counted = "PaymentPresented@0 Verify(Refused,7) PaymentFailed(PaymentInvalid)@0";
            host.assert_counted(&story, counted);
            let body = story.body();
            assert_eq!(body["error"], format!("Payment verification failed: {reason}"));
            assert_eq!(body["extensions"]["paymentFailure"]["detail"], "no?way");
            assert!(host.lives().is_empty() && story.forwarded.is_none());
        }
    }
}

#[test]
fn upfront_is_verified_then_settled_then_served() {
    for mode in MODES {
        let mut host = ready(mode);
        let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
        host.assert_counted(&story, UPFRONT);
        assert_eq!(story.operations(), [Verify, Settle]);
        assert_eq!(host.lives(), ["delivered"]);
        assert_eq!(story.receipt().unwrap()["transaction"], TX);
        assert_eq!(host.play(&request("/up/a").paying(&upfront_payment(1)), &ok()).status(), 402);
    }
}

#[test]
fn upfront_that_is_not_verified_settles_nothing_and_leaves_nothing() {
    for does in [invalid("invalid_exact_evm_signature"), Does::Says(500, "{}".into()), Does::TimesOut] {
        for mode in MODES {
            let mut host = Host::of(mode);
            host.script([does.clone()]);
            let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
            assert!(matches!(story.status(), 402 | 503));
            assert_eq!(story.operations(), [Verify]);
            assert!(host.lives().is_empty() && story.forwarded.is_none());
        }
    }
}

#[test]
fn an_upfront_upgrade_carries_the_receipt_on_its_101() {
    for mode in MODES {
        let mut host = ready(mode);
        let upgrade = request("/up/a").with("upgrade", "websocket").paying(&upfront_payment(1));
        let story = host.play(&upgrade, &Up::Answers(101, vec![]));
        assert_eq!(story.status(), 101);
        assert_eq!(story.receipt().unwrap()["transaction"], TX);
        host.assert_counted(&story, UPFRONT);
        assert_eq!(host.lives(), ["delivered"]);
    }
}

#[test]
fn an_upgrade_nobody_asked_for_is_refused_and_the_answer_that_was_paid_for_is_owed() {
    for mode in MODES {
        let mut host = ready(mode);
        let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &Up::Answers(101, vec![]));
        assert_eq!(story.status(), 502);
        host.assert_counted(&story, &format!("{UPFRONT} UpstreamFailedAfterCharge@3"));
        assert_eq!(host.lives(), ["owed"]);
    }
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
    for ((up, status), mode) in cases.iter().flat_map(|case| MODES.map(|mode| (case, mode))) {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), up);
        assert_eq!(story.status(), *status);
        let counted = "PaymentPresented@0 Verify(Success,7) UpstreamFailedAfterVerify@0";
        host.assert_counted(&story, counted);
        assert!(host.lives().is_empty(), "{up:?}");
        assert_eq!((story.receipt(), story.header("x-payment-owed")), (None, None));
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
    for (status, mode) in [301, 302, 304, 307].into_iter().flat_map(|it| MODES.map(|mode| (it, mode))) {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let up = Up::Answers(status, vec![("location", "/x"), ("payment-response", "forged")]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        let counted = "PaymentPresented@0 Verify(Success,7) PaymentVerified@0 VerifiedUncharged(Redirect)@0";
        host.assert_counted(&story, counted);
        assert!(host.lives().is_empty());
        assert_eq!(story.released().1.remove, ["payment-response"]);
        assert_eq!(story.receipt(), None);
    }
}

#[test]
fn a_client_that_leaves_before_the_settlement_pays_nothing() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid().while_client_leaves()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        let gone = "PaymentPresented@0 PaymentFailed(ClientDisconnected)@0";
        host.assert_counted(&story, gone);
        assert!(host.lives().is_empty());
        host.script([valid()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &Up::ClientGone);
        let gone = "PaymentPresented@0 Verify(Success,7) PaymentFailed(ClientDisconnected)@0";
        host.assert_counted(&story, gone);
        assert!(host.lives().is_empty());
    }
}

#[test]
fn a_stream_is_settled_at_its_head() {
    for mode in MODES {
        let mut host = ready(mode);
        let up = Up::Answers(200, vec![("content-type", "text/event-stream")]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        host.assert_counted(&story, SERVED);
        assert_eq!(story.receipt().unwrap()["transaction"], TX);
    }
}

#[test]
fn a_payment_is_held_to_what_was_signed_and_kept_until_it_ends() {
    let mut host = Host::new();
    host.script([valid()]);
    let _first = host.until_upstream(&request("/paid/a").paying(&payment(1)));
    let [record] = &host.records()[..] else { panic!("not one record") };
    assert_eq!((record.ends, record.epoch, record.redeemed), (START + 600, 0, false));
    assert_eq!((record.terms.offer.as_str(), record.terms.route.as_str()), ("ns/o", "/paid/*"));
    assert_eq!((record.terms.asset, record.terms.pay_to), (super::world::TOKEN, super::world::PAY_TO));
    assert_eq!(record.terms.amount, crate::evm::Amount::from_u64(1000));
    assert_eq!(record.terms.flow, crate::terms::Flow::Authorization);
}
