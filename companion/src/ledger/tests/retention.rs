//! What is over goes, and nothing else.

use std::time::SystemTime;

use farebox_core::payment::{Answer, Claim, Event, Outcome};
use futures_util::future::join_all;

use super::*;
use crate::testing::{Database, on_every_database};

const DAY: u64 = 24 * HOUR;

on_every_database! {
    every_state_goes_in_its_time,
    what_is_refused_goes_after_a_day_however_long_its_window,
    a_day_of_refused_attempts_leaves_a_ledger_as_small_as_an_hour_of_them,
}

async fn every_state_goes_in_its_time(database: Database) {
    let book = Book::open(database).await;
    book.does(1, Event::Claim(claim(1))).await;
    book.does(2, Event::Claim(Claim { ends: (NOW + HOUR) / 1000, ..claim(2) })).await;
    book.does(2, Event::Verified(HOLDER)).await;
    book.begins(3).await;
    book.begins(4).await;
    book.ends(4, 1, unknown()).await;
    book.begins(5).await;
    book.does(5, Event::Over(HOLDER, farebox_core::payment::End::Unsent)).await;
    book.ends(5, 1, settled()).await;
    book.sells(6).await;
    book.begins(7).await;
    book.ends(7, 1, Outcome::NotSent).await;
    let left = async |after: u64, states: [Option<&str>; 7]| {
        book.clock.store(NOW + after, std::sync::atomic::Ordering::Relaxed);
        let gone = book.sweep().await.unwrap();
        let mut found = Vec::new();
        for nonce in 1..=7 {
            found.push(book.state(nonce).await);
        }
        assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), states, "after {after} ms");
        gone
    };
    let [reserved, verified, settling, unknown, owed, delivered, refused] =
        ["reserved", "verified", "settling", "unknown", "owed", "delivered", "refused"].map(Some);
    let rest = [settling, unknown, owed, delivered];
    let with = |first: [Option<&'static str>; 2], last: Option<&'static str>| {
        [first[0], first[1], rest[0], rest[1], rest[2], rest[3], last]
    };
    assert_eq!(left(0, with([reserved, verified], refused)).await, 0);
    assert_eq!(left(6 * MINUTE, with([reserved, verified], None)).await, 1, "its window has closed");
    assert_eq!(left(11 * MINUTE, with([None, verified], None)).await, 1, "its lease is over");
    assert_eq!(left(HOUR + MINUTE, with([None, None], None)).await, 1);
    assert_eq!(left(89 * DAY, with([None, None], None)).await, 0);
    assert_eq!(left(91 * DAY, [None, None, settling, None, None, None, None]).await, 3);
    let counted = book.counted().await;
    assert!(counted.contains(&("ResolvedLate(Expired)".to_owned(), 1)), "{counted:?}");
    assert!(counted.contains(&("UnresolvedClosed".to_owned(), 1)), "{counted:?}");
    assert_eq!(book.due(10).await.unwrap(), [key(3)], "the reconciliation ends it first");
}

async fn what_is_refused_goes_after_a_day_however_long_its_window(database: Database) {
    let book = Book::open(database).await;
    let for_ever = Claim { ends: u64::MAX, ..claim(1) };
    assert_eq!(book.does(1, Event::Claim(for_ever)).await, Answer::Reserved);
    assert_eq!(book.does(1, Event::Verified(HOLDER)).await, Answer::Noted);
    assert!(matches!(book.does(1, Event::Begin(HOLDER)).await, Answer::Call { .. }));
    book.ends(1, 1, Outcome::NotSent).await;
    for (hours, gone) in [(23, 0), (2, 1)] {
        book.passes(hours * HOUR);
        assert_eq!(book.sweep().await.unwrap(), gone, "{hours}");
    }
}

async fn a_day_of_refused_attempts_leaves_a_ledger_as_small_as_an_hour_of_them(database: Database) {
    let book = Book::open(database).await;
    let is_file = book.database.url.starts_with("sqlite:");
    let pages = async || -> i64 {
        let mut connection = book.connection().await.unwrap();
        let sql = if is_file { "PRAGMA page_count" } else { "SELECT COUNT(*) FROM payments" };
        sqlx::query_scalar(sql).fetch_one(&mut *connection).await.unwrap()
    };
    let mut after_an_hour = 0;
    // Every two minutes twelve buyers without money, each with a payment that is new.
    for round in 0_u32..720 {
        book.passes(2 * MINUTE);
        let now = book.clock.load(std::sync::atomic::Ordering::Relaxed) / 1000;
        let attempts = (0..12_u32).map(|buyer| {
            let mut key = key(0);
            let number = (round * 12 + buyer).to_be_bytes();
            key.nonce.0[..4].copy_from_slice(&farebox_core::evm::keccak256(&number)[..4]);
            key.nonce.0[4..8].copy_from_slice(&number);
            let book = &book;
            async move {
                let refused = Outcome::Refused { reason: "insufficient_funds".to_owned(), detail: None };
                let call = vec![b'x'; 30_000].into();
                for event in [
                    Event::Claim(Claim { ends: now + 600, call, ..claim(0) }),
                    Event::Verified(HOLDER),
                    Event::Begin(HOLDER),
                    Event::Ended { epoch: 1, holder: HOLDER, outcome: refused, claim: None },
                ] {
                    let answer = book.step(&key, event, Some(&sale()), None).await.unwrap().answer;
                    assert_ne!(answer, Answer::NotHeld);
                }
            }
        });
        join_all(attempts).await;
        book.sweep().await.unwrap();
        if round == 30 {
            after_an_hour = pages().await;
        }
    }
    let after_a_day = pages().await;
    assert!(after_a_day <= after_an_hour + after_an_hour / 10, "{after_an_hour}, then {after_a_day}");
    assert!(book.list(&Default::default(), 1_000).await.unwrap().len() <= 12 * 6);
}

#[tokio::test]
async fn a_companion_without_buyers_writes_nothing() {
    let book = Book::open(Database::sqlite().await).await;
    book.sells(1).await;
    let file = book.database.url.trim_start_matches("sqlite:").to_owned();
    let written = || {
        let of = |file: &str| {
            let metadata = std::fs::metadata(file).unwrap();
            (metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH))
        };
        [of(&file), of(&format!("{file}-wal"))]
    };
    book.check().await.unwrap();
    let before = written();
    for _ in 0..20 {
        book.passes(1_000);
        book.check().await.unwrap();
        book.due(20).await.unwrap();
        book.sweep().await.unwrap();
        book.counters().await.unwrap();
        // A step that changes nothing needs no commit.
        assert_eq!(book.does(1, Event::Claim(claim(1))).await, Answer::Used);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(written(), before);
}
