//! The statements about payments. They load, write and delete; all of them take many rows at once.
//!
//! A statement is planned once for each number of rows it takes. Those are powers of two, so that all of them fit a
//! connection's cache; the places left over hold NULL, which equals nothing and is never written.

use std::collections::BTreeMap;

use farebox_core::evm::{Address, to_hex};
use farebox_core::payment::PaymentKey;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::batch::Changes;
use super::row::{LOADED, Loaded, Row, flow_word, identifier_column, read_key};
use super::store::{Query, signed};

/// The counter of a companion's batches: what tells that a database went back, or whether a commit arrived. It is
/// the name of no series.
pub(super) const MARK: &str = "batches";

/// Rows of one statement. Databases bound the values it may have.
pub(super) const MOST: usize = 256;

const KEY: [&str; 4] = ["network", "contract", "payer", "nonce"];
/// What changes in a payment's life, `call_body` apart.
const LIFE: [&str; 14] = [
    "state",
    "holder",
    "hold_until",
    "waits",
    "epoch",
    "redeemed",
    "transaction_hash",
    "since",
    "due",
    "facilitator",
    "reason",
    "verified_at",
    "settling_at",
    "ended_at",
];
/// What does not.
const FIXED: [&str; 17] = [
    "call_body",
    "fingerprint",
    "offer_namespace",
    "offer_name",
    "route",
    "asset",
    "amount",
    "pay_to",
    "flow",
    "ends_s",
    "identifier",
    "asset_symbol",
    "born",
    "generation",
    "proxy",
    "companion",
    "reserved_at",
];

/// Loads what the database has for these keys, which are sorted, so that locks are taken in one order.
pub(super) async fn load(
    connection: &mut AnyConnection,
    keys: &[&PaymentKey],
    sqlite: bool,
) -> Result<Vec<(PaymentKey, Result<Loaded, String>)>, sqlx::Error> {
    let mut loaded = Vec::with_capacity(keys.len());
    for keys in keys.chunks(MOST) {
        let lock = if sqlite { "" } else { " FOR UPDATE OF payments" };
        let sql = format!(
            "WITH wanted (place, network, contract, payer, nonce) AS (VALUES {}) \
             SELECT wanted.place, {LOADED} FROM wanted CROSS JOIN payments WHERE {} ORDER BY wanted.place{lock}",
            places(keys.len(), 5, sqlite),
            same_key("wanted"),
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (place, key) in padded(keys).enumerate() {
            query = bind_key(query.bind(key.map(|_| signed(place as u64))), key.copied());
        }
        for row in query.fetch_all(&mut *connection).await? {
            let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
            let Some(key) = keys.get(place) else { continue };
            loaded.push(((*key).clone(), Loaded::read(&row, 1, key)));
        }
    }
    Ok(loaded)
}

/// Records of this payer's payments that name this purchase. Those that cannot be read are none.
pub(super) async fn of_purchase(
    connection: &mut AnyConnection,
    payer: &Address,
    identifier: &str,
) -> Result<Vec<(PaymentKey, Row)>, sqlx::Error> {
    let sql = format!(
        "SELECT network, contract, payer, nonce, {LOADED} FROM payments \
         WHERE payer = $1 AND identifier = $2 AND state <> 'refused'"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(to_hex(&payer.0)).bind(identifier_column(identifier));
    let read = |row: &AnyRow| {
        let key = read_key(row, 0).ok()?;
        match Loaded::read(row, KEY.len(), &key).ok()? {
            Loaded::Live(row) => Some((key, *row)),
            Loaded::Refused => None,
        }
    };
    Ok(query.fetch_all(connection).await?.iter().filter_map(read).collect())
}

/// Writes rows: what is deleted first, as a key may be deleted and added.
pub(super) async fn write(
    connection: &mut AnyConnection,
    changes: &Changes<'_>,
    sqlite: bool,
) -> Result<(), sqlx::Error> {
    delete(&mut *connection, &changes.deleted).await?;
    for rows in changes.added.chunks(MOST) {
        let columns = columns([&KEY[..], &LIFE, &FIXED].concat().iter());
        let sql = format!(
            "WITH added ({columns}) AS (VALUES {}) \
             INSERT INTO payments ({columns}) SELECT {columns} FROM added WHERE network IS NOT NULL",
            places(rows.len(), KEY.len() + LIFE.len() + FIXED.len(), sqlite),
        );
        let query = padded(rows).fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            let query = bind_key(query, row.map(|(key, _)| *key));
            bind_fixed(bind_life(query, row.map(|(_, row)| *row)), row.map(|(_, row)| *row))
        });
        query.execute(&mut *connection).await?;
    }
    for rows in changes.updated.chunks(MOST) {
        let set = LIFE.map(|column| format!("{column} = changed.{column}")).join(", ");
        let sql = format!(
            "WITH changed ({}, keeps_call) AS (VALUES {}) \
             UPDATE payments SET {set}, \
               call_body = CASE changed.keeps_call WHEN 1 THEN payments.call_body END \
             FROM changed WHERE {}",
            columns([&KEY[..], &LIFE].concat().iter()),
            places(rows.len(), KEY.len() + LIFE.len() + 1, sqlite),
            same_key("changed"),
        );
        let query = padded(rows).fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            let query = bind_life(bind_key(query, row.map(|(key, _)| *key)), row.map(|(_, row)| *row));
            query.bind(row.map(|(_, row)| i64::from(row.has_call())))
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes rows, whatever they are: one by one, since SQLite finds several in no index.
async fn delete(connection: &mut AnyConnection, keys: &[&PaymentKey]) -> Result<(), sqlx::Error> {
    for key in keys {
        let deleted = sqlx::query(
            "DELETE FROM payments WHERE network = $1 AND contract = $2 AND payer = $3 AND nonce = $4",
        );
        bind_key(deleted, Some(key)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds to the counters of a companion, and to the mark, whose new value this returns.
pub(super) async fn count(
    connection: &mut AnyConnection,
    companion: &str,
    counters: &BTreeMap<String, u64>,
) -> Result<u64, sqlx::Error> {
    const CHUNK: usize = 16;
    let counters = counters.iter().map(|(name, value)| (name.as_str(), *value));
    let counters: Vec<(&str, u64)> = counters.chain([(MARK, 1)]).collect();
    let mut mark = 0;
    // In one order, so that two that count at once wait for each other.
    for some in counters.chunks(CHUNK) {
        let rows = (0..some.len()).map(|row| format!("($1, ${}, ${})", 2 + row * 2, 3 + row * 2));
        let sql = format!(
            "INSERT INTO counters (companion, series, value) VALUES {} \
             ON CONFLICT (companion, series) DO UPDATE SET value = counters.value + excluded.value \
             RETURNING series, value",
            rows.collect::<Vec<_>>().join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(companion);
        let query = some.iter().fold(query, |query, (name, value)| query.bind(*name).bind(signed(*value)));
        for row in query.fetch_all(&mut *connection).await? {
            if row.try_get::<&str, _>(0)? == MARK {
                mark = super::store::unsigned(row.try_get(1)?);
            }
        }
    }
    Ok(mark)
}

/// Raises gauges that only ever rise.
pub(super) async fn raise(
    connection: &mut AnyConnection,
    companion: &str,
    gauges: impl Iterator<Item = (&String, &u64)>,
) -> Result<(), sqlx::Error> {
    for (name, value) in gauges {
        sqlx::query(
            "INSERT INTO counters (companion, series, value) VALUES ($1, $2, $3) \
             ON CONFLICT (companion, series) DO UPDATE SET value = excluded.value \
             WHERE counters.value < excluded.value",
        )
        .bind(companion)
        .bind(name)
        .bind(signed(*value))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// `($1, $2), ($3, $4)` for rows of two values, as many as there are after padding. SQLite takes such numbers for
/// names, which it looks through for each value: there they are `(?, ?), (?, ?)`.
fn places(rows: usize, values: usize, sqlite: bool) -> String {
    let mut text = String::with_capacity(rows.next_power_of_two() * values * 7);
    for row in 0..rows.next_power_of_two() {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for value in 0..values {
            text.push_str(if value == 0 { "" } else { ", " });
            if sqlite {
                text.push('?');
            } else {
                text.push_str(&format!("${}", 1 + row * values + value));
            }
        }
        text.push(')');
    }
    text
}

/// The rows, and nothing in the places left over.
fn padded<T>(rows: &[T]) -> impl Iterator<Item = Option<&T>> {
    let left_over = rows.len().next_power_of_two() - rows.len();
    rows.iter().map(Some).chain(std::iter::repeat_n(None, left_over))
}

fn columns<'a>(names: impl Iterator<Item = &'a &'a str>) -> String {
    names.copied().collect::<Vec<_>>().join(", ")
}

fn same_key(other: &str) -> String {
    KEY.map(|column| format!("payments.{column} = {other}.{column}")).join(" AND ")
}

pub(super) fn bind_key<'q>(query: Query<'q>, key: Option<&PaymentKey>) -> Query<'q> {
    query
        .bind(key.map(|key| key.network.as_str().to_owned()))
        .bind(key.map(|key| to_hex(&key.contract.0)))
        .bind(key.map(|key| to_hex(&key.payer.0)))
        .bind(key.map(|key| to_hex(&key.nonce.0)))
}

/// [`LIFE`].
fn bind_life<'q>(query: Query<'q>, row: Option<&Row>) -> Query<'q> {
    let hold = row.and_then(Row::hold);
    let flag = |set: fn(&Row) -> bool| row.map(|row| i64::from(set(row)));
    query
        .bind(row.map(Row::state))
        .bind(hold.map(|hold| hold.holder.to_string()))
        .bind(hold.map(|hold| signed(hold.until_ms)))
        .bind(flag(Row::waits))
        .bind(row.map(|row| i64::from(row.record.epoch)))
        .bind(flag(|row| row.record.redeemed))
        .bind(row.and_then(|row| text(row.record.transaction.as_deref())))
        .bind(row.map(|row| signed(row.since())))
        .bind(row.and_then(Row::due).map(signed))
        .bind(row.and_then(|row| text(row.facilitator.as_deref())))
        .bind(row.and_then(|row| text(row.reason.as_deref())))
        .bind(row.and_then(|row| row.times.verified.map(signed)))
        .bind(row.and_then(|row| row.times.settling.map(signed)))
        .bind(row.and_then(|row| row.times.ended.map(signed)))
}

/// [`FIXED`].
fn bind_fixed<'q>(query: Query<'q>, row: Option<&Row>) -> Query<'q> {
    let terms = row.map(|row| &row.record.terms);
    let required = |of: fn(&Row) -> &str| row.and_then(|row| text(Some(of(row))));
    query
        .bind(row.and_then(Row::call))
        .bind(row.and_then(|row| row.record.fingerprint).map(|fingerprint| to_hex(&fingerprint.0)))
        .bind(required(|row| &row.tuple.offer_namespace))
        .bind(required(|row| &row.tuple.offer_name))
        .bind(required(|row| &row.record.terms.route))
        .bind(terms.map(|terms| to_hex(&terms.asset.0)))
        .bind(terms.map(|terms| terms.amount.to_string()))
        .bind(terms.map(|terms| to_hex(&terms.pay_to.0)))
        .bind(terms.map(|terms| flow_word(terms.flow)))
        .bind(row.map(|row| signed(row.record.ends)))
        .bind(row.and_then(|row| text(row.identifier.as_deref())))
        .bind(required(|row| &row.tuple.asset_symbol))
        .bind(row.map(|row| signed(row.tuple.born)))
        .bind(row.map(|row| signed(row.generation)))
        .bind(required(|row| &row.proxy))
        .bind(required(|row| &row.companion))
        .bind(row.map(|row| signed(row.times.reserved)))
}

/// PostgreSQL takes no NUL, which buyers and facilitators may send.
fn text(text: Option<&str>) -> Option<String> {
    text.map(|text| text.replace('\0', ""))
}
