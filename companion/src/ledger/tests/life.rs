//! A payment's life, step by step, on disk.

use farebox_core::metrics::{LateResult, TupleCounter};
use farebox_core::payment::{Answer, Claim, End, Event, Fingerprint, Outcome};

use super::*;
use crate::testing::{Database, on_every_database};

on_every_database! {
    a_payment_is_sold_once_and_the_books_tell_its_whole_life,
    two_authorizations_of_one_nonce_never_touch_each_other_in_any_state,
    what_is_refused_is_free_again_and_stays_in_the_books_without_its_call,
    the_facilitator_on_record_is_never_replaced,
    what_was_settled_while_no_request_waited_is_owed_and_fetched_once,
    an_outcome_that_contradicts_the_books_is_never_lost,
    a_purchase_named_by_its_buyer_is_paid_once,
    texts_that_no_database_takes_are_kept_as_far_as_they_can_be,
}

fn count(name: &str, value: u64) -> (String, u64) {
    (name.to_owned(), value)
}

async fn a_payment_is_sold_once_and_the_books_tell_its_whole_life(database: Database) {
    let book = Book::open(database).await;
    book.sells(1).await;
    let entry = book.entry(1).await.unwrap();
    assert_eq!((entry.state.as_str(), entry.transaction.as_deref()), ("delivered", Some("0xtx")));
    assert_eq!((entry.source.as_str(), entry.generation, entry.reserved_at), ("e1", 9, NOW));
    assert_eq!([entry.verified_at, entry.settling_at, entry.ended_at], [Some(NOW); 3]);
    assert_eq!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, Answer::Used);
    assert_eq!(book.counted().await, [count("Charged 1000", 1), count("LastSuccess", NOW / 1000)]);
    let book = book.reopen().await;
    assert_eq!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, Answer::Used);
    assert_eq!(book.counted().await, [count("Charged 1000", 1), count("LastSuccess", NOW / 1000)]);
}

/// The other authorization has the key of the first and another fingerprint.
async fn two_authorizations_of_one_nonce_never_touch_each_other_in_any_state(database: Database) {
    let book = Book::open(database).await;
    let forged = Claim { fingerprint: Fingerprint([0xff; 32]), ..claim_by(OTHER, 1) };
    let comes = async |nonce: u8| {
        let before = book.entry(nonce).await;
        let answer = book.does(nonce, Event::Claim(forged.clone())).await;
        assert_eq!(book.entry(nonce).await, before, "nothing touched");
        for event in [Event::Verified(OTHER), Event::Begin(OTHER), Event::Over(OTHER, End::Unsent)] {
            book.does(nonce, event).await;
            assert_eq!(book.entry(nonce).await, before, "nothing touched");
        }
        answer
    };
    book.does(1, Event::Claim(claim(1))).await;
    assert_eq!(comes(1).await, Answer::OtherPayment);
    book.does(1, Event::Verified(HOLDER)).await;
    assert_eq!(comes(1).await, Answer::OtherPayment);
    book.does(1, Event::Begin(HOLDER)).await;
    assert_eq!(comes(1).await, Answer::OtherPayment);
    book.ends(1, 1, unknown()).await;
    assert_eq!(comes(1).await, Answer::OtherPayment);
    book.ends(1, 1, settled()).await;
    assert_eq!(comes(1).await, Answer::Used, "owed");
    book.does(1, Event::Claim(claim(1))).await;
    assert_eq!(comes(1).await, Answer::Used, "its answer is under way");
    book.does(1, Event::Over(HOLDER, End::Whole)).await;
    assert_eq!(comes(1).await, Answer::Used);
    assert_eq!(book.totals(&Default::default()).await.unwrap()[0].payments, 1);
}

async fn what_is_refused_is_free_again_and_stays_in_the_books_without_its_call(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    let refused = Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None };
    let ended =
        book.steps(1, Event::Ended { epoch: 1, holder: HOLDER, outcome: refused.clone(), claim: None }).await;
    assert_eq!((ended.answer, ended.freed), (Answer::Noted, true));
    let entry = book.entry(1).await.unwrap();
    assert_eq!((entry.state.as_str(), entry.reason.as_deref()), ("refused", Some("insufficient_funds")));
    assert_eq!(calls(&book).await, 0);
    let only_known = Claim { only_known: true, ..claim(1) };
    assert_eq!(book.does(1, Event::Claim(only_known)).await, Answer::New, "no record");
    // An outcome that is written down twice takes nothing from the next use.
    assert_eq!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, Answer::Reserved);
    assert_eq!(book.ends(1, 1, refused).await, Answer::InFlight);
    assert_eq!((book.state(1).await.as_deref(), calls(&book).await), (Some("reserved"), 1));
    assert_eq!(book.counted().await, []);
}

async fn calls(book: &Book) -> i64 {
    let mut connection = book.connection().await.unwrap();
    let sql = "SELECT COUNT(*) FROM payments WHERE call_body IS NOT NULL";
    sqlx::query_scalar(sql).fetch_one(&mut *connection).await.unwrap()
}

async fn the_facilitator_on_record_is_never_replaced(database: Database) {
    let book = Book::open(database).await;
    let at = async |event: Event, facilitator: &str| {
        book.step(&key(1), event, Some(&sale()), Some(facilitator)).await.unwrap().facilitator
    };
    book.step(&key(1), Event::Claim(claim(1)), Some(&sale()), None).await.unwrap();
    assert_eq!(at(Event::Verified(OTHER), "https://z").await, None, "it is not its holder that says so");
    assert_eq!(at(Event::Verified(HOLDER), "https://b").await.as_deref(), Some("https://b"));
    assert_eq!(at(Event::Begin(HOLDER), "https://a").await.as_deref(), Some("https://b"));
    book.ends(1, 1, unknown()).await;
    book.passes(HOUR);
    assert_eq!(at(Event::Ask(OTHER), "https://a").await.as_deref(), Some("https://b"));
    assert_eq!(book.entry(1).await.unwrap().facilitator.as_deref(), Some("https://b"));
}

async fn what_was_settled_while_no_request_waited_is_owed_and_fetched_once(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    book.does(1, Event::Over(HOLDER, End::Unsent)).await;
    book.ends(1, 1, settled()).await;
    assert_eq!(book.state(1).await.as_deref(), Some("owed"));
    let fetched = Answer::Redeem { transaction: "0xtx".to_owned() };
    assert_eq!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, fetched);
    assert_eq!(book.does(1, Event::Claim(claim(1))).await, Answer::InFlight);
    book.does(1, Event::Over(OTHER, End::Broken)).await;
    let book = book.reopen().await;
    assert_eq!(book.does(1, Event::Claim(claim(1))).await, Answer::Used);
    let late = format!("{:?}", TupleCounter::ResolvedLate(LateResult::Settled));
    let expected = [count("Charged 1000", 1), count("LastSuccess", NOW / 1000), count(&late, 1)];
    assert_eq!(book.counted().await, expected);
}

async fn an_outcome_that_contradicts_the_books_is_never_lost(database: Database) {
    let book = Book::open(database).await;
    // There is no record: the claim behind the call makes one.
    let claim = Some(Box::new(claim(1)));
    book.does(1, Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim }).await;
    assert_eq!(book.state(1).await.as_deref(), Some("owed"));
    assert_eq!(book.counted().await[0], count("Charged 1000", 1));
    // It is unknown by a later call, and proven settled by an earlier one.
    book.begins(2).await;
    book.passes(HOUR);
    book.does(2, Event::Ask(OTHER)).await;
    book.ends(2, 2, unknown()).await;
    let open = Answer::Open { transaction: None };
    assert_eq!(book.ends(2, 1, unknown()).await, open, "an earlier call's outcome");
    book.ends(2, 1, settled()).await;
    assert_eq!(book.state(2).await.as_deref(), Some("owed"));
    // Nothing unsettles it.
    book.ends(2, 2, Outcome::Refused { reason: "x".to_owned(), detail: None }).await;
    assert_eq!(book.state(2).await.as_deref(), Some("owed"));
    let counted = book.counted().await;
    let of = |name: &str| counted.iter().find(|(series, _)| series == name).map(|(_, value)| *value);
    assert_eq!(
        (of("Charged 1000"), of("UnresolvedOpened"), of("UnresolvedClosed")),
        (Some(2), Some(1), Some(1))
    );
}

async fn a_purchase_named_by_its_buyer_is_paid_once(database: Database) {
    let book = Book::open(database).await;
    let named = |identifier: &str| crate::ledger::Sale { identifier: Some(identifier.into()), ..sale() };
    let claims = async |nonce: u8, identifier: &str| {
        let stepped =
            book.step(&key(nonce), Event::Claim(claim(nonce)), Some(&named(identifier)), None).await;
        stepped.unwrap().answer
    };
    let long = "x".repeat(5_000);
    assert_eq!(claims(1, "order-1").await, Answer::Reserved);
    assert_eq!(claims(2, "order-1").await, Answer::Twin { transaction: None });
    assert_eq!(claims(3, "order-2").await, Answer::Reserved);
    assert_eq!(claims(4, &long).await, Answer::Reserved);
    assert_eq!(claims(5, &long).await, Answer::Twin { transaction: None });
    book.does(1, Event::Verified(HOLDER)).await;
    book.does(1, Event::Begin(HOLDER)).await;
    book.ends(1, 1, settled()).await;
    assert_eq!(claims(2, "order-1").await, Answer::Twin { transaction: Some("0xtx".to_owned()) });
    // What came to nothing is no twin.
    book.does(3, Event::Over(HOLDER, End::Unsent)).await;
    assert_eq!(claims(6, "order-2").await, Answer::Reserved);
    // A lapsed reservation may still be paid by its own request, until it is swept.
    book.passes(HOUR);
    assert_eq!(claims(5, &long).await, Answer::Twin { transaction: None });
    book.sweep().await.unwrap();
    assert_eq!(claims(5, &long).await, Answer::Reserved);
    // Both at once, in one batch.
    let both = tokio::join!(claims(7, "order-3"), claims(8, "order-3"));
    assert_eq!(both, (Answer::Reserved, Answer::Twin { transaction: None }));
}

async fn texts_that_no_database_takes_are_kept_as_far_as_they_can_be(database: Database) {
    let book = Book::open(database).await;
    let odd = Claim { call: vec![0, 0xff, b'{'].into(), ..claim(1) };
    let sale = crate::ledger::Sale { proxy: "e\0".into(), identifier: Some("a\0b".into()), ..sale() };
    book.step(&key(1), Event::Claim(odd.clone()), Some(&sale), Some("https://f\0")).await.unwrap();
    book.does(1, Event::Verified(HOLDER)).await;
    let Answer::Call { call, .. } = book.does(1, Event::Begin(HOLDER)).await else { panic!("no call") };
    assert_eq!(call, odd.call);
    let outcome = Outcome::Unknown { transaction: Some("0x\0".into()), reason: "\0".into() };
    assert!(matches!(book.ends(1, 1, outcome).await, Answer::Open { .. }));
}
