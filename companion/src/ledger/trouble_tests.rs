//! Days on which the database or the clock is not what it should be.

use std::time::{Duration, Instant};

use farebox_core::metrics::{HostSeries, LateResult, TupleCounter};
use sqlx::Executor;

use super::tests::{LEASE, NOW, claim, settled, unknown};
use super::*;
use crate::testing::{Database, Gate, on_every_database};

const DAY: u64 = 24 * 3_600_000;

on_every_database! {
    a_probe_leaves_nothing_behind,
    a_clock_that_jumps_ahead_during_a_settlement_charges_once,
    a_clock_that_is_set_back_leaves_no_open_payment_waiting_for_the_old_time,
}

async fn refused(url: &str) -> String {
    Ledger::open(url, "c1").await.unwrap_err().to_string()
}

async fn charged(ledger: &Ledger) -> u64 {
    let counters = ledger.counters().await.unwrap();
    let charged = counters.into_iter().filter(|(series, _)| matches!(series, HostSeries::Charged(..)));
    charged.map(|(_, value)| value).sum()
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_named_with_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "this is no database, whatever its name says. ".repeat(100)).unwrap();
    let url = Ledger::file_url(&garbage);
    let text = refused(&url).await;
    assert!(text.starts_with(&format!("the ledger {url} cannot be opened: ")), "{text}");
    assert!(text.contains("file is not a database"), "{text}");
    assert!(std::fs::read_to_string(&garbage).unwrap().starts_with("this is"), "it is left alone");
    let text = refused(&Ledger::file_url(folder.path())).await;
    assert!(text.ends_with("it is a folder; name a file in it"), "{text}");
    let text = refused(&Ledger::file_url(&folder.path().join("no/such.db"))).await;
    assert!(text.ends_with(&format!("there is no folder {}; make it", folder.path().join("no").display())));
    let text = refused("mysql://x").await;
    assert!(text.ends_with("it must start with sqlite: or postgres://"), "{text}");
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_not_taken_for_one_that_works() {
    let database = Database::sqlite().await;
    Ledger::open(&database.url, "c1").await.unwrap().close().await;
    let text = match Ledger::open(&format!("{}?mode=ro", database.url), "c1").await {
        Err(error) => error.to_string(),
        Ok(ledger) => ledger.check().await.unwrap_err().to_string(),
    };
    assert!(text.contains("attempt to write a readonly database"), "{text}");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_without_its_password_and_soon() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for (place, why) in [("127.0.0.1:1", "refused"), (&*silent, "it does not answer within 3s")] {
        let started = Instant::now();
        let text = refused(&format!("postgres://farebox:sec%3Fret@{place}/x?password=secret")).await;
        assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
        assert!(
            text.contains(&format!("the ledger postgres://farebox@{place}/x cannot be opened")),
            "{text}"
        );
        assert!(text.contains(why) && !text.contains("ret"), "{text}");
    }
    // A password that should have been escaped is a password nevertheless.
    let text = refused("postgres://farebox:sec?ret@127.0.0.1:1/x").await;
    assert!(!text.contains("sec") && !text.contains("ret"), "{text}");
}

#[tokio::test]
async fn a_server_that_went_away_is_told_of_and_when_it_is_back_everything_is_there() {
    let database = Database::postgres().await;
    let (mut gate, url) = Gate::before(&database.url).await;
    let ledger = Ledger::open(&url, "c1").await.unwrap();
    assert!(!format!("{ledger:?}").contains("only-for-tests"), "{ledger:?}");
    ledger.reserve(&claim(1, "e1"), NOW, LEASE).await.unwrap();
    ledger.begin_settlement(&claim(1, "e1"), "{}", NOW, LEASE).await.unwrap();
    gate.cut().await;
    let shown = ledger.url();
    for _ in 0..2 {
        let text = ledger.check().await.unwrap_err().to_string();
        assert!(text.starts_with(&format!("the ledger {shown} cannot be reached: ")), "{text}");
        assert!(text.contains("refused"), "{text}");
        assert!(ledger.reserve(&claim(2, "e1"), NOW, LEASE).await.is_err());
    }
    assert!(ledger.finish(&claim(1, "e1").key, &settled(), true, NOW, NOW).await.is_err());
    gate.reopen().await;
    ledger.check().await.unwrap();
    assert_eq!(ledger.reserve(&claim(1, "e2"), NOW, LEASE).await.unwrap(), Reservation::InFlight);
    ledger.finish(&claim(1, "e1").key, &settled(), true, NOW, NOW).await.unwrap();
    assert_eq!(charged(&ledger).await, 1);
    assert_eq!(ledger.reserve(&claim(2, "e1"), NOW, LEASE).await.unwrap(), Reservation::Fresh);
}

#[tokio::test]
async fn a_full_disk_is_noticed_loses_nothing_and_is_over_when_there_is_room() {
    let database = Database::sqlite().await;
    let ledger = Ledger::open(&database.url, "c1").await.unwrap();
    ledger.begin_settlement(&claim(0, "e1"), "{}", NOW, LEASE).await.unwrap();
    let room = async |pages: u32| {
        let limit = format!("PRAGMA max_page_count = {pages}");
        let mut connection = ledger.connection().await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(limit)).await.unwrap();
    };
    // Less than there is already: the file cannot grow.
    room(1).await;
    let mut kept = 1;
    let text = loop {
        match ledger.reserve(&claim(kept, "e1"), NOW, LEASE).await {
            Ok(reserved) => assert_eq!(reserved, Reservation::Fresh),
            Err(error) => break error.to_string(),
        }
        kept += 1;
    };
    assert!(text.contains("database or disk is full"), "{text}");
    assert!(ledger.check().await.unwrap_err().to_string().contains("database or disk is full"));
    let listed = ledger.list(&Filter::default(), 1_000).await.unwrap();
    assert_eq!(listed.len(), usize::from(kept), "what was taken is there, what was refused is not");
    room(100_000).await;
    ledger.check().await.unwrap();
    assert_eq!(ledger.reserve(&claim(kept, "e1"), NOW, LEASE).await.unwrap(), Reservation::Fresh);
    ledger.finish(&claim(0, "e1").key, &settled(), true, NOW, NOW).await.unwrap();
    assert_eq!(charged(&ledger).await, 1);
}

async fn a_probe_leaves_nothing_behind(database: Database) {
    let ledger = Ledger::open(&database.url, "c1").await.unwrap();
    ledger.check().await.unwrap();
    ledger.check().await.unwrap();
    let mut connection = ledger.connection().await.unwrap();
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM probes").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(left, 0);
}

async fn a_clock_that_jumps_ahead_during_a_settlement_charges_once(database: Database) {
    let ledger = Ledger::open(&database.url, "c1").await.unwrap();
    let (first, other) = (claim(1, "e1"), claim(1, "e2"));
    ledger.reserve(&first, NOW, LEASE).await.unwrap();
    // Every lease seems to be over, so another may try; of the two one settles.
    assert_eq!(ledger.reserve(&other, NOW + DAY, LEASE).await.unwrap(), Reservation::Fresh);
    assert_eq!(ledger.begin_settlement(&first, "{}", NOW + DAY, LEASE).await.unwrap(), Begun::InFlight);
    let begun = ledger.begin_settlement(&other, "{}", NOW + DAY, LEASE).await.unwrap();
    assert_eq!(begun, Begun::Call { again: false });
    // Another jump, and the settlement under way counts as interrupted until its end is written down.
    let orphans = ledger.orphans(NOW + 2 * DAY, false).await.unwrap();
    assert_eq!(orphans, [claim(1, "e2").key]);
    ledger.finish(&first.key, &unknown(), false, NOW + 2 * DAY, NOW + 2 * DAY).await.unwrap();
    ledger.finish(&first.key, &settled(), true, NOW + 2 * DAY, 0).await.unwrap();
    assert_eq!(ledger.due(NOW + 3 * DAY, LEASE, 10).await.unwrap(), []);
    assert_eq!(ledger.reserve(&first, NOW + 3 * DAY, LEASE).await.unwrap(), Reservation::Used);
    let counters = ledger.counters().await.unwrap();
    let value = |counter| {
        let series = HostSeries::Tuple(first.tuple.clone(), counter);
        counters.iter().find(|(name, _)| *name == series).map_or(0, |(_, value)| *value)
    };
    assert_eq!((charged(&ledger).await, value(TupleCounter::ResolvedLate(LateResult::Settled))), (1, 0));
    assert_eq!((value(TupleCounter::UnresolvedOpened), value(TupleCounter::UnresolvedClosed)), (1, 1));
}

async fn a_clock_that_is_set_back_leaves_no_open_payment_waiting_for_the_old_time(database: Database) {
    let ledger = Ledger::open(&database.url, "c1").await.unwrap();
    let (open, under_way) = (claim(1, "e1"), claim(2, "e1"));
    let ahead = NOW + DAY;
    ledger.begin_settlement(&open, "{}", ahead, LEASE).await.unwrap();
    ledger.finish(&open.key, &unknown(), true, ahead, ahead + 1_000).await.unwrap();
    ledger.begin_settlement(&under_way, "{}", ahead, LEASE).await.unwrap();
    // It is still yesterday.
    let due = ledger.due(NOW, LEASE, 10).await.unwrap();
    assert_eq!(due.into_iter().map(|open| open.key).collect::<Vec<_>>(), [claim(1, "e1").key]);
    assert_eq!(ledger.due(NOW, LEASE, 10).await.unwrap(), [], "asked about once at a time");
    assert_eq!(ledger.orphans(NOW, false).await.unwrap(), [claim(2, "e1").key]);
    ledger.finish(&under_way.key, &unknown(), false, NOW, NOW).await.unwrap();
    for key in [&open.key, &under_way.key] {
        ledger.finish(key, &settled(), false, NOW, NOW).await.unwrap();
    }
    assert_eq!(charged(&ledger).await, 2);
}
