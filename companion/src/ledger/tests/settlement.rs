//! Relay and proxies know different payments: which of them settle is changed by no accident.

use std::collections::BTreeMap;

use farebox_core::metrics::Counted;
use farebox_core::payment::End;

use super::*;
use crate::ledger::{AtStake, LedgerError};
use crate::settings::Settlement::{Direct, Relay};
use crate::testing::{Database, on_every_database};

const SKEW: u64 = 30;
const DAY: u64 = 24 * HOUR;

on_every_database! {
    who_settles_changes_by_itself_only_if_no_payment_is_forgotten,
    what_is_open_or_owed_is_at_stake_however_old,
    what_proxies_settled_is_never_known_to_be_over,
    what_a_restored_ledger_lacks_is_at_stake,
    of_two_companions_that_settle_otherwise_only_one_goes_on,
}

async fn refused(book: &Book, ours: crate::settings::Settlement) -> AtStake {
    match book.settle_by(ours, SKEW).await.unwrap_err() {
        LedgerError::Settlement { at_stake, .. } => at_stake,
        other => panic!("{other}"),
    }
}

async fn who_settles_changes_by_itself_only_if_no_payment_is_forgotten(database: Database) {
    let book = Book::open(database).await;
    assert_eq!(book.settlement().await.unwrap(), None);
    for mode in [Direct, Direct, Relay] {
        book.settle_by(mode, SKEW).await.unwrap();
        assert_eq!(book.settlement().await.unwrap(), Some(mode), "nothing was sold");
    }
    book.sells(1).await;
    // Freed and refused ones can be taken by whoever settles.
    book.does(2, farebox_core::payment::Event::Claim(claim(2))).await;
    book.does(2, farebox_core::payment::Event::Over(HOLDER, End::Unsent)).await;
    let until = Some(NOW / 1000 + 300);
    assert_eq!(refused(&book, Direct).await, AtStake { until, ..AtStake::default() });
    let text = book.settle_by(Direct, SKEW).await.unwrap_err().to_string();
    assert!(text.contains("farebox ledger settlement direct") && text.contains("GMT"), "{text}");
    assert_eq!(book.settlement().await.unwrap(), Some(Relay));
    book.settle_by(Relay, SKEW).await.unwrap();
    // Its authorization is over, also for a proxy whose clock is slow, and nobody settles it again.
    book.passes(330_000);
    refused(&book, Direct).await;
    book.passes(1_000);
    book.settle_by(Direct, SKEW).await.unwrap();
    assert_eq!(book.settlement().await.unwrap(), Some(Direct));
}

async fn what_is_open_or_owed_is_at_stake_however_old(database: Database) {
    let book = Book::open(database).await;
    book.settle_by(Relay, SKEW).await.unwrap();
    book.begins(1).await;
    book.ends(1, 1, unknown()).await;
    book.begins(2).await;
    book.does(2, farebox_core::payment::Event::Over(HOLDER, End::Unsent)).await;
    book.ends(2, 1, settled()).await;
    book.passes(DAY);
    assert_eq!(refused(&book, Direct).await, AtStake { open: 1, owed: 1, ..AtStake::default() });
    book.change_settlement(Direct).await.unwrap();
    book.settle_by(Direct, SKEW).await.unwrap();
}

async fn what_proxies_settled_is_never_known_to_be_over(database: Database) {
    let book = Book::open(database).await;
    book.settle_by(Direct, SKEW).await.unwrap();
    // It may be that nothing was settled, or that the proxy sold while no companion ran.
    book.apply(&Counted { reporter: "e1".to_owned(), sequence: 1, changes: BTreeMap::new(), malformed: 0 })
        .await
        .unwrap();
    book.passes(100 * DAY);
    assert_eq!(refused(&book, Relay).await, AtStake { unknown: true, ..AtStake::default() });
    book.change_settlement(Relay).await.unwrap();
    book.settle_by(Relay, SKEW).await.unwrap();
}

async fn what_a_restored_ledger_lacks_is_at_stake(database: Database) {
    let book = Book::open(database).await;
    book.settle_by(Relay, SKEW).await.unwrap();
    book.sells(1).await;
    book.counters().await.unwrap();
    for sql in ["DELETE FROM payments", "DELETE FROM counters"] {
        sqlx::query(sql).execute(&mut *book.connection().await.unwrap()).await.unwrap();
    }
    assert!(refused(&book, Direct).await.lost.is_some());
}

async fn of_two_companions_that_settle_otherwise_only_one_goes_on(database: Database) {
    let book = Book::open(database).await;
    let other = book.companion_named("c2").await;
    // Nothing is at stake: either may be replaced, and then sees it.
    let _ = tokio::join!(book.settle_by(Relay, SKEW), other.settle_by(Direct, SKEW));
    assert!(book.settlement().await.unwrap().is_some());
    book.change_settlement(Relay).await.unwrap();
    // What the first takes while the second comes is not forgotten: the second gives way.
    let (second, ()) = tokio::join!(other.settle_by(Direct, SKEW), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        book.sells(1).await;
    });
    assert!(matches!(second, Err(LedgerError::Settlement { .. })), "{second:?}");
    assert_eq!(book.settlement().await.unwrap(), Some(Relay));
    other.close().await;
}
