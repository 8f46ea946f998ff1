//! A companion that dies at any step of a settlement.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use farebox_core::payment::{Answer, End, Event, State};

use super::book::counted;
use super::*;
use crate::ledger::{Clock, Ledger, LedgerOptions};
use crate::testing::{Database, on_every_database};

on_every_database! {
    wherever_a_companion_dies_in_a_settlement_the_books_are_right_and_the_payment_ends,
    what_was_being_settled_when_a_companion_died_is_asked_about_when_its_lease_is_over,
}

fn life() -> [Event; 5] {
    [
        Event::Claim(claim(1)),
        Event::Verified(HOLDER),
        Event::Begin(HOLDER),
        Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: Some(Box::new(claim(1))) },
        Event::Over(HOLDER, End::Whole),
    ]
}

/// Takes so many steps, asks for one more, and dies after a while.
fn dies_after(url: &str, steps: usize, millis: u64) {
    let url = url.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::Set(Arc::new(AtomicU64::new(NOW)));
            let options = LedgerOptions { clock, ..LedgerOptions::default() };
            let ledger = Ledger::open(&url, "c1", options).await.unwrap();
            for event in life().into_iter().take(steps) {
                ledger.step(&key(1), event, Some(&sale()), Some("https://f1")).await.unwrap();
            }
            let last = life()[steps].clone();
            let (key, sale) = (key(1), sale());
            let step = ledger.step(&key, last, Some(&sale), None);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(millis), step).await;
        });
        // With everything that is under way.
        runtime.shutdown_background();
    })
    .join()
    .unwrap();
    // A statement that was handed over is carried out.
    std::thread::sleep(std::time::Duration::from_millis(50));
}

async fn wherever_a_companion_dies_in_a_settlement_the_books_are_right_and_the_payment_ends(
    database: Database,
) {
    let book = Book::open(database).await;
    for (steps, before, after) in [
        (0, None, Some("reserved")),
        (1, Some("reserved"), Some("verified")),
        (2, Some("verified"), Some("settling")),
        (3, Some("settling"), Some("owed")),
        (4, Some("owed"), Some("delivered")),
    ] {
        for millis in [0, 1, 3] {
            dies_after(&book.database.url, steps, millis);
            let state = book.state(1).await;
            assert!([before, after].contains(&state.as_deref()), "{state:?} after {steps} steps");
            // Another companion goes on where this one ended.
            book.passes(HOUR);
            match book.record(&key(1)).await.unwrap().map(|record| record.state) {
                Some(State::Settling { .. }) => {
                    let asked = book.does(1, Event::Ask(OTHER)).await;
                    assert!(matches!(asked, Answer::Call { epoch: 2, .. }), "{asked:?}");
                    book.ends(1, 2, settled()).await;
                }
                Some(State::Owed { .. }) => {
                    let fetched = book.does(1, Event::Claim(claim_by(OTHER, 1))).await;
                    assert!(matches!(fetched, Answer::Redeem { .. }), "{fetched:?}");
                }
                Some(State::Reserved { .. }) => {
                    assert_eq!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, Answer::Reserved);
                }
                Some(State::Delivered) => {
                    assert_eq!(book.does(1, Event::Claim(claim_by(OTHER, 1))).await, Answer::Used);
                }
                Some(State::Unknown) | None => {}
            }
            let charged =
                u64::from(book.record(&key(1)).await.unwrap().is_some_and(|record| record.is_charged()));
            let counted = counted(&book.ledger).await;
            let of = |name: &str| counted.iter().find(|(series, _)| series == name).map_or(0, |(_, n)| *n);
            assert_eq!(of("Charged 1000"), charged, "{counted:?}");
            assert_eq!(of("UnresolvedOpened"), of("UnresolvedClosed"), "{counted:?}");
            let mut connection = book.connection().await.unwrap();
            for sql in ["DELETE FROM payments", "DELETE FROM counters"] {
                sqlx::query(sql).execute(&mut *connection).await.unwrap();
            }
        }
    }
}

async fn what_was_being_settled_when_a_companion_died_is_asked_about_when_its_lease_is_over(
    database: Database,
) {
    let book = Book::open(database).await;
    book.begins(1).await;
    let book = book.reopen().await;
    assert_eq!(book.due(10).await.unwrap(), [], "the call may still be out");
    book.passes(2 * MINUTE);
    assert_eq!(book.due(10).await.unwrap(), [key(1)]);
    let Answer::Call { epoch: 2, call, .. } = book.does(1, Event::Ask(OTHER)).await else {
        panic!("no call")
    };
    assert_eq!(call, claim(1).call, "the call that was written down");
    book.ends(1, 2, settled()).await;
    assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 1));
}
