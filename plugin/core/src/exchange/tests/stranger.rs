//! A stranger without a key and without money cannot change a buyer's payment, and cannot move money.

use super::host::{Host, MODES, Mode};
use super::relay::Line;
use super::script::{Does, Story, Up, invalid, ok, request, settled, valid};
use super::settle::host_with_an_open_question;
use super::world::{START, Terms, Wallet, junk_signed, payment, upfront_payment};
use crate::protocol::Operation::{Settle, Verify};
use crate::protocol::RelayReply;
use crate::terms::Settings;

const TX: &str = "0xabc";

#[test]
fn signatures_only_a_chain_can_judge_are_taken_by_default() {
    assert!(Settings::default().defer_undecidable_signature);
}

#[test]
fn a_junk_signature_on_an_upfront_route_is_verified_first_and_leaves_nothing() {
    let junk = request("/up/a").paying(&junk_signed(&upfront_payment(1)));
    for (does, status) in [
        (invalid("invalid_exact_evm_payload_signature"), 402),
        // The reply of x402-rs.
        (Does::Says(400, r#"{"isValid":false,"invalidReason":"invalid_signature"}"#.into()), 402),
        (Does::Says(500, r#"{"error":"unexpected_error"}"#.into()), 503),
        (Does::TimesOut, 503),
    ] {
        for mode in MODES {
            let mut host = Host::of(mode);
            host.script([does.clone()]);
            let story = host.play(&junk, &ok());
            assert_eq!((story.status(), story.operations()), (status, vec![Verify]));
            assert!(host.records().is_empty() && story.forwarded.is_none());
            assert_eq!((host.open(), host.charges()), (0, 0));
            // The victim's own payment still works.
            host.script([valid(), settled(84532, TX)]);
            assert_eq!(host.play(&request("/up/a").paying(&upfront_payment(1)), &ok()).status(), 200);
        }
    }
}

#[test]
fn a_junk_signature_that_is_no_good_as_a_new_payment_is_only_looked_up() {
    let stale = Wallet::new(1).pay(&Terms { valid_before: START - 10, ..Terms::of(0, 0, 1) });
    for mode in MODES {
        let mut host = Host::of(mode);
        let story = host.play(&request("/paid/a").paying(&junk_signed(&stale)), &ok());
        assert_eq!((story.status(), story.asked, story.calls.len()), (402, 1, 0));
        assert!(host.records().is_empty() && host.table.values().all(Vec::is_empty));
    }
}

#[test]
fn a_stranger_cannot_turn_an_open_payment_into_a_refused_one() {
    let junk = request("/paid/a").paying(&junk_signed(&payment(1)));
    for mode in MODES {
        let mut host = host_with_an_open_question(mode, "/paid/a", &payment(1));
        let before = host.records();
        let story = host.play(&junk, &ok());
        assert_eq!((story.status(), story.is_priced(), story.calls.len()), (409, false, 0));
        assert_eq!((host.records(), host.open()), (before, 1));
        host.script([settled(84532, TX)]);
        assert_eq!(host.play(&request("/paid/a").paying(&payment(1)), &ok()).status(), 200);
    }
}

#[test]
fn an_owed_payment_buys_only_its_own_answer_and_only_for_its_buyer() {
    let victim = request("/paid/a").paying(&payment(1));
    let dear = Terms { value: 9_999_999, ..Terms::of(0, 0, 1) };
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), settled(84532, TX)]);
        assert_eq!(host.play(&victim, &Up::Breaks(200)).status(), 200);
        host.reload(|p| {
            p.routes[1].options[0].amount = crate::evm::Amount::from_u64(9_999_999);
            p.routes[1].offer_name = "up".into();
            p.routes[1].options[0].tuple = 3;
        });
        let mut dear = dear.clone();
        dear.option.amount = crate::evm::Amount::from_u64(9_999_999);
        let dear = Wallet::new(1).pay(&dear);
        for (path, payment) in [
            ("/paid/a", junk_signed(&payment(1))),
            ("/same-price", junk_signed(&payment(1))),
            ("/same-price", dear.clone()),
            ("/same-price", junk_signed(&dear)),
        ] {
            let story = host.play(&request(path).paying(&payment), &ok());
            assert_eq!((story.status(), story.calls.len()), (402, 0), "{path}");
            assert_eq!((host.lives(), story.forwarded.is_none()), (vec!["owed"], true));
        }
        assert_eq!(host.play(&victim, &ok()).status(), 200);
    }
}

#[test]
fn a_contract_wallet_pays_upfront_and_redeems_with_the_same_signature() {
    let wallet = request("/up/a").paying(&junk_signed(&upfront_payment(1)));
    for mode in MODES {
        let mut host = Host::of(mode);
        host.script([valid(), settled(84532, TX)]);
        let story = host.play(&wallet, &Up::Unreachable);
        assert_eq!((story.status(), story.operations()), (502, vec![Verify, Settle]));
        let story = host.play(&wallet, &ok());
        assert_eq!((story.status(), story.calls.len(), host.charges()), (200, 0, 1));
    }
}

/// A relay's reply, and the answer to the client: status, whether it asks for another payment, whether it
/// says that another payment is safe, and the counts.
type Word = (RelayReply, u16, bool, bool, &'static str);

fn words() -> Vec<Word> {
    use RelayReply as R;
    let (text, tx) = (|| "a".to_owned(), || TX.to_owned());
    let replayed = |state| match state {
        "Settled" => "ReplayRejected(Settled)@0 PaymentFailed(PaymentReplayed)@0",
        "InFlight" => "ReplayRejected(InFlight)@0 PaymentFailed(PaymentReplayed)@0",
        _ => "ReplayRejected(OtherRoute)@0 PaymentFailed(PaymentReplayed)@0",
    };
    let paid_for = R::PaidFor { offer: "ns/o".into(), route: "/x".into(), transaction: tx() };
    vec![
        (R::InFlight, 409, false, false, replayed("InFlight")),
        (R::OtherTerms, 409, false, false, replayed("OtherRoute")),
        (R::OtherPayment, 409, false, false, replayed("InFlight")),
        (R::Open { transaction: Some(tx()) }, 503, false, false, "PaymentFailed(SettlementFailed)@0"),
        (R::Open { transaction: None }, 503, false, false, "PaymentFailed(SettlementFailed)@0"),
        (paid_for, 409, false, false, replayed("OtherRoute")),
        (R::Used, 402, true, false, replayed("Settled")),
        (R::Twin { transaction: Some(tx()) }, 409, false, false, replayed("Settled")),
        (R::Twin { transaction: None }, 409, false, false, replayed("Settled")),
        (
            R::Refused { reason: text(), detail: None },
            402,
            true,
            false,
            "PaymentFailed(SettlementRejected)@0",
        ),
        (R::NotBegun, 503, false, true, "PaymentFailed(SettlementFailed)@0"),
        (R::NotTaken { reason: text() }, 503, false, false, "PaymentFailed(Other)@0"),
        // A reply that is not possible here: the answer asks for no payment.
        (R::New { now: Some(0) }, 500, false, false, "PaymentFailed(InternalError)@0"),
    ]
}

#[test]
fn every_word_of_a_relay_has_one_answer_and_only_what_cannot_be_charged_any_more_has_a_price() {
    let invalid = RelayReply::Invalid { reason: "a".into(), detail: None };
    let malformed = || RelayReply::Malformed { words: "a".into() };
    let to_verify = [
        (invalid, 402, true, false, "PaymentFailed(PaymentInvalid)@0"),
        (malformed(), 503, false, false, "PaymentFailed(FacilitatorError)@0"),
        (RelayReply::Unreachable, 503, false, true, "PaymentFailed(FacilitatorUnreachable)@0"),
        (RelayReply::Busy, 503, false, true, "PaymentFailed(FacilitatorOverloaded)@0"),
        (RelayReply::NoVerdict, 503, false, false, "PaymentFailed(FacilitatorError)@0"),
        (RelayReply::Unavailable, 503, false, false, "PaymentFailed(ReplayGuardUnavailable)@0"),
    ];
    for (word, status, priced, safe, counted) in words().into_iter().chain(to_verify) {
        let mut host = Host::of(Mode::Relay);
        host.relay.line = [Line::Says(word.status(), String::from_utf8(word.body()).unwrap())].into();
        let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
        assert_told(&host, &story, &word, (status, priced, safe), counted);
    }
    let to_settle = [
        (malformed(), 503, false, false, "PaymentFailed(SettlementFailed)@0"),
        (RelayReply::Unreachable, 503, false, true, "PaymentFailed(SettlementFailed)@0"),
        (RelayReply::Valid, 500, false, false, "PaymentFailed(InternalError)@0"),
    ];
    for (word, status, priced, safe, counted) in words().into_iter().chain(to_settle) {
        let mut host = Host::of(Mode::Relay);
        host.script([valid()]);
        let state = host.until_upstream(&request("/paid/a").paying(&payment(1)));
        host.relay.line = [Line::Says(word.status(), String::from_utf8(word.body()).unwrap())].into();
        let mut story = Story::new();
        host.respond(*state, &ok(), &mut story);
        story.stamps.insert(0, host.counted[0]);
        assert_told(&host, &story, &word, (status, priced, safe), counted);
        assert!(host.lives().is_empty(), "whatever it meant, this request has the payment no more: {word:?}");
    }
}

#[test]
fn a_payment_that_only_a_wrong_clock_takes_for_too_old_is_not_the_buyers_fault() {
    let old = Wallet::new(1).pay(&Terms { valid_before: START - 100, ..Terms::of(0, 0, 1) });
    let cheap = Wallet::new(1).pay(&Terms { value: 999, ..Terms::of(0, 0, 1) });
    let refused = |payment: &str, now: Option<u64>| {
        let mut host = Host::of(Mode::Relay);
        let word = RelayReply::New { now };
        host.relay.line = [Line::Says(200, String::from_utf8(word.body()).unwrap())].into();
        let story = host.play(&request("/paid/a").paying(payment), &ok());
        (story.status(), story.is_priced(), format!("{:?}", story.stamps))
    };
    for theirs in [START - 200, START - 20, START + 20, START + 200] {
        let (status, priced, stamps) = refused(&old, Some(theirs));
        assert_eq!((status, priced), (503, false), "{theirs}");
        assert!(stamps.contains("ClockWrong"), "{stamps}");
    }
    for theirs in [None, Some(START), Some(START + 5)] {
        let (status, priced, stamps) = refused(&old, theirs);
        assert_eq!((status, priced), (402, true), "{theirs:?}");
        assert!(stamps.contains("PaymentInvalid"), "{stamps}");
    }
    // A fault that does not depend on time stays a fault.
    let (status, priced, stamps) = refused(&cheap, Some(START - 200));
    assert_eq!((status, priced), (402, true), "{stamps}");
}

#[track_caller]
fn assert_told(
    host: &Host,
    story: &Story,
    word: &RelayReply,
    (status, priced, safe): (u16, bool, bool),
    counted: &str,
) {
    assert_eq!((story.status(), story.is_priced()), (status, priced), "{word:?}");
    if !priced {
        assert_eq!(story.body()["retriable"], safe, "{word:?}");
    }
    host.assert_counted(story, &format!("PaymentPresented@0 {counted}"));
}
