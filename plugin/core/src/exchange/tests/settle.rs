//! The three outcomes of a settlement, and the consequences of an unknown one.

use super::host::{CALL_MS, Host, MODES, Mode};
use super::relay::Line;
use super::script::{Does, Story, Up, ok, pending, refuses, request, settled, short, valid};
use super::world::{Wallet, payment, upfront_payment};
use crate::payment::{Effect, Event};
use crate::protocol::Operation::{Settle, Verify};

const TX: &str = "0xabc";
const MALFORMED: &str = r#"{"errorType":"invalid_request","errorMessage":"schema","correlationId":"c-1"}"#;

fn leaky() -> Up {
    Up::Answers(
        200,
        vec![("content-length", "9"), ("content-encoding", "gzip"), ("etag", "\"1\""), ("set-cookie", "a=b")],
    )
}
/// A request for `/paid/a`.
fn paid(host: &mut Host) -> Story {
    host.play(&request("/paid/a").paying(&payment(1)), &ok())
}
/// Checks the client's view of an unknown outcome.
#[track_caller]
pub(super) fn assert_unknown(story: &Story, transaction: Option<&str>) {
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
/// Every case in both modes.
fn each<T: Clone>(cases: impl IntoIterator<Item = T>) -> impl Iterator<Item = (T, Mode)> {
    cases.into_iter().flat_map(|case| MODES.map(|mode| (case.clone(), mode)))
}

#[test]
fn a_refused_settlement_discards_the_response_and_frees_the_payment() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), refuses("insufficient_funds")]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &leaky());
        assert_eq!(story.status(), 402);
        let counted =
            "PaymentPresented@0 Verify(Success,7) Settle(Refused,7) PaymentFailed(SettlementRejected)@0";
        host.assert_counted(&story, counted);
        assert!(host.lives().is_empty());
        let body = story.body();
        assert_eq!(body["error"], "Payment settlement failed: insufficient_funds");
        assert_eq!(body["extensions"]["paymentFailure"]["reason"], "settlement_rejected");
        assert_eq!(body["extensions"]["paymentFailure"]["detail"], "insufficient_funds");
        let receipt = story.receipt().unwrap();
        let told = (&receipt["success"], &receipt["errorReason"]);
        assert_eq!(told, (&false.into(), &"insufficient_funds".into()));
        for name in ["content-length", "content-encoding", "etag", "set-cookie"] {
            assert_eq!(story.header(name), None);
        }
        host.script([valid(), settled(84532, TX)]);
        assert_eq!(paid(&mut host).status(), 200);
    }
}

#[test]
fn upfront_refused_never_reaches_the_upstream() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), refuses("insufficient_funds")]);
        let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
        let counted =
            "PaymentPresented@3 Verify(Success,7) Settle(Refused,7) PaymentFailed(SettlementRejected)@3";
        host.assert_counted(&story, counted);
        assert!(host.lives().is_empty() && story.forwarded.is_none());
    }
}

#[test]
fn every_unclear_answer_keeps_the_payment_and_asks_for_no_other() {
    let tx = format!(r#"{{"success":true,"transaction":"{TX}","network":"eip155:84532"}}"#);
    let moved = format!(
        r#"{{"success":false,"errorReason":"invalid_exact_evm_transaction_failed","errorMessage":"settlement_pending, but failed to persist for retry","transaction":"{TX}"}}"#
    );
    let cases = [
        (Does::TimesOut, None, "Timeout"),
        (Does::Unreachable, None, "Unreachable"),
        (Does::Cuts, None, "Unreachable"),
        (Does::Says(500, "oops".into()), None, "HttpError"),
        (Does::Says(200, "<html>".into()), None, "BadReply"),
        (Does::Says(200, String::new()), None, "BadReply"),
        (Does::Says(502, tx), Some(TX), "HttpError"),
        (Does::Says(429, String::new()), None, "HttpError"),
        (Does::Says(308, String::new()), None, "HttpError"),
        (Does::Says(200, moved), Some(TX), "BadReply"),
        (settled(1, TX), Some(TX), "BadReply"),
        (refuses("a_new_code"), None, "BadReply"),
        (refuses("invalid_exact_evm_nonce_already_used"), None, "BadReply"),
        (refuses("invalid_exact_evm_transaction_failed"), None, "BadReply"),
        (refuses("transaction_failed"), None, "BadReply"),
        (refuses("invalid_transaction_state"), None, "BadReply"),
        (refuses("unexpected_settle_error"), None, "BadReply"),
    ];
    for ((does, transaction, outcome), mode) in each(cases) {
        let mut host = Host::of(mode);
        host.script([valid(), does.clone()]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &leaky());
        assert_unknown(&story, transaction);
        let counted = format!(
            "PaymentPresented@0 Verify(Success,7) Settle({outcome},7) UnresolvedOpened@0 \
             PaymentFailed(SettlementFailed)@0"
        );
        host.assert_counted(&story, &counted);
        assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1), "{does:?}");
    }
}

#[test]
fn a_pending_settlement_is_repeated_exactly_once_with_the_same_bytes() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), pending(TX), settled(84532, TX)]);
        let story = paid(&mut host);
        assert_eq!(story.operations(), [Verify, Settle, Settle]);
        assert!(story.calls.iter().all(|(_, body)| *body == story.calls[0].1));
        let counted = "PaymentPresented@0 Verify(Success,7) Settle(BadReply,7) Settle(Success,7) \
                       PaymentVerified@0 Charged@0 LastSuccess@0";
        host.assert_counted(&story, counted);
        assert_eq!(host.lives(), ["delivered"]);
    }
    let accepted = |body: &str| Does::Says(202, body.into());
    let under_way = Does::Says(200, r#"{"success":false,"status":"processing"}"#.into());
    // CDP says "pending" in a 500.
    let slow = Does::Says(
        500,
        r#"{"success":false,"errorReason":"settle_exact_evm_transaction_confirmation_timed_out"}"#.into(),
    );
    let first = [
        (pending(TX), Some(TX)),
        (refuses("settlement_pending"), None),
        (accepted(r#"{"jobId":"7"}"#), None),
        (accepted(""), None),
        (under_way, None),
        (slow, None),
    ];
    let second = [
        pending(""),
        Does::TimesOut,
        refuses("invalid_exact_evm_nonce_already_used"),
        refuses("insufficient_funds"),
        Does::Says(400, MALFORMED.into()),
        Does::NotSent,
    ];
    for ((first, transaction), mode) in each(first) {
        for second in &second {
            let mut host = Host::of(mode);
            host.script([valid(), first.clone(), second.clone()]);
            let story = paid(&mut host);
            assert_eq!(story.operations(), [Verify, Settle, Settle], "{first:?} {second:?}");
            assert_unknown(&story, transaction);
            assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1));
        }
    }
}

#[test]
fn a_call_that_never_left_frees_the_payment() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), Does::NotSent]);
        let story = paid(&mut host);
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("2")));
        assert_eq!(story.body()["retriable"], true);
        assert!(story.body()["error"].as_str().unwrap().contains("nothing was charged"));
        assert_eq!((host.lives().len(), host.open()), (0, 0));
        let counted =
            "PaymentPresented@0 Verify(Success,7) Settle(Unreachable,7) PaymentFailed(SettlementFailed)@0";
        host.assert_counted(&story, counted);
    }
}

#[test]
fn upfront_unknown_never_reaches_the_upstream() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), Does::TimesOut]);
        let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
        assert_unknown(&story, None);
        assert!(story.forwarded.is_none());
        assert_eq!(host.open(), 1);
    }
}

/// A host on which the outcome of payment 1 for `path` is unknown.
pub(super) fn host_with_an_open_question(mode: Mode, path: &str, payment: &str) -> Host {
    let mut host = Host::of(mode);
    host.script([valid(), Does::TimesOut]);
    assert_eq!(host.play(&request(path).paying(payment), &ok()).status(), 503);
    assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1));
    host
}

#[test]
fn a_resend_repeats_the_settlement_and_is_served_when_it_turns_out_settled() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), Does::TimesOut]);
        let first = paid(&mut host);
        host.script([settled(84532, TX)]);
        let story = paid(&mut host);
        let counted = "PaymentPresented@0 Settle(Success,7) UnresolvedClosed@0 PaymentVerified@0 Charged@0 \
                       LastSuccess@0";
        host.assert_counted(&story, counted);
        assert_eq!(story.operations(), [Settle], "it was verified before");
        assert_eq!(story.calls[0].1, first.calls[1].1, "the identical call");
        assert_eq!((host.lives(), host.open()), (vec!["delivered"], 0));
        assert_eq!(story.receipt().unwrap()["transaction"], TX);
        assert_eq!(paid(&mut host).status(), 402);
        assert_eq!(host.charges(), 1);
    }
}

#[test]
fn a_resend_that_is_spelled_otherwise_repeats_the_call_on_record() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), Does::TimesOut]);
        let first = paid(&mut host);
        let v1 = Wallet::new(1).pay(&super::world::Terms { v1: true, ..super::world::Terms::of(0, 0, 1) });
        host.script([settled(84532, TX)]);
        let story = host.play(&request("/paid/a").with("x-payment", &v1), &ok());
        assert_eq!((story.status(), story.operations()), (200, vec![Settle]));
        assert_eq!(story.calls[0].1, first.calls[1].1);
    }
}

#[test]
fn what_an_earlier_success_would_explain_leaves_the_question_open_and_counts_it_once() {
    for mode in MODES {
        let mut host = host_with_an_open_question(mode, "/paid/a", &payment(1));
        // The first attempt may have moved the money, so the reply to the second proves nothing.
        for does in [
            refuses("invalid_exact_evm_nonce_already_used"),
            refuses("insufficient_funds"),
            refuses("invalid_exact_evm_payload_signature"),
            refuses("invalid_exact_evm_signature"),
            refuses("invalid_payload"),
            refuses("invalid_payment_requirements"),
            refuses("invalid_network"),
            Does::Says(400, MALFORMED.into()),
            Does::TimesOut,
            Does::NotSent,
            Does::Cuts,
        ] {
            host.script([does.clone()]);
            let story = paid(&mut host);
            assert_unknown(&story, None);
            assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1), "{does:?}");
            host.now_ms += 1_000;
        }
        host.script([settled(84532, TX)]);
        assert_eq!((paid(&mut host).status(), host.open(), host.charges()), (200, 0, 1));
    }
}

#[test]
fn a_request_that_the_facilitator_cannot_read_frees_the_payment_and_blames_no_buyer() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), Does::Says(400, MALFORMED.into())]);
        let story = paid(&mut host);
        assert_eq!((story.status(), story.header("payment-required")), (503, None));
        let error = story.body()["error"].clone();
        let expected =
            "Payment settlement failed: the facilitator calls our request malformed; nothing was charged";
        assert_eq!((error.as_str(), story.body()["retriable"].clone()), (Some(expected), false.into()));
        assert!(host.lives().is_empty());
        assert_eq!(host.open(), 0);
    }
}

#[test]
fn the_transaction_of_the_first_attempt_is_not_forgotten() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), pending(TX), Does::TimesOut]);
        paid(&mut host);
        for does in [Does::TimesOut, refuses("insufficient_funds"), refuses("a_new_code")] {
            host.script([does]);
            assert_unknown(&paid(&mut host), Some(TX));
            assert_eq!(host.open(), 1);
        }
    }
}

#[test]
fn what_was_paid_late_and_not_served_stays_owed() {
    let charged = "PaymentPresented@0 Settle(Success,7) UnresolvedClosed@0 PaymentVerified@0 Charged@0 \
                   LastSuccess@0";
    let cases = [
        (Up::Answers(500, vec![]), " UpstreamFailedAfterCharge@0"),
        (Up::Unreachable, " UpstreamFailedAfterCharge@0"),
        (Up::TimesOut, " UpstreamFailedAfterCharge@0"),
        (Up::Answers(101, vec![]), " UpstreamFailedAfterCharge@0"),
        (Up::Breaks(200), " UpstreamFailedAfterCharge@0"),
        (Up::Answers(304, vec![]), ""),
        (Up::ClientGone, ""),
    ];
    for ((up, more), mode) in each(cases) {
        let mut host = host_with_an_open_question(mode, "/paid/a", &payment(1));
        host.script([settled(84532, TX)]);
        let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
        host.assert_counted(&story, &format!("{charged}{more}"));
        assert_eq!(host.lives(), ["owed"], "{up:?}");
        host.script([]);
        assert_eq!(paid(&mut host).status(), 200);
        assert_eq!((host.charges(), host.lives()), (1, vec!["delivered"]));
    }
}

#[test]
fn works_upfront_too() {
    for mode in MODES {
        let mut host = host_with_an_open_question(mode, "/up/a", &upfront_payment(1));
        host.script([settled(84532, TX)]);
        let story = host.play(&request("/up/a").paying(&upfront_payment(1)), &ok());
        let counted = "PaymentPresented@3 Settle(Success,7) UnresolvedClosed@3 PaymentVerified@3 Charged@3 \
                       LastSuccess@3";
        host.assert_counted(&story, counted);
        assert_eq!(host.lives(), ["delivered"]);
    }
}

#[test]
fn a_client_that_leaves_during_the_settlement_leaves_a_question() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, TX).while_client_leaves()]);
    let story = paid(&mut host);
    let counted =
        "PaymentPresented@0 Verify(Success,7) PaymentFailed(ClientDisconnected)@0 UnresolvedOpened@0";
    host.assert_counted(&story, counted);
    assert_eq!((host.lives(), host.open()), (vec!["unknown"], 1));
    // The settlement succeeded meanwhile, so a resend is served without a second charge.
    host.script([settled(84532, TX)]);
    assert_eq!(paid(&mut host).status(), 200);
    assert_eq!((host.charges(), host.open()), (1, 0));
}

#[test]
fn a_client_that_leaves_during_the_settlement_of_a_relay_is_owed_its_answer() {
    let mut host = Host::of(Mode::Relay);
    host.script([valid(), settled(84532, TX).while_client_leaves()]);
    let story = paid(&mut host);
    host.assert_counted(&story, "PaymentPresented@0 PaymentFailed(ClientDisconnected)@0");
    assert_eq!((host.lives(), host.open()), (vec!["owed"], 0));
    assert_eq!(host.effects(), [Effect::Charged, Effect::SettledLate]);
    let story = paid(&mut host);
    assert_eq!((story.status(), story.calls.len()), (200, 0));
    assert_eq!(host.lives(), ["delivered"]);
}

#[test]
fn a_worker_that_died_while_settling_leaves_a_question_that_is_counted_when_it_is_found() {
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid()]);
        let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        // The settlement begins, and no request is left for the answer.
        let state = host.until_settling(*state);
        if mode == Mode::Relay {
            let (begin, key) =
                (Event::Begin(state.claim().1.holder), host.relay.records.keys().next().cloned());
            host.relay.step(&key.unwrap(), begin, crate::Now { unix_ms: host.now_ms });
        }
        drop(state);
        assert_eq!((host.lives(), host.open()), (vec!["settling"], 0));
        host.now_ms += 10_000;
        assert_eq!(paid(&mut host).status(), 409);
        host.now_ms += 150_000;
        host.script([settled(84532, TX)]);
        let story = paid(&mut host);
        let counted = "PaymentPresented@0 UnresolvedOpened@0 Settle(Success,7) UnresolvedClosed@0 \
                       PaymentVerified@0 Charged@0 LastSuccess@0";
        host.assert_counted(&story, counted);
        assert_eq!((host.lives(), host.open()), (vec!["delivered"], 0));
    }
}

#[test]
fn an_unknown_settlement_that_nobody_asks_for_again_is_never_known_after_the_retention() {
    for mode in MODES {
        let mut host = host_with_an_open_question(mode, "/paid/a", &payment(1));
        host.now_ms += 10_000_000;
        host.sweep();
        assert_eq!(host.lives(), ["unknown"], "its window is over, and money may have moved");
        host.now_ms += host.limits.retention * 1_000;
        host.sweep();
        assert_eq!((host.lives().len(), host.open()), (0, 0));
        assert!(host.effects().contains(&Effect::NeverKnown));
        if mode == Mode::Direct {
            let counted = super::script::short(&host.counted);
            assert!(counted.ends_with("UnresolvedClosed@0 ResolvedLate(Expired)@0"), "{counted}");
        }
    }
}

#[test]
fn a_relay_that_is_silent_is_no_refusal_and_holds_no_payment() {
    let lines = [
        Line::NotSent,
        Line::LosesCall,
        Line::LosesReply,
        Line::Says(200, r#"{"isValid":true}"#.into()),
        Line::Says(200, r#"{"success":true,"transaction":"0x1","network":"eip155:84532"}"#.into()),
        Line::Says(502, "<html>".into()),
    ];
    for line in lines {
        let mut host = Host::of(Mode::Relay);
        host.relay.line = [line.clone()].into();
        host.script([valid()]);
        let story = paid(&mut host);
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("2")), "{line:?}");
        // An earlier request may have been charged with this payment.
        assert_eq!(story.body()["retriable"], false);
        assert!(story.body()["hint"].as_str().unwrap().contains("same payment"));
        host.assert_counted(&story, "PaymentPresented@0 PaymentFailed(CompanionUnreachable)@0");
        assert!(host.lives().is_empty() && story.forwarded.is_none());
        host.script([valid(), settled(84532, TX)]);
        assert_eq!(paid(&mut host).status(), 200);
    }
}

#[test]
fn a_settlement_a_relay_does_not_answer_for_can_be_fetched_at_once() {
    let mut host = Host::of(Mode::Relay);
    host.script([valid(), settled(84532, TX)]);
    let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
    host.relay.line = [Line::LosesReply].into();
    let mut story = Story::new();
    host.respond(*state, &ok(), &mut story);
    assert_unknown(&story, None);
    assert_eq!(host.lives(), ["owed"], "nobody holds it any more");
    assert_eq!((paid(&mut host).status(), host.lives()), (200, vec!["delivered"]));

    for line in [Line::NotSent, Line::LosesCall] {
        let mut host = Host::of(Mode::Relay);
        host.script([valid()]);
        let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        host.relay.line = [line].into();
        let mut story = Story::new();
        host.respond(*state, &ok(), &mut story);
        assert_eq!((story.status(), story.is_priced()), (503, false));
        assert!(host.lives().is_empty(), "it is free again");
    }
}

#[test]
fn a_settlement_that_outlasts_its_lease_is_served_to_the_request_that_took_it_over() {
    let cases = [
        (settled(84532, TX), settled(84532, TX), (409, 200)),
        (settled(84532, TX), refuses("invalid_exact_evm_nonce_already_used"), (409, 200)),
        (settled(84532, TX), refuses("insufficient_funds"), (409, 200)),
        (settled(84532, TX), Does::TimesOut, (409, 200)),
        (refuses("insufficient_funds"), settled(84532, TX), (503, 200)),
        (Does::Says(400, MALFORMED.into()), settled(84532, TX), (503, 200)),
        (Does::TimesOut, settled(84532, TX), (503, 200)),
        (refuses("insufficient_funds"), refuses("insufficient_funds"), (503, 503)),
    ];
    for (late, second, statuses) in cases {
        for second_first in [false, true] {
            let mut host = Host::new();
            host.script([valid()]);
            let first = host.until_upstream(&request("/paid/a").paying(&payment(1)));
            let first = host.until_settling(*first);
            host.now_ms += 140_000;
            let turn = host.begin(&request("/paid/a").paying(&payment(1)));
            let again = host.until_call(turn);
            assert_eq!(again.call(), first.call(), "the identical call");
            if second_first {
                let second = host.answer(*again, &second);
                let late = host.answer(*first, &late);
                assert!(late.status() != 200 || second.status() != 200, "served twice");
            } else {
                let late = host.answer(*first, &late);
                let second = host.answer(*again, &second);
                assert_eq!((late.status(), second.status()), statuses);
                assert!(!late.is_priced() && !second.is_priced());
            }
            assert_eq!(host.charges(), usize::from(statuses.1 == 200));
        }
    }
}

#[test]
fn a_settle_call_that_outlives_its_client_ends_in_the_store() {
    let late = |says: Does| {
        let mut host = Host::of(Mode::Direct);
        let paying = request("/paid/a").paying(&payment(1));
        host.script([valid()]);
        let upstream = host.until_upstream(&paying);
        let (abandoned, orphan) = host.until_settling(*upstream).orphaned().expect("a settle call");
        assert_eq!(short(&abandoned.stamps), "PaymentFailed(ClientDisconnected)@0");
        let _ = host.tell(&abandoned.notes);
        assert_eq!(host.lives(), ["settling"]);
        // No second call while the first call runs.
        let resend = host.play(&paying, &ok());
        assert_eq!((resend.status(), resend.calls.len()), (409, 0));
        host.now_ms += CALL_MS;
        let late = orphan.answered(says.end(), host.now());
        let [ended, over] = &late.notes[..] else { panic!("two notes") };
        let (_, effects, stamps) = host.step(ended.key.digest(), ended.tuple, ended.event.clone());
        let _ = host.tell(std::slice::from_ref(over));
        let charged = effects.iter().any(|effect| effect.effect == Effect::Charged);
        let counted =
            [late.stamps, stamps, if charged { late.charged.to_vec() } else { Vec::new() }].concat();
        (short(&counted), host.lives())
    };
    let (counted, lives) = late(settled(84532, TX));
    assert_eq!(counted, "Settle(Success,7) ResolvedLate(Settled)@0 Charged@0 LastSuccess@0");
    assert_eq!(lives, ["owed"]);
    assert_eq!(
        late(refuses("insufficient_funds")),
        ("Settle(Refused,7)".to_owned(), Vec::new()),
        "nothing moved, so it is free"
    );
    for (says, outcome) in
        [(Does::TimesOut, "Timeout"), (Does::Cuts, "Unreachable"), (pending(TX), "BadReply")]
    {
        let (counted, lives) = late(says);
        assert_eq!(counted, format!("Settle({outcome},7) UnresolvedOpened@0"));
        assert_eq!(lives, ["unknown"]);
    }
}

#[test]
fn a_call_to_a_relay_and_a_verification_have_no_life_without_their_client() {
    let mut host = Host::of(Mode::Relay);
    host.script([valid()]);
    let upstream = host.until_upstream(&request("/paid/a").paying(&payment(1)));
    assert!(host.until_settling(*upstream).orphaned().is_err());
    for mode in MODES {
        let mut host = Host::of(mode);
        let turn = host.begin(&request("/paid/a").paying(&payment(1)));
        assert!(host.until_call(turn).orphaned().is_err());
    }
}
