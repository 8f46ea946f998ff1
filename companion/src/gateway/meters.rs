//! What the gateway counts: in memory, by series, until the ledger has it. Money is left out, as the ledger counts it with
//! the payment.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use farebox_core::metrics::{Counted, MetricSeries, Stamp, series_of};
use farebox_core::rules::RuleSet;

use crate::ledger::{Ledger, LedgerError, new_run};

/// Where the gateway counts.
#[derive(Debug)]
pub struct Meters {
    counted: Mutex<BTreeMap<MetricSeries, u64>>,
    /// The report under way, or the one before the next.
    report: tokio::sync::Mutex<Counted>,
}

// === impl Meters ===

impl Meters {
    pub(super) fn new() -> Self {
        let report = Counted { reporter: format!("gateway {}", new_run()), ..Counted::default() };
        Self { counted: Mutex::default(), report: tokio::sync::Mutex::new(report) }
    }

    /// Counts stamps: the one place where the gateway counts anything.
    pub(super) fn count(&self, rules: &RuleSet, stamps: &[Stamp]) {
        let counted = stamps.iter().filter(|stamp| stamp.is_counted_under(rules));
        let growth: Vec<_> = counted.flat_map(|stamp| series_of(stamp, rules)).collect();
        if growth.is_empty() {
            return;
        }
        let mut counts = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        for (series, by) in growth {
            let value = counts.entry(series).or_default();
            *value = value.saturating_add(by);
        }
    }

    /// Has the ledger count what was counted here and is alive. A report that may not have arrived is told again under its
    /// number, and what was counted since waits for the next.
    ///
    /// `sift` takes from what was counted what is gone; it says no while it is unknown what may exist.
    pub async fn report(
        &self,
        ledger: &Ledger,
        sift: impl FnOnce(&mut BTreeMap<MetricSeries, u64>) -> bool,
    ) -> Result<(), LedgerError> {
        let mut report = self.report.lock().await;
        if !report.changes.is_empty() {
            ledger.apply(&report).await?;
            report.changes.clear();
        }
        {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            if !sift(&mut counted) {
                return Ok(());
            }
            report.changes = std::mem::take(&mut *counted);
        }
        if report.changes.is_empty() {
            return Ok(());
        }
        report.sequence += 1;
        ledger.apply(&report).await?;
        report.changes.clear();
        Ok(())
    }

    /// What the ledger has not counted yet.
    #[cfg(test)]
    pub(super) fn counted(&self) -> BTreeMap<MetricSeries, u64> {
        self.counted.lock().unwrap().clone()
    }
}
