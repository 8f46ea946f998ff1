//! The three outcomes of a settlement, and what an unknown one leads to.

use super::host::{Does, Host, Story, Up, ok, pending, refuses, request, settled, valid};
use super::world::{Wallet, payment, upfront_payment};
use crate::metrics::TupleCounter;
use crate::protocol::Operation::{Settle, Verify};
use crate::replay::KeyChange::{Delivered, Delivering, Free, Owed, Settling, Unknown};

const TX: &str = "0xabc";

fn leaky() -> Up {
    Up::Answers(
        200,
        vec![("content-length", "9"), ("content-encoding", "gzip"), ("etag", "\"1\""), ("set-cookie", "a=b")],
    )
}
fn unresolved(host: &Host) -> usize {
    let count = |wanted| host.total(|counter| counter == wanted);
    count(TupleCounter::UnresolvedOpened) - count(TupleCounter::UnresolvedClosed)
}
/// An unknown outcome as the client sees it.
#[track_caller]
fn assert_unknown(story: &Story, transaction: Option<&str>) {
    assert_eq!((story.status(), story.header("retry-after")), (503, Some("5")));
    assert_eq!(story.header("payment-required"), None);
    let body = story.body();
    assert!(body["error"].as_str().unwrap().starts_with("Payment settlement failed"));
    assert_eq!(body["reason"], "settlement_failed");
    assert_eq!(body["retriable"], false);
    assert_eq!(body["network"], "eip155:84532");
    assert_eq!(body["asset"].as_str().unwrap().to_lowercase(), format!("0x{}", "22".repeat(20)));
    assert_eq!(body["payer"], Wallet::new(1).address.checksummed());
    assert_eq!(body["nonce"], format!("0x{}", "01".repeat(32)));
    assert_eq!(body["transaction"], serde_json::json!(transaction));
    let receipt = story.receipt().unwrap();
    let reason = if transaction.is_some() { "settlement_pending" } else { "unexpected_settle_error" };
    assert_eq!(receipt["success"], false);
    assert_eq!(receipt["errorReason"], reason);
    assert_eq!(receipt["transaction"], transaction.unwrap_or_default());
}

#[test]
fn a_refused_settlement_discards_the_response_and_frees_the_payment() {
    let mut host = Host::new();
    host.script([valid(), refuses("insufficient_funds")]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &leaky());
    assert_eq!(story.status(), 402);
    assert_eq!(
        story.short(),
        "PaymentPresented@0 Verify(Success,7) Settle(Refused,7) PaymentFailed(SettlementRejected)@0"
    );
    assert_eq!(story.keys, [Settling, Free]);
    let body = story.body();
    assert_eq!(body["error"], "Payment settlement failed: insufficient_funds");
    assert_eq!(body["extensions"]["paymentFailure"]["reason"], "settlement_rejected");
    assert_eq!(body["extensions"]["paymentFailure"]["detail"], "insufficient_funds");
    let receipt = story.receipt().unwrap();
    assert_eq!((&receipt["success"], &receipt["errorReason"]), (&false.into(), &"insufficient_funds".into()));
    for name in ["content-length", "content-encoding", "etag", "set-cookie"] {
        assert_eq!(story.header(name), None);
    }
    host.script([valid(), settled(84532, TX)]);
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
}

#[test]
fn upfront_refused_never_reaches_the_upstream() {
    let mut host = Host::new();
    host.script([refuses("insufficient_funds")]);
    let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
    assert_eq!(story.short(), "PaymentPresented@3 Settle(Refused,7) PaymentFailed(SettlementRejected)@3");
    assert_eq!(story.keys, [Settling, Free]);
    assert!(story.forwarded.is_none());
}

#[test]
fn every_unclear_answer_keeps_the_payment_and_asks_for_no_other() {
    let tx = format!(r#"{{"success":true,"transaction":"{TX}","network":"eip155:84532"}}"#);
    let cases = [
        (Does::TimesOut, None, "Timeout"),
        (Does::Unreachable, None, "Unreachable"),
        (Does::Cuts, None, "Unreachable"),
        (Does::Says(500, "oops".into()), None, "HttpError"),
        (Does::Says(200, "<html>".into()), None, "BadReply"),
        (Does::Says(200, "".into()), None, "BadReply"),
        (Does::Says(502, tx), Some(TX), "HttpError"),
        (Does::Says(429, "".into()), None, "HttpError"),
        (Does::Says(308, "".into()), None, "HttpError"),
        (settled(1, TX), Some(TX), "BadReply"),
        (refuses("a_new_code"), None, "BadReply"),
        (refuses("invalid_exact_evm_nonce_already_used"), None, "BadReply"),
        (refuses("invalid_exact_evm_transaction_failed"), None, "BadReply"),
        (refuses("invalid_transaction_state"), None, "BadReply"),
        (refuses("settlement_pending"), None, "Refused"),
        (Does::Says(202, r#"{"jobId":"7"}"#.into()), None, "Refused"),
        (refuses("unexpected_settle_error"), None, "BadReply"),
    ];
    for (does, transaction, outcome) in cases {
        let mut host = Host::new();
        host.script([valid(), does.clone()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &leaky());
        assert_unknown(&story, transaction);
        assert_eq!(
            story.short(),
            format!(
                "PaymentPresented@0 Verify(Success,7) Settle({outcome},7) UnresolvedOpened@0 \
                 PaymentFailed(SettlementFailed)@0"
            ),
            "{does:?}"
        );
        assert_eq!(story.keys, [Settling, Unknown { transaction: transaction.map(Into::into) }]);
    }
}

#[test]
fn a_pending_settlement_is_repeated_exactly_once_with_the_same_bytes() {
    let mut host = Host::new();
    host.script([valid(), pending(TX), settled(84532, TX)]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!(story.operations(), [Verify, Settle, Settle]);
    assert!(story.calls.iter().all(|(_, body)| *body == story.calls[0].1));
    assert_eq!(
        story.short(),
        "PaymentPresented@0 Verify(Success,7) Settle(Refused,7) Settle(Success,7) PaymentVerified@0 Charged@0 \
         LastSuccess@0"
    );
    assert_eq!(story.keys, [Settling, Settling, Delivering { transaction: TX.into() }, Delivered]);

    for second in
        [pending(TX), Does::TimesOut, refuses("invalid_exact_evm_nonce_already_used"), Does::NotSent]
    {
        let mut host = Host::new();
        host.script([valid(), pending(TX), second.clone()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_eq!(story.operations(), [Verify, Settle, Settle], "{second:?}");
        assert_unknown(&story, Some(TX));
        assert_eq!(unresolved(&host), 1);
    }
}

#[test]
fn a_call_that_never_left_frees_the_payment() {
    let mut host = Host::new();
    host.script([valid(), Does::NotSent]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!((story.status(), story.header("retry-after")), (503, Some("2")));
    assert_eq!(story.body()["retriable"], true);
    assert_eq!(story.keys, [Settling, Free]);
    assert_eq!(unresolved(&host), 0);
    assert_eq!(
        story.short(),
        "PaymentPresented@0 Verify(Success,7) Settle(Unreachable,7) PaymentFailed(SettlementFailed)@0"
    );
}

#[test]
fn upfront_unknown_never_reaches_the_upstream() {
    let mut host = Host::new();
    host.script([Does::TimesOut]);
    let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
    assert_unknown(&story, None);
    assert!(story.forwarded.is_none());
    assert_eq!(unresolved(&host), 1);
}

/// A host on which the outcome of payment 1 for `path` is unknown.
fn host_with_an_open_question(path: &str, payment: &str) -> Host {
    let mut host = Host::new();
    let upfront = path.starts_with("/up");
    host.script((!upfront).then(valid).into_iter().chain([Does::TimesOut]));
    assert_eq!(host.play(&request(path).paying(payment), &ok()).status(), 503);
    assert_eq!(unresolved(&host), 1);
    host
}

#[test]
fn a_resend_repeats_the_settlement_and_is_served_when_it_turns_out_settled() {
    let mut host = host_with_an_open_question("/paid/a", &payment(1));
    host.script([settled(84532, TX)]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!(
        story.short(),
        "PaymentPresented@0 Settle(Success,7) PaymentVerified@0 Charged@0 LastSuccess@0 UnresolvedClosed@0"
    );
    assert_eq!(story.keys, [Delivering { transaction: TX.into() }, Delivered]);
    assert_eq!(story.receipt().unwrap()["transaction"], TX);
    assert_eq!(unresolved(&host), 0);
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 402);
    assert_eq!(host.charges(), 1);
}

#[test]
fn a_refusal_of_a_resend_says_nothing_of_the_first_attempt() {
    let mut host = host_with_an_open_question("/paid/a", &payment(1));
    let malformed = r#"{"errorType":"invalid_request","errorMessage":"schema"}"#;
    for does in [refuses("invalid_exact_evm_payload_signature"), Does::Says(400, malformed.into())] {
        host.script([does.clone()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_unknown(&story, None);
        assert_eq!(story.keys, [Unknown { transaction: None }], "{does:?}");
        assert_eq!(unresolved(&host), 1);
    }
}

#[test]
fn what_an_earlier_success_would_explain_leaves_the_question_open_and_counts_it_once() {
    let mut host = host_with_an_open_question("/paid/a", &payment(1));
    let used = refuses("invalid_exact_evm_nonce_already_used");
    // The first attempt may be where the money went.
    let broke = refuses("insufficient_funds");
    for does in [used, broke, Does::TimesOut, Does::NotSent, Does::Cuts] {
        host.script([does.clone()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_unknown(&story, None);
        assert_eq!(story.keys, [Unknown { transaction: None }], "{does:?}");
        assert_eq!(unresolved(&host), 1);
    }
}

#[test]
fn a_request_that_the_facilitator_cannot_read_frees_the_payment_and_blames_no_buyer() {
    let mut host = Host::new();
    let malformed = r#"{"errorType":"invalid_request","errorMessage":"schema","correlationId":"c-1"}"#;
    host.script([valid(), Does::Says(400, malformed.into())]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!((story.status(), story.header("payment-required")), (503, None));
    let error = story.body()["error"].clone();
    let expected =
        "Payment settlement failed: the facilitator calls our request malformed; nothing was charged";
    assert_eq!((error.as_str(), story.body()["retriable"].clone()), (Some(expected), false.into()));
    assert_eq!(story.keys, [Settling, Free]);
    assert_eq!(unresolved(&host), 0);
}

#[test]
fn the_transaction_of_the_first_attempt_is_not_forgotten() {
    let mut host = Host::new();
    host.script([valid(), pending(TX), Does::TimesOut]);
    host.play(&request("/paid/a").paying(&payment(1)), &ok());
    host.script([Does::TimesOut]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_unknown(&story, Some(TX));
    assert_eq!(unresolved(&host), 1);
}

#[test]
fn what_was_paid_late_and_not_served_stays_owed() {
    let charged =
        "PaymentPresented@0 Settle(Success,7) PaymentVerified@0 Charged@0 LastSuccess@0 UnresolvedClosed@0";
    let owed = Owed { transaction: TX.into() };
    let cases = [
        (Up::Answers(500, vec![]), " UpstreamFailedAfterCharge@0"),
        (Up::Unreachable, " UpstreamFailedAfterCharge@0"),
        (Up::TimesOut, " UpstreamFailedAfterCharge@0"),
        (Up::Answers(101, vec![]), " UpstreamFailedAfterCharge@0"),
        (Up::Breaks(200), " UpstreamFailedAfterCharge@0"),
        (Up::Answers(304, vec![]), ""),
        (Up::ClientGone, ""),
    ];
    for (up, more) in cases {
        let mut host = host_with_an_open_question("/paid/a", &payment(1));
        host.script([settled(84532, TX)]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        assert_eq!(story.short(), format!("{charged}{more}"), "{up:?}");
        assert_eq!(story.keys, [Delivering { transaction: TX.into() }, owed.clone()]);
        host.script([]);
        assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
        assert_eq!(host.charges(), 1);
    }
}

#[test]
fn works_upfront_too() {
    let mut host = host_with_an_open_question("/up/a", &upfront_payment(1));
    host.script([settled(84532, TX)]);
    let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
    assert_eq!(
        story.short(),
        "PaymentPresented@3 Settle(Success,7) PaymentVerified@3 Charged@3 LastSuccess@3 UnresolvedClosed@3"
    );
    assert_eq!(story.keys, [Delivered]);
}

#[test]
fn a_client_that_leaves_during_the_settlement_leaves_a_question() {
    let mut host = Host::new();
    host.script([valid(), Does::ClientGone]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!(
        story.short(),
        "PaymentPresented@0 Verify(Success,7) Settle(Unreachable,7) UnresolvedOpened@0 \
         PaymentFailed(SettlementFailed)@0"
    );
    assert_eq!(story.keys, [Settling, Unknown { transaction: None }]);
    // The settlement went through meanwhile: a resend is served without a second charge.
    host.script([settled(84532, TX)]);
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
    assert_eq!((host.charges(), unresolved(&host)), (1, 0));
}

#[test]
fn a_worker_that_died_while_settling_leaves_a_question_that_is_counted_when_it_is_found() {
    let mut host = Host::new();
    host.script([valid(), Does::ClientGone]);
    host.play(&request("/paid/a").paying(&payment(1)), &ok());
    // Rewind: as if nobody had been left to record the unknown outcome.
    host.counted.clear();
    host.table.clear();
    let turn = host.begin(&request("/paid/a").paying(&payment(1)));
    let crate::exchange::Next::Reserve(state) = turn.next else { panic!("no reservation") };
    let ask = state.request();
    let claim = crate::replay::reserve(&[], &ask, &host.limits, host.now());
    let (bytes, _) = crate::replay::apply(&claim.write.unwrap(), &ask.key, &Settling, host.now()).unwrap();
    host.table.insert(ask.key.bucket(), bytes);
    host.now_ms += 10_000;
    assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 409);
    host.now_ms += 150_000;
    host.script([settled(84532, TX)]);
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!(
        story.short(),
        "PaymentPresented@0 UnresolvedOpened@0 Settle(Success,7) PaymentVerified@0 Charged@0 LastSuccess@0 \
         UnresolvedClosed@0"
    );
}

#[test]
fn an_unknown_settlement_that_nobody_asks_for_again_expires_and_is_counted() {
    let mut host = host_with_an_open_question("/paid/a", &payment(1));
    host.now_ms += 700_000;
    let bytes: Vec<_> = host.table.values().cloned().collect();
    let (_, expired) = crate::replay::sweep(&bytes[0], host.now()).unwrap();
    let stamps = crate::replay::expired_stamps(&expired, &host.rules);
    assert_eq!(super::host::short(&stamps), "UnresolvedClosed@0 ResolvedLate(Expired)@0");
}
