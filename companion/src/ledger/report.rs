//! What was counted beside payments, in reports: each is counted once, whoever tells it again.

use std::collections::BTreeMap;

use farebox_core::metrics::HostSeries;
use sqlx::AnyConnection;

use super::store::signed;
use super::{Ledger, LedgerError, sql};

/// What a reporter counted since its last report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Who counted it. No other has this name.
    pub reporter: String,
    /// Higher than that of every report before.
    pub sequence: u64,
    /// By how much each series grew; of a gauge its value.
    pub changes: BTreeMap<HostSeries, u64>,
}

/// Milliseconds after which a silent reporter is forgotten: a report is told again within seconds, or never.
const FORGET_AFTER: u64 = 7 * 86_400_000;

// === impl Ledger ===

impl Ledger {
    /// Counts a report, unless it is counted already. Returns when it is on disk.
    pub async fn apply(&self, report: &Report) -> Result<(), LedgerError> {
        let now = self.now_ms().await?;
        let is_file = self.is_file();
        self.durably(async |connection| {
            apply(connection, self.companion(), report, now, is_file).await.map(drop)
        })
        .await
    }
}

/// Counts a report in a transaction. Whether it was not counted yet.
pub(super) async fn apply(
    connection: &mut AnyConnection,
    companion: &str,
    report: &Report,
    now_ms: u64,
    is_file: bool,
) -> Result<bool, sqlx::Error> {
    let Report { reporter, sequence, changes } = report;
    // It locks the row: of one report that is told twice at once, the second waits and finds it counted.
    let is_new = sqlx::query(
        "INSERT INTO reporters (companion, reporter, sequence, heard_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (companion, reporter) DO UPDATE SET sequence = excluded.sequence, heard_at = excluded.heard_at \
         WHERE reporters.sequence < excluded.sequence",
    )
    .bind(companion)
    .bind(reporter)
    .bind(signed(*sequence))
    .bind(signed(now_ms))
    .execute(&mut *connection)
    .await?;
    if is_new.rows_affected() == 0 {
        return Ok(false);
    }
    if *sequence == 1 {
        sqlx::query("DELETE FROM reporters WHERE companion = $1 AND heard_at < $2")
            .bind(companion)
            .bind(signed(now_ms.saturating_sub(FORGET_AFTER)))
            .execute(&mut *connection)
            .await?;
    }
    sql::count(connection, companion, changes, is_file).await?;
    Ok(true)
}
