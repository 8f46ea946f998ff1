//! Relay and proxies know different payments: only an operator changes which of them settle.

use farebox_core::payment::{End, Event};

use super::*;
use crate::ledger::{AtStake, LedgerError};
use crate::settings::Settlement::{self, Direct, Relay};
use crate::testing::{Database, on_every_database};

const DAY: u64 = 24 * HOUR;

on_every_database! {
    the_first_companion_decides_who_settles_and_no_later_one,
    a_ledger_with_payments_is_the_relays,
    a_change_is_refused_while_a_payment_would_be_forgotten,
    what_is_open_or_owed_is_at_stake_however_old,
    what_proxies_settled_is_never_known_to_be_over,
    what_a_companion_takes_while_an_operator_changes_it_is_not_forgotten,
    what_a_restored_ledger_lacks_is_at_stake,
}

async fn at_stake(book: &Book, to: Settlement) -> AtStake {
    let before = book.settlement().await.unwrap();
    let at_stake = book.change_settlement(to, false).await.unwrap();
    if at_stake != AtStake::default() {
        assert_eq!(book.settlement().await.unwrap(), before);
    }
    at_stake
}

async fn the_first_companion_decides_who_settles_and_no_later_one(database: Database) {
    let book = Book::open(database).await;
    assert_eq!(book.settlement().await.unwrap(), None);
    let other = book.companion_named("c2").await;
    let (one, two) = tokio::join!(book.is_settled_by(Relay), other.is_settled_by(Direct));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let first = if one.is_ok() { Relay } else { Direct };
    assert_eq!(book.settlement().await.unwrap(), Some(first));
    let second = if one.is_ok() { Direct } else { Relay };
    let error = other.is_settled_by(second).await.unwrap_err();
    assert!(matches!(error, LedgerError::Settlement { .. }), "{error}");
    assert!(error.to_string().contains(&format!("farebox ledger settlement {second}")), "{error}");
    other.is_settled_by(first).await.unwrap();
    other.close().await;
}

async fn a_ledger_with_payments_is_the_relays(database: Database) {
    let book = Book::open(database).await;
    book.sells(1).await;
    book.is_settled_by(Direct).await.unwrap_err();
    book.is_settled_by(Relay).await.unwrap();
}

async fn a_change_is_refused_while_a_payment_would_be_forgotten(database: Database) {
    let book = Book::open(database).await;
    book.is_settled_by(Relay).await.unwrap();
    book.sells(1).await;
    // What was freed can be taken by whoever settles.
    book.does(2, Event::Claim(claim(2))).await;
    book.does(2, Event::Over(HOLDER, End::Unsent)).await;
    let until = Some(NOW / 1000 + 300);
    assert_eq!(at_stake(&book, Direct).await, AtStake { until, ..AtStake::default() });
    // Its authorization is over, but not for a proxy whose clock may be slow.
    book.passes(HOUR + 300_000);
    assert_eq!(at_stake(&book, Direct).await, AtStake { until, ..AtStake::default() });
    book.passes(1_000);
    assert_eq!(at_stake(&book, Direct).await, AtStake::default());
    book.is_settled_by(Direct).await.unwrap();
}

async fn what_is_open_or_owed_is_at_stake_however_old(database: Database) {
    let book = Book::open(database).await;
    book.is_settled_by(Relay).await.unwrap();
    book.begins(1).await;
    book.ends(1, 1, unknown()).await;
    book.begins(2).await;
    book.does(2, Event::Over(HOLDER, End::Unsent)).await;
    book.ends(2, 1, settled()).await;
    book.passes(DAY);
    assert_eq!(at_stake(&book, Direct).await, AtStake { open: 1, owed: 1, ..AtStake::default() });
    assert_eq!(book.change_settlement(Direct, true).await.unwrap(), AtStake::default());
    book.is_settled_by(Direct).await.unwrap();
}

async fn what_proxies_settled_is_never_known_to_be_over(database: Database) {
    let book = Book::open(database).await;
    book.is_settled_by(Direct).await.unwrap();
    book.passes(100 * DAY);
    assert_eq!(at_stake(&book, Relay).await, AtStake { unknown: true, ..AtStake::default() });
    book.change_settlement(Relay, true).await.unwrap();
    book.is_settled_by(Relay).await.unwrap();
}

async fn what_a_companion_takes_while_an_operator_changes_it_is_not_forgotten(database: Database) {
    let book = Book::open(database).await;
    book.is_settled_by(Relay).await.unwrap();
    let other = book.companion_named("operator").await;
    let (changed, ()) = tokio::join!(other.change_settlement(Direct, false), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        book.sells(1).await;
    });
    assert!(changed.unwrap().until.is_some());
    assert_eq!(book.settlement().await.unwrap(), Some(Relay));
    other.close().await;
}

async fn what_a_restored_ledger_lacks_is_at_stake(database: Database) {
    let book = Book::open(database).await;
    book.is_settled_by(Relay).await.unwrap();
    book.sells(1).await;
    book.counters().await.unwrap();
    for sql in ["DELETE FROM payments", "DELETE FROM counters"] {
        sqlx::query(sql).execute(&mut *book.connection().await.unwrap()).await.unwrap();
    }
    assert!(at_stake(&book, Direct).await.lost.is_some());
}
