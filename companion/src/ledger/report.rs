//! What was counted beside payments, in reports: each is counted once, whoever tells it again, and to whichever companion.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::metrics::{Counted, MetricSeries, grow, read_series_name, series_name};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::sql::MARK;
use super::store::{signed, unsigned};
use super::{Ledger, LedgerError, sql};

/// Milliseconds after which a silent reporter is forgotten: a report is told again within seconds, or never.
const FORGET_AFTER: u64 = 7 * 86_400_000;
/// Series that are deleted at once. Payments wait for a transaction of a file.
const AT_ONCE: usize = 200;

// === impl Ledger ===

impl Ledger {
    /// Counts a report, unless it is counted already. Whether it was not. Returns when it is on disk.
    pub async fn apply(&self, report: &Counted) -> Result<bool, LedgerError> {
        let now = self.now_ms().await?;
        self.durably(async |connection| apply(self, connection, report, now).await).await
    }

    /// The counters of all companions, added up. Names that cannot be read are left out.
    pub async fn counters(&self) -> Result<BTreeMap<MetricSeries, u64>, LedgerError> {
        let seen = self.seen();
        let rows = sqlx::query("SELECT companion, series, value FROM counters")
            .fetch_all(&mut *self.connection().await?)
            .await?;
        let (mut counters, mut mark) = (BTreeMap::new(), 0);
        for row in &rows {
            let (name, value) = (row.try_get::<&str, _>("series")?, unsigned(row.try_get("value")?));
            match read_series_name(name) {
                Some(series) => {
                    let is_time = series.is_time();
                    grow(counters.entry(series).or_default(), value, is_time);
                }
                None if name == MARK && row.try_get::<&str, _>("companion")? == self.companion() => {
                    mark = value;
                }
                None => {}
            }
        }
        self.look_at_mark(mark, seen);
        Ok(counters)
    }

    /// Deletes counters, of whichever companion.
    pub async fn forget_counters(&self, gone: &BTreeSet<MetricSeries>) -> Result<(), LedgerError> {
        let names: Vec<String> = gone.iter().map(series_name).collect();
        for names in names.chunks(AT_ONCE) {
            let places: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
            let sql = format!("DELETE FROM counters WHERE series IN ({})", places.join(", "));
            self.durably(async |connection| {
                // Nothing of it comes from elsewhere: it has as many places as there are names.
                let query = sqlx::query(AssertSqlSafe(sql));
                let query = names.iter().fold(query, |query, name| query.bind(name.clone()));
                query.execute(connection).await.map(drop)
            })
            .await?;
        }
        Ok(())
    }
}

/// Counts a report in a transaction. Whether it was not counted yet.
pub(super) async fn apply(
    ledger: &Ledger,
    connection: &mut AnyConnection,
    report: &Counted,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    // It locks the row: of one report that is told twice at once, the second waits and finds it counted.
    let is_new = sqlx::query(
        "INSERT INTO reporters (reporter, sequence, heard_at) VALUES ($1, $2, $3) \
         ON CONFLICT (reporter) DO UPDATE SET sequence = excluded.sequence, heard_at = excluded.heard_at \
         WHERE reporters.sequence < excluded.sequence",
    )
    .bind(report.reporter.as_str())
    .bind(signed(report.sequence))
    .bind(signed(now_ms))
    .execute(&mut *connection)
    .await?;
    if is_new.rows_affected() == 0 {
        return Ok(false);
    }
    if report.sequence == 1 {
        sqlx::query("DELETE FROM reporters WHERE heard_at < $1")
            .bind(signed(now_ms.saturating_sub(FORGET_AFTER)))
            .execute(&mut *connection)
            .await?;
    }
    let full = sql::count(connection, ledger.companion(), &report.changes, ledger.is_file()).await?;
    ledger.are_full(&report.reporter, full);
    Ok(true)
}
