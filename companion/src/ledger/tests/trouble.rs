//! Days on which the database is not what it should be.

use std::process::Command;
use std::time::{Duration, Instant};

use farebox_core::payment::{Answer, End, Event};

use super::book::counted;
use super::*;
use crate::ledger::{Filter, Ledger, LedgerOptions};
use crate::testing::{Database, Gate, Lost, on_every_database};

on_every_database! {
    a_database_that_goes_back_is_named_and_goes_on,
    a_payment_that_cannot_be_read_harms_no_other,
    a_transaction_that_is_given_up_in_the_middle_holds_nobody_up,
}

async fn refused(url: &str) -> String {
    Ledger::open(url, "c1", LedgerOptions::default()).await.unwrap_err().to_string()
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

/// A book before whose server there is a gate.
async fn behind_a_gate() -> (Book, Gate) {
    let mut database = Database::postgres().await;
    let (gate, url) = Gate::before(&database.url).await;
    database.url = url;
    (Book::open(database).await, gate)
}

#[tokio::test]
async fn a_server_that_went_away_is_told_of_and_when_it_is_back_everything_is_there() {
    let (book, mut gate) = behind_a_gate().await;
    assert!(!format!("{:?}", book.ledger).contains("only-for-tests"), "{:?}", book.ledger);
    book.begins(1).await;
    gate.cut().await;
    for nonce in 2..4 {
        let text = book.step(&key(nonce), Event::Claim(claim(nonce)), Some(&sale()), None).await;
        let text = text.unwrap_err().to_string();
        assert!(text.starts_with(&format!("the ledger {} cannot be reached: ", book.url())), "{text}");
        assert!(text.contains("refused"), "{text}");
        assert!(book.check().await.unwrap_err().to_string().contains("cannot be reached"));
    }
    // Nobody waits for this, and it is not lost.
    book.note(&key(1), Event::Over(HOLDER, End::Unsent), None);
    tokio::time::sleep(Duration::from_millis(700)).await;
    gate.reopen().await;
    tokio::time::timeout(Duration::from_secs(5), async {
        while book.check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    book.ends(1, 1, settled()).await;
    assert_eq!(book.state(1).await.as_deref(), Some("owed"), "its request was over before");
    assert_eq!(book.does(2, Event::Claim(claim(2))).await, Answer::Reserved);
}

#[tokio::test]
async fn a_server_that_was_restarted_between_two_steps_is_no_fault() {
    let (book, mut gate) = behind_a_gate().await;
    book.begins(1).await;
    gate.cut().await;
    gate.reopen().await;
    assert!(matches!(book.ends(1, 1, settled()).await, Answer::Settled { .. }));
}

#[tokio::test]
async fn a_connection_lost_in_mid_commit_is_told_by_what_became_of_the_commit() {
    let (book, gate) = behind_a_gate().await;
    for (nonce, lost) in [(1, Lost::Answer), (2, Lost::Commit)] {
        book.begins(nonce).await;
        gate.lose(lost);
        // Committed or tried again: either way once.
        assert!(matches!(book.ends(nonce, 1, settled()).await, Answer::Settled { .. }), "{lost:?}");
        assert_eq!(book.state(nonce).await.as_deref(), Some("owed"));
        assert_eq!(counted(&book.ledger).await[0], ("Charged 1000".to_owned(), u64::from(nonce)));
    }
    let waiting: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'",
    )
    .fetch_one(&mut *book.connection().await.unwrap())
    .await
    .unwrap();
    assert_eq!(waiting, 0, "no transaction is left open");
}

/// A file system of a few hundred kilobytes, while it lives.
struct Small(tempfile::TempDir);

impl Small {
    /// `None` where the test ran in another process instead: only root may mount, and without root a test is run again
    /// as the root of a user namespace of its own.
    fn mount(bytes: u64, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder.path());
        if mount.output().unwrap().status.success() {
            return Some(Self(folder));
        }
        let help = "a small file system cannot be mounted: run the test as root, or allow user namespaces";
        assert!(std::env::var_os("FAREBOX_TEST_NAMESPACE").is_none(), "{help}");
        let mut again = Command::new("unshare");
        again.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
        again.args([
            "--exact",
            &format!("{}::{test}", module_path!().split_once("::").unwrap().1),
            "--nocapture",
        ]);
        let output = again.env("FAREBOX_TEST_NAMESPACE", "yes").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("1 passed"), "{help}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_a_commit_stops_sales_with_its_name_and_loses_nothing() {
    let name = "a_disk_that_is_full_at_a_commit_stops_sales_with_its_name_and_loses_nothing";
    let Some(small) = Small::mount(800 * 1024, name) else { return };
    let url = Ledger::file_url(&small.0.path().join("l.db"));
    let ledger = Ledger::open(&url, "c1", LedgerOptions::default()).await.unwrap();
    let step = async |number: u32, event: Event| {
        let mut key = key(0);
        key.nonce.0[..4].copy_from_slice(&number.to_be_bytes());
        ledger.step(&key, event, Some(&sale()), None).await
    };
    for event in [Event::Claim(claim(0)), Event::Verified(HOLDER), Event::Begin(HOLDER)] {
        step(0, event).await.unwrap();
    }
    let filler = small.0.path().join("filler");
    let fill = || {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        for size in [65_536, 4_096, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    };
    for time in 0..3 {
        let mut taken = 1 + time * 1_000;
        // What a checkpoint frees is filled as well, until nothing can be written.
        let text = loop {
            fill();
            match step(taken, Event::Claim(claim(0))).await {
                Ok(stepped) => assert_eq!(stepped.answer, Answer::Reserved),
                Err(error) => break error.to_string(),
            }
            taken += 1;
        };
        assert!(text.contains("database or disk is full"), "{text}");
        fill();
        if let Err(error) = ledger.check().await {
            assert!(error.to_string().contains("database or disk is full"), "{error}");
        }
        let kept = ledger.list(&Filter::default(), 10_000).await.unwrap().len();
        std::fs::remove_file(&filler).unwrap();
        let freed = Instant::now();
        while ledger.check().await.is_err() {
            assert!(freed.elapsed() < Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(step(taken, Event::Claim(claim(0))).await.unwrap().answer, Answer::Reserved);
        let now = ledger.list(&Filter::default(), 10_000).await.unwrap().len();
        assert_eq!(now, kept + 1, "what was taken is there, what was refused is not");
        // What is on disk survives the companion.
        let another = Ledger::open(&url, "c2", LedgerOptions::default()).await.unwrap();
        assert_eq!(another.list(&Filter::default(), 10_000).await.unwrap().len(), now);
        another.close().await;
    }
    let ended =
        step(0, Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: None }).await.unwrap();
    assert!(matches!(ended.answer, Answer::Settled { .. }));
    assert_eq!(counted(&ledger).await[0], ("Charged 1000".to_owned(), 1));
    ledger.close().await;
}

#[tokio::test]
async fn books_in_a_folder_nobody_may_write_to_are_read() {
    let Some(small) = Small::mount(4 << 20, "books_in_a_folder_nobody_may_write_to_are_read") else { return };
    let url = Ledger::file_url(&small.0.path().join("l.db"));
    let ledger = Ledger::open(&url, "c1", LedgerOptions::default()).await.unwrap();
    ledger.step(&key(1), Event::Claim(claim(1)), Some(&sale()), None).await.unwrap();
    ledger.close().await;
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(small.0.path()).status();
    assert!(remounted.unwrap().success());
    let mut books = crate::ledger::Books::read(&url).await.unwrap();
    assert_eq!(books.list(&Filter::default(), 10).await.unwrap().len(), 1);
    books.close().await;
    let text = refused(&url).await;
    assert!(text.contains("cannot be opened") || text.contains("readonly"), "{text}");
}

async fn a_database_that_goes_back_is_named_and_goes_on(database: Database) {
    let book = Book::open(database).await;
    book.sells(1).await;
    let saved: Vec<(String, i64)> = sqlx::query_as("SELECT series, value FROM counters")
        .fetch_all(&mut *book.connection().await.unwrap())
        .await
        .unwrap();
    book.sells(2).await;
    assert_eq!(book.went_back(), None);
    // It is restored as it was before the second sale.
    let mut connection = book.connection().await.unwrap();
    sqlx::query("DELETE FROM payments WHERE nonce = $1")
        .bind(key(2).nonce.to_string())
        .execute(&mut *connection)
        .await
        .unwrap();
    for (series, value) in saved {
        sqlx::query("UPDATE counters SET value = $1 WHERE series = $2")
            .bind(value)
            .bind(series)
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    drop(connection);
    book.sells(3).await;
    let text = book.went_back().unwrap();
    assert!(text.starts_with(&format!("the ledger {} went back: it holds 5 batches", book.url())), "{text}");
    assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 2));
}

async fn a_payment_that_cannot_be_read_harms_no_other(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    book.begins(2).await;
    sqlx::query("UPDATE payments SET amount = 'much' WHERE nonce = $1")
        .bind(key(1).nonce.to_string())
        .execute(&mut *book.connection().await.unwrap())
        .await
        .unwrap();
    let ended = || Event::Ended { epoch: 1, holder: HOLDER, outcome: settled(), claim: None };
    let (one, two) = (key(1), key(2));
    let both = tokio::join!(book.step(&one, ended(), None, None), book.step(&two, ended(), None, None));
    let text = both.0.unwrap_err().to_string();
    assert!(text.contains("holds a payment that cannot be read: `much`"), "{text}");
    assert!(matches!(both.1.unwrap().answer, Answer::Settled { .. }));
    assert_eq!(book.state(1).await.as_deref(), Some("settling"));
}

/// A client of `/metrics` may leave while totals are saved for it.
async fn a_transaction_that_is_given_up_in_the_middle_holds_nobody_up(database: Database) {
    let book = Book::open(database).await;
    book.begins(1).await;
    for _ in 0..6 {
        let endless = book.durably(async |connection| {
            sqlx::query("UPDATE payments SET redeemed = 1").execute(&mut *connection).await?;
            std::future::pending::<Result<(), sqlx::Error>>().await
        });
        assert!(tokio::time::timeout(Duration::from_millis(100), endless).await.is_err());
    }
    let settled = tokio::time::timeout(Duration::from_secs(1), book.ends(1, 1, settled()));
    assert!(matches!(settled.await.unwrap(), Answer::Settled { .. }));
    assert!(!book.record(&key(1)).await.unwrap().unwrap().redeemed);
}

/// A book in a file of a known place.
async fn book_at(file: &std::path::Path) -> Book {
    let mut database = Database::sqlite().await;
    database.url = Ledger::file_url(file);
    let book = Book::open(database).await;
    book.sells(1).await;
    book
}

/// A copy, as a backup makes one.
async fn back_up(book: &Book, copy: &std::path::Path) {
    let sql = format!("VACUUM INTO '{}'", copy.display());
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *book.connection().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_backup_that_is_put_in_the_place_of_an_open_file_stops_sales_and_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("l.db");
    let book = book_at(&file).await;
    std::fs::rename(&file, folder.path().join("aside.db")).unwrap();
    std::fs::write(&file, "a backup").unwrap();
    let claimed = async || book.step(&key(2), Event::Claim(claim(2)), Some(&sale()), None).await;
    let text = claimed().await.unwrap_err().to_string();
    assert!(text.contains("was replaced while it was open: stop the companion"), "{text}");
    assert!(book.check().await.is_err());
    // The file that was open is put back.
    std::fs::rename(folder.path().join("aside.db"), &file).unwrap();
    assert_eq!(claimed().await.unwrap().answer, Answer::Reserved);
}

#[tokio::test]
async fn a_backup_that_is_put_back_while_the_companion_is_down_is_named_when_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("l.db");
    let book = book_at(&file).await;
    back_up(&book, &folder.path().join("copy.db")).await;
    book.sells(2).await;
    book.check().await.unwrap();
    // Killed, not closed.
    let Book { ledger, database, clock } = book;
    ledger.close().await;
    for left in ["l.db", "l.db-wal", "l.db-shm"] {
        let _ = std::fs::remove_file(folder.path().join(left));
    }
    std::fs::rename(folder.path().join("copy.db"), &file).unwrap();
    let book = Book {
        ledger: Ledger::open(&database.url, "c1", LedgerOptions::default()).await.unwrap(),
        database,
        clock,
    };
    book.ledger.counters().await.unwrap();
    assert!(book.went_back().is_some_and(|text| text.contains("went back")), "{:?}", book.went_back());
    assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 1));
}
