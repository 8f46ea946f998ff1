//! The totals of a companion, beside the payments they are made of. What the rows say is the aggregate's
//! affair; here they are rows.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::store::{Query, signed};
use super::{Ledger, LedgerError};
use crate::aggregate::{Kind, RowKey, Rows, StateError};

/// The right of one run of a companion to write its totals, and how far it has read its spools.
#[derive(Debug, Clone)]
pub struct TotalsOf {
    pub(super) ledger: Ledger,
    /// Names the run.
    run: String,
}

/// A row nobody but this module knows: the run that may write.
const WRITER: &str = "writer";
/// Rows of one statement. Databases bound the values it may have.
const BATCH: usize = 200;

// === impl Ledger ===

impl Ledger {
    /// The saved totals of this companion. Of all its runs only the one that asked last may write them: where
    /// an old one still runs when the next has begun, one of them would undo what the other wrote.
    pub async fn take_over_totals(&self) -> Result<(TotalsOf, Rows), LedgerError> {
        let run = new_run();
        let rows = self
            .durably(async |connection| {
                sqlx::query(
                    "INSERT INTO totals (companion, kind, source, life, name, value) \
                     VALUES ($1, $2, '', 0, '', $3) \
                     ON CONFLICT (companion, kind, source, life, name) DO UPDATE SET value = excluded.value",
                )
                .bind(self.companion())
                .bind(WRITER)
                .bind(&run)
                .execute(&mut *connection)
                .await?;
                sqlx::query(
                    "SELECT kind, source, life, name, value FROM totals WHERE companion = $1 AND kind <> $2",
                )
                .bind(self.companion())
                .bind(WRITER)
                .fetch_all(connection)
                .await
            })
            .await?;
        let mut read = Rows::new();
        for row in &rows {
            let (key, value) = read_row(row).map_err(|cause| self.unusable_totals(&cause))?;
            read.insert(key, value);
        }
        Ok((TotalsOf { ledger: self.clone(), run }, read))
    }

    /// Says what to do about totals that cannot be taken up.
    pub fn unusable_totals(&self, cause: &StateError) -> LedgerError {
        LedgerError::Totals {
            url: self.url(),
            companion: self.companion().to_owned(),
            cause: cause.to_string(),
        }
    }
}

// === impl TotalsOf ===

impl TotalsOf {
    /// Writes all of these or none. Returns when they are on disk.
    pub async fn save<'a>(
        &self,
        changes: impl ExactSizeIterator<Item = (&'a RowKey, &'a Option<String>)>,
    ) -> Result<(), LedgerError> {
        let (mut written, mut deleted) = (Vec::with_capacity(changes.len()), Vec::new());
        for (key, value) in changes {
            match value {
                Some(value) => written.push((key, value)),
                None => deleted.push(key),
            }
        }
        self.durably(async |companion, connection| {
            for rows in deleted.chunks(BATCH) {
                delete(companion, rows).execute(&mut *connection).await?;
            }
            for rows in written.chunks(BATCH) {
                write(companion, rows).execute(&mut *connection).await?;
            }
            Ok(())
        })
        .await
    }

    /// Runs `step`, with the companion's name, in a transaction that is on disk when this returns; not if
    /// another run has taken over.
    pub(super) async fn durably<T: Send>(
        &self,
        step: impl AsyncFnOnce(&str, &mut AnyConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, LedgerError> {
        let companion = self.ledger.companion();
        let stepped = self
            .ledger
            .durably(async |connection| {
                // Locks the row: whoever takes over waits for the end of this.
                let ours = sqlx::query(
                    "UPDATE totals SET value = value WHERE companion = $1 AND kind = $2 AND value = $3",
                )
                .bind(companion)
                .bind(WRITER)
                .bind(&self.run)
                .execute(&mut *connection)
                .await?;
                if ours.rows_affected() == 0 {
                    return Ok(None);
                }
                step(companion, connection).await.map(Some)
            })
            .await?;
        stepped.ok_or_else(|| LedgerError::Superseded { companion: companion.to_owned() })
    }
}

fn write<'q>(companion: &'q str, rows: &[(&'q RowKey, &'q String)]) -> Query<'q> {
    let sql = format!(
        "INSERT INTO totals (companion, kind, source, life, name, value) VALUES {} \
         ON CONFLICT (companion, kind, source, life, name) DO UPDATE SET value = excluded.value",
        places(rows.len(), 5, "$1, ")
    );
    // Nothing of it comes from elsewhere: it has as many places as there are rows.
    let query = sqlx::query(AssertSqlSafe(sql)).bind(companion);
    rows.iter().fold(query, |query, (key, value)| bind(query, key).bind(*value))
}

fn delete<'q>(companion: &'q str, rows: &[&'q RowKey]) -> Query<'q> {
    let sql = format!(
        "DELETE FROM totals WHERE companion = $1 AND (kind, source, life, name) IN (VALUES {})",
        places(rows.len(), 4, "")
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(companion);
    rows.iter().fold(query, |query, key| bind(query, key))
}

/// `(FIRST$2, $3), (FIRST$4, $5)` for two rows of two values.
fn places(rows: usize, values: usize, first: &str) -> String {
    let row = |row: usize| {
        let places = (0..values).map(|value| format!("${}", 2 + row * values + value));
        format!("({first}{})", places.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

fn bind<'q>(query: Query<'q>, key: &'q RowKey) -> Query<'q> {
    query.bind(key.kind.as_str()).bind(&key.source).bind(signed(key.life)).bind(&key.name)
}

fn read_row(row: &AnyRow) -> Result<(RowKey, String), StateError> {
    let text = |column: &str| {
        let text = row.try_get::<String, _>(column);
        text.map_err(|error| StateError::Unreadable(error.to_string()))
    };
    let kind = text("kind")?;
    let kind = Kind::parse(&kind).ok_or(StateError::Unreadable(kind))?;
    let life: i64 = row.try_get("life").map_err(|error| StateError::Unreadable(error.to_string()))?;
    let life = u64::try_from(life).map_err(|_| StateError::Unreadable(life.to_string()))?;
    Ok((RowKey { kind, source: text("source")?, life, name: text("name")? }, text("value")?))
}

/// A name no other run has.
pub(crate) fn new_run() -> String {
    use std::hash::{BuildHasher, RandomState};

    let now = crate::state::unix_millis();
    format!("{now}-{:016x}", RandomState::new().hash_one((now, std::process::id())))
}
