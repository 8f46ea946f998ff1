//! The statements about payments. They load, write and delete; all of them take many rows at once.
//!
//! A statement is planned once for each number of rows it takes. Those are powers of two, so that all of them fit a
//! connection's cache; the places left over hold NULL, which equals nothing and is never written.

use std::collections::BTreeMap;

use farebox_core::evm::{Address, to_hex};
use farebox_core::metrics::{MetricSeries, series_name};
use farebox_core::payment::PaymentKey;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::batch::{Changes, Counters};
use super::row::{LOADED, Loaded, Row, flow_word, identifier_column, read_key};
use super::store::{BEGIN_FILE, Query, signed, unsigned};

/// The counter of a companion's batches: what tells that a database went back, or whether a commit arrived. It is
/// the name of no series.
pub(super) const MARK: &str = "batches";
/// Where a counter stays: the highest number that all who read metrics can tell from the next one. A counter that could
/// not grow would undo the payment that is written with it.
const HIGHEST: u64 = 1 << 53;

/// Rows of one statement. Databases bound the values it may have.
pub(super) const MOST: usize = 256;
const MOST_COUNTERS: usize = 16;

const KEY: [&str; 4] = ["network", "contract", "payer", "nonce"];
/// What changes in a payment's life, `call_body` apart.
const LIFE: [&str; 16] = [
    "state",
    "holder",
    "holder_before",
    "hold_until",
    "waits",
    "epoch",
    "redeemed",
    "transaction_hash",
    "since",
    "due",
    "look_at",
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

/// What the database has for keys.
pub(super) type AllLoaded = Vec<(PaymentKey, Result<Loaded, String>)>;

/// A transaction that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// See [`super::store::Place::begin`].
    pub(super) told: u64,
    pub(super) loaded: AllLoaded,
}

/// Begins a transaction of a file and loads these keys, of which it takes [`MOST`].
pub(super) async fn begin_and_load(
    connection: &mut AnyConnection,
    keys: &[&PaymentKey],
) -> Result<Begun, sqlx::Error> {
    let sql = [BEGIN_FILE, ";\n", &load_sql(keys.len(), true)].concat();
    let rows = bind_keys(sqlx::query(AssertSqlSafe(sql)), keys).fetch_all(connection).await?;
    let (version, rows) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Begun { told: unsigned(version.try_get(0)?), loaded: read_loaded(rows, keys)? })
}

/// Loads what the database has for these keys, which are sorted, so that locks are taken in one order.
pub(super) async fn load(
    connection: &mut AnyConnection,
    keys: &[&PaymentKey],
    sqlite: bool,
) -> Result<AllLoaded, sqlx::Error> {
    let mut loaded = Vec::with_capacity(keys.len());
    for keys in keys.chunks(MOST) {
        let query = bind_keys(sqlx::query(AssertSqlSafe(load_sql(keys.len(), sqlite))), keys);
        loaded.extend(read_loaded(&query.fetch_all(&mut *connection).await?, keys)?);
    }
    Ok(loaded)
}

fn load_sql(keys: usize, sqlite: bool) -> String {
    let lock = if sqlite { "" } else { " FOR UPDATE OF payments" };
    format!(
        "WITH wanted (place, network, contract, payer, nonce) AS (VALUES {}) \
         SELECT wanted.place, {LOADED} FROM wanted CROSS JOIN payments WHERE {} ORDER BY wanted.place{lock}",
        Places { sqlite, taken: 0 }.rows(keys.next_power_of_two(), 5),
        same_key("wanted"),
    )
}

/// Binds what [`load_sql`] has places for.
fn bind_keys<'q>(query: Query<'q>, keys: &[&PaymentKey]) -> Query<'q> {
    padded(keys).enumerate().fold(query, |query, (place, key)| {
        bind_key(query.bind(key.map(|_| signed(place as u64))), key.copied())
    })
}

/// Reads what [`load_sql`] gives for these keys.
fn read_loaded(rows: &[AnyRow], keys: &[&PaymentKey]) -> Result<AllLoaded, sqlx::Error> {
    let mut loaded = Vec::with_capacity(rows.len());
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        let Some(key) = keys.get(place) else { continue };
        loaded.push(((*key).clone(), Loaded::read(row, 1, key)));
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

/// Writes a batch: rows, of which those that are deleted come first, as a key may be deleted and added; gauges that only
/// ever rise; counters; and the companion's mark, whose new value this returns. `file` is for SQLite: whether it commits.
pub(super) async fn write(
    connection: &mut AnyConnection,
    companion: &str,
    changes: &Changes<'_>,
    risen: impl Iterator<Item = (&String, &u64)>,
    counters: &Counters,
    file: Option<bool>,
) -> Result<u64, sqlx::Error> {
    let sqlite = file.is_some();
    // In one order, so that two that count at once wait for each other. Only this companion writes its mark, so that may
    // come last.
    let counters = counters.iter().map(|((of, name), value)| (of.as_str(), name.as_str(), *value));
    let counters: Vec<(&str, &str, u64)> = counters.chain([(companion, MARK, 1)]).collect();
    let mut statements: Vec<Statement<'_>> =
        changes.deleted.iter().map(|key| Statement::Delete(key)).collect();
    statements.extend(changes.added.chunks(MOST).map(Statement::Add));
    statements.extend(changes.updated.chunks(MOST).map(Statement::Update));
    statements.extend(risen.map(|(name, value)| Statement::Raise(name, *value)));
    statements.extend(counters.chunks(MOST_COUNTERS).map(Statement::Count));
    statements.extend(file.filter(|commits| *commits).map(|_| Statement::Commit));
    // All at once, which spares ways to the thread that has the connection or to the server. The parts of a statement of
    // a server do not see each other's rows, so there nothing that is deleted may be added in the same one.
    let mut rest = &statements[..];
    if let Some((deletes, others)) = statements.split_at_checked(changes.deleted.len()).filter(|_| !sqlite) {
        for delete in deletes {
            at_once(std::slice::from_ref(delete), companion, sqlite).execute(&mut *connection).await?;
        }
        rest = others;
    }
    let mut mark = 0;
    for row in at_once(rest, companion, sqlite).fetch_all(&mut *connection).await? {
        if row.try_get::<&str, _>(0)? == MARK {
            mark = unsigned(row.try_get(1)?);
        }
    }
    Ok(mark)
}

/// Adds to counters of a companion; gauges rise. Returns those that can grow no more.
pub(super) async fn count(
    connection: &mut AnyConnection,
    companion: &str,
    changes: &BTreeMap<MetricSeries, u64>,
    sqlite: bool,
) -> Result<Vec<String>, sqlx::Error> {
    let (gauges, counters): (Vec<_>, Vec<_>) = changes
        .iter()
        .map(|(series, value)| (series.is_time(), series_name(series), *value))
        .partition(|(is_gauge, ..)| *is_gauge);
    let mut counters: Vec<_> = counters.iter().map(|(_, name, by)| (companion, name.as_str(), *by)).collect();
    counters.sort_unstable();
    let counted = counters.chunks(MOST_COUNTERS).map(Statement::Count);
    let raised = gauges.iter().map(|(_, name, value)| Statement::Raise(name, *value));
    let raised_full = gauges.iter().filter(|(.., value)| *value >= HIGHEST).map(|(_, name, _)| name.clone());
    let mut full: Vec<String> = raised_full.collect();
    for statement in counted.chain(raised) {
        for row in at_once(&[statement], companion, sqlite).fetch_all(&mut *connection).await? {
            if unsigned(row.try_get(1)?) >= HIGHEST {
                full.push(row.try_get(0)?);
            }
        }
    }
    Ok(full)
}

/// One query of these statements. A server tells what the last of them returns.
fn at_once<'q>(statements: &[Statement<'q>], companion: &str, sqlite: bool) -> Query<'q> {
    let mut places = Places { sqlite, taken: 0 };
    let mut sql: Vec<String> = statements.iter().map(|statement| statement.sql(&mut places)).collect();
    let sql = match sql.pop() {
        Some(last) if !sqlite && !sql.is_empty() => {
            let parts = sql.iter().enumerate().map(|(number, sql)| format!("part_{number} AS ({sql})"));
            format!("WITH {} {last}", parts.collect::<Vec<_>>().join(", "))
        }
        last => {
            sql.extend(last);
            sql.join(";\n")
        }
    };
    let query = sqlx::query(AssertSqlSafe(sql));
    statements.iter().fold(query, |query, statement| statement.bind(query, companion))
}

/// A statement of a batch.
enum Statement<'a> {
    /// Whatever the row is. One by one, since SQLite finds several in no index.
    Delete(&'a PaymentKey),
    Add(&'a [(&'a PaymentKey, &'a Row)]),
    Update(&'a [(&'a PaymentKey, &'a Row)]),
    Raise(&'a str, u64),
    Count(&'a [(&'a str, &'a str, u64)]),
    Commit,
}

// === impl Statement ===

impl<'a> Statement<'a> {
    fn sql(&self, places: &mut Places) -> String {
        match self {
            Self::Delete(_) => {
                format!("DELETE FROM payments WHERE ({}) = {}", KEY.join(", "), places.rows(1, KEY.len()))
            }
            Self::Add(rows) => {
                let all = [&KEY[..], &LIFE, &FIXED].concat();
                let columns = all.join(", ");
                format!(
                    "WITH added ({columns}) AS (VALUES {}) \
                     INSERT INTO payments ({columns}) SELECT {columns} FROM added WHERE network IS NOT NULL",
                    places.rows(rows.len().next_power_of_two(), all.len()),
                )
            }
            Self::Update(rows) => {
                let all = [&KEY[..], &LIFE].concat();
                let set = LIFE.map(|column| format!("{column} = changed.{column}")).join(", ");
                format!(
                    "WITH changed ({}, keeps_call) AS (VALUES {}) \
                     UPDATE payments SET {set}, \
                       call_body = CASE changed.keeps_call WHEN 1 THEN payments.call_body END \
                     FROM changed WHERE {}",
                    all.join(", "),
                    places.rows(rows.len().next_power_of_two(), all.len() + 1),
                    same_key("changed"),
                )
            }
            Self::Raise(..) => format!(
                "INSERT INTO counters (companion, series, value) VALUES {} \
                 ON CONFLICT (companion, series) DO UPDATE SET value = excluded.value \
                 WHERE counters.value < excluded.value",
                places.rows(1, 3),
            ),
            Self::Count(some) => format!(
                "INSERT INTO counters (companion, series, value) VALUES {} \
                 ON CONFLICT (companion, series) DO UPDATE SET value = \
                   CASE WHEN counters.value < {HIGHEST} - excluded.value \
                   THEN counters.value + excluded.value ELSE {HIGHEST} END \
                 RETURNING series, value",
                places.rows(some.len(), 3),
            ),
            Self::Commit => "COMMIT".to_owned(),
        }
    }

    /// Binds what [`Self::sql`] has places for, in their order.
    fn bind<'q>(&self, query: Query<'q>, companion: &str) -> Query<'q>
    where
        'a: 'q,
    {
        let counter = |query: Query<'q>, of: &str, name: &str, value: u64| {
            query.bind(of.to_owned()).bind(name.to_owned()).bind(signed(value.min(HIGHEST)))
        };
        match self {
            Self::Delete(key) => bind_key(query, Some(key)),
            Self::Add(rows) => padded(rows).fold(query, |query, row| {
                let query = bind_key(query, row.map(|(key, _)| *key));
                bind_fixed(bind_life(query, row.map(|(_, row)| *row)), row.map(|(_, row)| *row))
            }),
            Self::Update(rows) => padded(rows).fold(query, |query, row| {
                let query = bind_life(bind_key(query, row.map(|(key, _)| *key)), row.map(|(_, row)| *row));
                query.bind(row.map(|(_, row)| i64::from(row.has_call())))
            }),
            Self::Raise(name, value) => counter(query, companion, name, *value),
            Self::Count(some) => {
                some.iter().fold(query, |query, (of, name, value)| counter(query, of, name, *value))
            }
            Self::Commit => query,
        }
    }
}

/// Where the values of a query go.
struct Places {
    sqlite: bool,
    taken: usize,
}

// === impl Places ===

impl Places {
    /// `($1, $2), ($3, $4)` for two rows of two values. SQLite takes such numbers for names, which it looks through for
    /// each value: there they are `(?, ?), (?, ?)`.
    fn rows(&mut self, rows: usize, values: usize) -> String {
        let mut text = String::with_capacity(rows * values * 7);
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ", (" });
            for value in 0..values {
                self.taken += 1;
                text.push_str(if value == 0 { "" } else { ", " });
                if self.sqlite {
                    text.push('?');
                } else {
                    text.push_str(&format!("${}", self.taken));
                }
            }
            text.push(')');
        }
        text
    }
}

/// The rows, and nothing in the places left over.
fn padded<T>(rows: &[T]) -> impl Iterator<Item = Option<&T>> {
    let left_over = rows.len().next_power_of_two() - rows.len();
    rows.iter().map(Some).chain(std::iter::repeat_n(None, left_over))
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
        .bind(row.and_then(|row| row.record.before).map(|before| before.to_string()))
        .bind(hold.map(|hold| signed(hold.until_ms)))
        .bind(flag(Row::waits))
        .bind(row.map(|row| i64::from(row.record.epoch)))
        .bind(flag(|row| row.record.redeemed))
        .bind(row.and_then(|row| text(row.record.transaction.as_deref())))
        .bind(row.map(|row| signed(row.record.since_ms)))
        .bind(row.and_then(Row::due).map(signed))
        .bind(row.and_then(Row::look_at).map(signed))
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
