//! The table of [`super::super`], cell by cell, and random histories.

use super::super::fixtures::{HOLDER, record_in, terms};
use super::*;
use State::{Delivered, Owed, Reserved, Settling, Unknown};

#[path = "machine_history_tests.rs"]
mod history;
#[path = "machine_table_tests.rs"]
mod table;

const LEASES: Leases = Leases { hold_ms: 600, settle_ms: 200 };
const ANOTHER: Holder = Holder([2; 16]);
/// A time at which the leases of the records run.
const RUNS: u64 = 500;
/// A time at which the leases are over.
const OVER: u64 = 1_000;
const RETENTION: u64 = 3_600;
const HELD: Hold = Hold { holder: HOLDER, until_ms: OVER };

fn at(unix_ms: u64) -> Now {
    Now { unix_ms }
}
fn reserved_one() -> Record {
    Record { transaction: None, ..record_in(Reserved { hold: HELD, trust: Trust::Proven }, 0) }
}
fn verified_one() -> Record {
    Record { state: Reserved { hold: HELD, trust: Trust::Vouched }, ..reserved_one() }
}
fn unproven_one() -> Record {
    Record { state: Reserved { hold: HELD, trust: Trust::Claimed }, ..reserved_one() }
}
fn settling(epoch: u32) -> Record {
    Record { transaction: None, ..record_in(Settling { hold: HELD, waits: true }, epoch) }
}
fn settling_alone(epoch: u32) -> Record {
    Record { transaction: None, ..record_in(Settling { hold: HELD, waits: false }, epoch) }
}
fn unknown_one() -> Record {
    Record { transaction: None, ..record_in(Unknown, 1) }
}
fn charged(state: State) -> Record {
    Record { call: Arc::default(), ..record_in(state, 1) }
}
fn owed() -> Record {
    charged(Owed { hold: None })
}
fn under_way() -> Record {
    charged(Owed { hold: Some(HELD) })
}
fn redeemed() -> Record {
    Record { redeemed: true, ..under_way() }
}
fn delivered() -> Record {
    charged(Delivered)
}
/// One for each column of the table.
fn columns() -> [Option<Record>; 7] {
    [
        None,
        Some(reserved_one()),
        Some(settling(1)),
        Some(unknown_one()),
        Some(owed()),
        Some(under_way()),
        Some(delivered()),
    ]
}
fn claim() -> Claim {
    Claim {
        fingerprint: Fingerprint([0xf; 32]),
        terms: terms(),
        holder: ANOTHER,
        call: Arc::from(&b"own call"[..]),
        ends: 600,
        proven: true,
        only_known: false,
        can_settle: true,
        twin: None,
    }
}
fn other_terms() -> Terms {
    Terms { offer: "shop/dear".to_owned(), ..terms() }
}
fn hash() -> String {
    "0x1".to_owned()
}
/// The record that a claim makes, with every field.
fn claimed(claim: &Claim, now_ms: u64) -> Record {
    Record {
        fingerprint: Some(claim.fingerprint),
        terms: claim.terms.clone(),
        call: Arc::clone(&claim.call),
        ends: claim.ends,
        epoch: 0,
        redeemed: false,
        before: None,
        transaction: None,
        since_ms: now_ms,
        state: Reserved { hold: Hold { holder: claim.holder, until_ms: now_ms + 600 }, trust: Trust::Proven },
    }
}

/// A stranger who knows a nonce can send bytes as a signature that only a chain could check.
#[test]
fn an_unproven_reservation_gives_way_to_a_proven_payment_and_never_replaces_one() {
    let junk = Claim { fingerprint: Fingerprint([0xe; 32]), proven: false, holder: HOLDER, ..claim() };
    let first = step(None, Event::Claim(junk.clone()), &LEASES, at(RUNS));
    assert_eq!(first.answer, Answer::Reserved);
    let own = step(first.record, Event::Claim(claim()), &LEASES, at(RUNS));
    assert_eq!((own.answer, own.record.clone()), (Answer::Reserved, Some(claimed(&claim(), RUNS))));
    // Its holder does not hold the payment any more.
    for event in [Event::Verified(HOLDER), Event::Over(HOLDER, End::Unsent), Event::Claim(junk.clone())] {
        let late = step(own.record.clone(), event, &LEASES, at(RUNS));
        assert!(matches!(late.answer, Answer::NotHeld | Answer::OtherPayment), "{late:?}");
        assert!(!late.changed);
    }
    // Of two unproven payments the first keeps the reservation, and so does a verified payment.
    let first = step(None, Event::Claim(junk), &LEASES, at(RUNS));
    let other = Claim { fingerprint: Fingerprint([0xd; 32]), proven: false, ..claim() };
    assert_eq!(
        step(first.record.clone(), Event::Claim(other), &LEASES, at(RUNS)).answer,
        Answer::OtherPayment
    );
    let vouched = step(first.record, Event::Verified(HOLDER), &LEASES, at(RUNS));
    assert_eq!(step(vouched.record, Event::Claim(claim()), &LEASES, at(RUNS)).answer, Answer::OtherPayment);
}

#[test]
fn a_record_without_a_fingerprint_matches_no_claim_and_is_still_asked_about() {
    for record in columns().into_iter().flatten() {
        let record = Record { fingerprint: None, ..record };
        let stepped = step(Some(record.clone()), Event::Claim(claim()), &LEASES, at(RUNS));
        assert!(matches!(stepped.answer, Answer::OtherPayment | Answer::Used), "{stepped:?}");
        assert_eq!((stepped.record, stepped.changed), (Some(record), false));
    }
    let record = Record { fingerprint: None, ..unknown_one() };
    let stepped = step(Some(record), Event::Ask(ANOTHER), &LEASES, at(10_000));
    assert_eq!(stepped.record.as_ref().and_then(Claim::behind), None);
    assert!(matches!(stepped.answer, Answer::Call { epoch: 2, .. }));
}

#[test]
fn the_pauses_of_the_reconciliation_double_up_to_five_minutes_and_end_after_32_calls() {
    let due_after = |epoch| due(&Record { epoch, since_ms: 0, ..unknown_one() });
    let pauses: Vec<_> = [1, 2, 3, 8, 9, 31].into_iter().map(due_after).collect();
    assert_eq!(pauses, [2_000, 4_000, 8_000, 256_000, 300_000, 300_000].map(Some));
    assert_eq!(due_after(32), None);
    assert_eq!(due(&settling(32)), Some(OVER));
    for silent in [reserved_one(), verified_one(), owed(), under_way(), delivered()] {
        assert_eq!(due(&silent), None);
    }
}

#[test]
fn a_reconciliation_without_answers_stops_and_the_payment_goes_after_the_retention() {
    let (mut record, mut calls) = (Some(unknown_one()), 1);
    while let Some(when) = record.as_ref().and_then(due) {
        let asked = step(record, Event::Ask(ANOTHER), &LEASES, at(when));
        let Answer::Call { epoch, .. } = asked.answer else { panic!("{:?}", asked.answer) };
        calls += 1;
        assert_eq!(epoch, calls);
        let outcome = Outcome::Unknown { transaction: None, reason: String::new() };
        let ended = Event::Ended { epoch, holder: ANOTHER, outcome, claim: None };
        record = step(asked.record, ended, &LEASES, at(when + 100)).record;
    }
    assert_eq!(calls, 32);
    let since = record.as_ref().unwrap().since_ms;
    assert!((5_400_000..10_800_000).contains(&since), "about two hours: {since}");
    let sweep = |record, ms| step(record, Event::Sweep { retention: RETENTION }, &LEASES, at(ms));
    assert!(!sweep(record.clone(), since + RETENTION * 1000).changed);
    let gone = sweep(record, since + RETENTION * 1000 + 1);
    assert_eq!((gone.record, gone.effects), (None, vec![Effect::Closed, Effect::NeverKnown]));
}

#[test]
fn a_commit_written_twice_is_written_once() {
    let twice = |given: Option<Record>, event: Event| {
        let first = step(given, event.clone(), &LEASES, at(RUNS));
        let second = step(first.record.clone(), event, &LEASES, at(RUNS));
        assert_eq!(second.record, first.record);
        (first.answer, second.answer, second.effects)
    };
    let settled = |epoch| Event::Ended {
        epoch,
        holder: HOLDER,
        outcome: Outcome::Settled { transaction: hash() },
        claim: Some(Box::new(Claim { holder: HOLDER, ..claim() })),
    };
    let (first, second, effects) = twice(Some(settling(1)), settled(1));
    assert_eq!((first.clone(), effects), (second, vec![]));
    assert_eq!(first, Answer::Settled { transaction: hash() });
    let (first, second, effects) = twice(None, Event::Claim(claim()));
    assert_eq!((first, second, effects), (Answer::Reserved, Answer::Reserved, vec![]));
    let (first, second, effects) = twice(Some(owed()), Event::Claim(claim()));
    assert_eq!((first.clone(), effects), (second, vec![]));
    assert_eq!(first, Answer::Redeem { transaction: hash() });
    let (_, second, _) = twice(Some(verified_one()), Event::Begin(HOLDER));
    assert_eq!(second, Answer::Begun);
}

#[test]
fn a_refusal_written_twice_does_not_end_the_next_life_of_the_nonce() {
    let refused = Event::Ended {
        epoch: 1,
        holder: HOLDER,
        outcome: Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None },
        claim: None,
    };
    assert_eq!(step(Some(settling(1)), refused.clone(), &LEASES, at(RUNS)).record, None);
    let hold = Hold { holder: ANOTHER, until_ms: OVER };
    let next = Record { state: Settling { hold, waits: true }, ..settling(1) };
    let again = step(Some(next.clone()), refused, &LEASES, at(RUNS));
    assert_eq!((again.record, again.answer), (Some(next), Answer::Open { transaction: None }));
}
