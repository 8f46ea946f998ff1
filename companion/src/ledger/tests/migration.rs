//! A ledger of an earlier schema, and of a later one.

use farebox_core::payment::{Answer, Event, State};
use sqlx::any::install_default_drivers;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection};

use super::super::migrations::MIGRATIONS;
use super::*;
use crate::ledger::{Books, Filter, Ledger, LedgerOptions};
use crate::testing::{Database, on_every_database};

on_every_database! {
    payments_of_before_are_never_served_or_settled_on_a_resend_and_open_ones_end_by_the_recorded_call,
    a_schema_of_a_later_version_is_refused_and_left_alone,
    whoever_reads_an_earlier_schema_is_told_and_leaves_it_alone,
    companions_that_start_at_once_on_a_new_database_all_open_it,
}

/// The database as the version before left it, with payments of these states: each a nonce of its own.
async fn of_before(database: &Database, rows: &[(&str, &str)]) {
    install_default_drivers();
    let url = if database.url.starts_with("sqlite:") {
        format!("{}?mode=rwc", database.url)
    } else {
        database.url.clone()
    };
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    let migrations = MIGRATIONS.iter().filter(|migration| migration.version < 5).cloned().collect::<Vec<_>>();
    Migrator { migrations: migrations.into(), ..Migrator::DEFAULT }.run(&mut connection).await.unwrap();
    for (nonce, (state, rest)) in (1_u8..).zip(rows) {
        let key = key(nonce);
        let hex = |bytes: &[u8]| farebox_core::evm::to_hex(bytes);
        let sql = format!(
            "INSERT INTO payments (network, contract, payer, nonce, state, holder, lease_until, offer_namespace, \
               offer_name, asset_symbol, born, generation, asset, amount, pay_to, ends_s, call_body, companion, \
               reserved_at, transaction_hash, answered, counted_open) \
             VALUES ('eip155:84532', '{}', '{}', '{}', '{state}', 'e1/17', {NOW}, 'ns', 'a', 'USDC', 7, 9, \
               '{}', '1000', '{}', {}, '{{\"of\":\"before\"}}', 'c1', {NOW}, {rest})",
            hex(&key.contract.0),
            hex(&key.payer.0),
            hex(&key.nonce.0),
            hex(&[0xa0; 20]),
            hex(&[0x50; 20]),
            NOW / 1000 + 300,
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

async fn payments_of_before_are_never_served_or_settled_on_a_resend_and_open_ones_end_by_the_recorded_call(
    database: Database,
) {
    let rows = [
        ("reserved", "NULL, 0, 0"),
        ("verified", "NULL, 0, 0"),
        ("settling", "NULL, 0, 0"),
        ("settling", "NULL, -1, 1"),
        ("unknown", "'0xsent', 0, 1"),
        ("expired", "NULL, 0, 0"),
        ("settled", "'0xtx', 1, 0"),
        ("settled", "'0xtx', 0, 0"),
        ("refused", "NULL, 0, 0"),
    ];
    of_before(&database, &rows).await;
    let book = Book::open(database).await;
    let mut states = Vec::new();
    for nonce in 1..=9 {
        states.push(book.state(nonce).await);
    }
    let expected = [
        None,
        None,
        Some("settling"),
        Some("settling"),
        Some("unknown"),
        Some("settling"),
        Some("delivered"),
        Some("owed"),
        Some("refused"),
    ];
    assert_eq!(states.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    // What their holders would do next does nothing.
    for nonce in 1..=8 {
        let answer = book.does(nonce, Event::Verified(HOLDER)).await;
        assert_eq!(answer, Answer::NotHeld, "{nonce}");
    }
    for (nonces, answer) in [(3..=6, Answer::OtherPayment), (7..=8, Answer::Used)] {
        for nonce in nonces {
            assert_eq!(book.does(nonce, Event::Claim(claim(nonce))).await, answer, "{nonce}");
        }
    }
    // What was open ends by the call on record.
    book.passes(10_000);
    let mut due = book.due(10).await.unwrap();
    due.sort();
    assert_eq!(due, [key(3), key(4), key(5), key(6)]);
    for nonce in 3..=6 {
        let Answer::Call { epoch, call, .. } = book.does(nonce, Event::Ask(OTHER)).await else {
            panic!("{nonce} is not asked about")
        };
        assert_eq!((&*call, epoch > 1), (&br#"{"of":"before"}"#[..], true));
        book.ends(nonce, epoch, settled()).await;
        let record = book.record(&key(nonce)).await.unwrap().unwrap();
        assert_eq!((record.state, record.fingerprint), (State::Owed { hold: None }, None));
    }
    let counted = book.counted().await;
    let of = |name: &str| counted.iter().find(|(series, _)| series == name).map_or(0, |(_, value)| *value);
    // Two of the four were counted as open by the version before, which is not in these counters.
    assert_eq!((of("Charged 1000"), of("UnresolvedOpened"), of("UnresolvedClosed")), (4, 2, 4));
    assert_eq!(book.does(1, Event::Claim(claim(1))).await, Answer::Reserved);
    assert_eq!(book.does(9, Event::Claim(claim(9))).await, Answer::Reserved, "it was refused");
    let total = book.totals(&Filter::default()).await.unwrap();
    assert_eq!((total.len(), total[0].payments), (1, 6));
}

async fn a_schema_of_a_later_version_is_refused_and_left_alone(database: Database) {
    let book = Book::open(database).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', TRUE, '00', 0)",
    )
    .execute(&mut *book.connection().await.unwrap())
    .await
    .unwrap();
    book.ledger.close().await;
    let url = &book.database.url;
    let error = Ledger::open(url, "c1", LedgerOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("a schema this version does not know"), "{error}");
    let error = Books::read(url).await.err().unwrap().to_string();
    assert!(error.contains("schema 999, this version reads 11"), "{error}");
}

async fn whoever_reads_an_earlier_schema_is_told_and_leaves_it_alone(database: Database) {
    of_before(&database, &[("settled", "'0xtx', 1, 0")]).await;
    let error = Books::read(&database.url).await.err().unwrap().to_string();
    assert!(error.contains("has the schema 4 of an earlier version, this one reads 11"), "{error}");
    let mut connection = AnyConnection::connect(&database.url).await.unwrap();
    let version: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(version, 4);
    connection.close().await.unwrap();
}

async fn companions_that_start_at_once_on_a_new_database_all_open_it(database: Database) {
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    let opens = names.iter().map(|name| Ledger::open(&database.url, name, LedgerOptions::default()));
    for opened in futures_util::future::join_all(opens).await {
        opened.unwrap().close().await;
    }
}
