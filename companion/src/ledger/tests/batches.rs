//! Many at once: batches, and several companions.

use std::collections::BTreeMap;

use farebox_core::payment::{Answer, Event, Holder};
use futures_util::future::join_all;

use super::book::counted;
use super::*;
use crate::testing::{Database, on_every_database};

on_every_database! {
    steps_of_one_key_keep_their_order_however_they_are_batched,
    of_a_hundred_requests_at_several_companions_one_gets_the_payment_and_settles_it_once,
    an_open_payment_is_asked_about_once_by_whichever_companion,
    what_any_companion_settles_is_in_the_counters_of_all,
    a_question_is_closed_whoever_finds_the_answer,
    notes_are_taken_in_order_with_steps,
}

async fn steps_of_one_key_keep_their_order_however_they_are_batched(database: Database) {
    let book = Book::open(database).await;
    let life = |nonce: u8| {
        [
            Event::Claim(claim(nonce)),
            Event::Verified(HOLDER),
            Event::Begin(HOLDER),
            Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: None },
            Event::Over(HOLDER, farebox_core::payment::End::Whole),
        ]
    };
    // All of it waits at once: of each key the next step before the one before is answered.
    let steps: Vec<_> =
        (0..5).flat_map(|at| (1..=100).map(move |nonce| (nonce, life(nonce)[at].clone()))).collect();
    let answers = join_all(steps.into_iter().map(|(nonce, event)| {
        let book = &book;
        async move { (nonce, book.does(nonce, event).await) }
    }));
    let mut by_key: BTreeMap<u8, Vec<Answer>> = BTreeMap::new();
    for (nonce, answer) in answers.await {
        by_key.entry(nonce).or_default().push(answer);
    }
    for (nonce, answers) in by_key {
        let [
            Answer::Reserved,
            Answer::Noted,
            Answer::Call { epoch: 1, .. },
            Answer::Settled { .. },
            Answer::Noted,
        ] = &answers[..]
        else {
            panic!("{nonce}: {answers:?}")
        };
        assert_eq!(book.state(nonce).await.as_deref(), Some("delivered"));
    }
    assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 100));
}

async fn of_a_hundred_requests_at_several_companions_one_gets_the_payment_and_settles_it_once(
    database: Database,
) {
    let book = Book::open(database).await;
    let others = [book.companion_named("c2").await, book.companion_named("c3").await];
    let books = [&book.ledger, &others[0], &others[1]];
    let holders: Vec<Holder> = (0..100).map(|number| Holder([number; 16])).collect();
    for nonce in 1..=5 {
        let all = async |event: &dyn Fn(Holder) -> Event| {
            let steps = holders.iter().enumerate().map(|(index, holder)| {
                let (ledger, event) = (books[index % books.len()], event(*holder));
                async move { ledger.step(&key(nonce), event, Some(&sale()), None).await.unwrap().answer }
            });
            join_all(steps).await
        };
        let claimed = all(&|holder| Event::Claim(claim_by(holder, nonce))).await;
        let winners: Vec<_> = (0..100).filter(|index| claimed[*index] == Answer::Reserved).collect();
        assert_eq!(
            (winners.len(), claimed.iter().filter(|answer| **answer == Answer::InFlight).count()),
            (1, 99)
        );
        // All of them go on as if they had been the one, which a proxy with a fault might.
        all(&Event::Verified).await;
        let begun = all(&Event::Begin).await;
        let calls: Vec<_> =
            (0..100).filter(|index| matches!(begun[*index], Answer::Call { epoch: 1, .. })).collect();
        assert_eq!(calls, winners, "only the one that reserved it settles it");
        all(&|_| Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: None }).await;
    }
    for ledger in books {
        assert_eq!(
            counted(ledger).await[0],
            ("Charged 1000".to_owned(), 5),
            "by whichever companion, but once each"
        );
    }
    assert_eq!(book.totals(&Default::default()).await.unwrap()[0].payments, 5);
}

async fn an_open_payment_is_asked_about_once_by_whichever_companion(database: Database) {
    let book = Book::open(database).await;
    for nonce in 1..=40 {
        book.begins(nonce).await;
        book.ends(nonce, 1, unknown()).await;
    }
    assert_eq!(book.due(100).await.unwrap(), []);
    book.passes(10_000);
    let others = [book.companion_named("c2").await, book.companion_named("c3").await];
    let books = [&book.ledger, &others[0], &others[1]];
    let rounds = join_all(books.iter().map(|ledger| async {
        let due = ledger.due(100).await.unwrap();
        assert!(due.len() <= 40);
        let asked = due.iter().map(|key| ledger.step(key, Event::Ask(OTHER), None, None));
        join_all(asked)
            .await
            .into_iter()
            .filter(|step| matches!(step.as_ref().unwrap().answer, Answer::Call { epoch: 2, .. }))
            .count()
    }));
    assert_eq!(rounds.await.into_iter().sum::<usize>(), 40, "each once");
    assert_eq!(book.due(100).await.unwrap(), [], "until the lease is over");
    book.passes(3 * MINUTE);
    assert_eq!(book.due(7).await.unwrap().len(), 7);
}

async fn what_any_companion_settles_is_in_the_counters_of_all(database: Database) {
    let book = Book::open(database).await;
    let other = book.companion_named("c2").await;
    book.sells(1).await;
    for nonce in 2..=3 {
        book.begins(nonce).await;
        let ended = Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: None };
        other.step(&key(nonce), ended, None, None).await.unwrap();
    }
    assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 3));
    assert_eq!(counted(&other).await, book.counted().await);
    let book = book.reopen().await;
    assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 3));
}

async fn a_question_is_closed_whoever_finds_the_answer(database: Database) {
    let book = Book::open(database).await;
    let other = book.companion_named("c2").await;
    for nonce in 1..=3 {
        book.begins(nonce).await;
        book.ends(nonce, 1, unknown()).await;
        let again = other.step(&key(nonce), Event::Claim(claim_by(OTHER, nonce)), Some(&sale()), None).await;
        assert!(matches!(again.unwrap().answer, Answer::Call { epoch: 2, .. }));
        let ended = Event::Ended { epoch: 2, holder: OTHER, outcome: settled(), claim: None };
        other.step(&key(nonce), ended, None, None).await.unwrap();
    }
    let questions = [("UnresolvedClosed".to_owned(), 3), ("UnresolvedOpened".to_owned(), 3)];
    assert_eq!(book.counted().await[2..], questions);
}

async fn notes_are_taken_in_order_with_steps(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    book.ends(1, 1, settled()).await;
    book.note(&key(1), Event::Over(HOLDER, farebox_core::payment::End::Broken), None);
    assert!(matches!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, Answer::Redeem { .. }));
    book.note(&key(1), Event::Over(OTHER, farebox_core::payment::End::Whole), None);
    let book = book.reopen().await;
    assert_eq!(book.state(1).await.as_deref(), Some("delivered"));
}
