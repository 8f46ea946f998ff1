//! What is on disk when it is told, and what need not be.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use farebox_core::payment::{Answer, End, Event};
use sqlx::Executor;
use sqlx::pool::PoolConnection;

use super::*;
use crate::testing::{Database, on_every_database};

on_every_database! {
    what_moves_money_is_told_once_it_is_on_disk_and_a_reservation_before,
    what_rests_on_a_commit_that_is_not_on_disk_is_not_told_either,
}

/// Nothing gets to the disk.
enum Stalled {
    /// The file SQLite writes to first has another name.
    File { was: PathBuf, is: PathBuf },
    /// Another connection has the row whose commit waits for the disk.
    Server(Box<PoolConnection<sqlx::Any>>),
}

impl Stalled {
    async fn of(book: &Book) -> Self {
        if let Some(file) = crate::ledger::place::file_of(&book.url()) {
            let named = |end: &str| PathBuf::from([file.to_str().unwrap(), end].concat());
            let (was, is) = (named("-wal"), named("-away"));
            std::fs::rename(&was, &is).unwrap();
            return Self::File { was, is };
        }
        let mut connection = book.connection().await.unwrap();
        connection.execute("BEGIN").await.unwrap();
        let row = "SELECT value FROM counters WHERE series = 'flushes' FOR UPDATE";
        assert_eq!(connection.fetch_all(row).await.unwrap().len(), 1);
        Self::Server(Box::new(connection))
    }

    async fn end(self) {
        match self {
            Self::File { was, is } => std::fs::rename(is, was).unwrap(),
            Self::Server(mut connection) => drop(connection.execute("ROLLBACK").await.unwrap()),
        }
    }
}

async fn what_moves_money_is_told_once_it_is_on_disk_and_a_reservation_before(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    let stalled = Stalled::of(&book).await;
    let started = Instant::now();
    assert_eq!(book.does(2, Event::Claim(claim(2))).await, Answer::Reserved);
    assert_eq!(book.does(2, Event::Verified(HOLDER)).await, Answer::Noted);
    assert_eq!(book.does(3, Event::Claim(claim(3))).await, Answer::Reserved);
    assert_eq!(book.does(3, Event::Over(HOLDER, End::Unsent)).await, Answer::Noted);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());

    let begun = book.step(&key(2), Event::Begin(HOLDER), None, None).await;
    assert!(begun.is_err(), "its call could be made before it is on disk: {begun:?}");
    assert!(book.check().await.is_err(), "sales stop");
    stalled.end().await;
    assert!(book.check().await.is_ok());
    // It was committed, so whoever asks again hears so.
    assert_eq!(book.does(2, Event::Begin(HOLDER)).await, Answer::Begun);
    assert!(matches!(book.ends(2, 1, settled()).await, Answer::Settled { .. }));
}

async fn what_rests_on_a_commit_that_is_not_on_disk_is_not_told_either(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    let stalled = Stalled::of(&book).await;
    let ended = Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: None };
    assert!(book.step(&key(1), ended, None, None).await.is_err());
    stalled.end().await;
    // Seen by now, and told with a flush of its own.
    assert!(matches!(book.does(1, Event::Begin(HOLDER)).await, Answer::Settled { .. }));
    assert!(book.check().await.is_ok());
}
