//! The counts of the gateway: in memory, by series, until the ledger has them. Money is not among them, because the ledger
//! counts money with the payment.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use farebox_core::metrics::{Counted, MetricSeries, Stamp, series_of};
use farebox_core::rules::RuleSet;

use crate::ledger::{Ledger, LedgerError, new_run};

/// The counters of the gateway.
#[derive(Debug)]
pub struct Meters {
    counted: Mutex<BTreeMap<MetricSeries, u64>>,
    /// The current report, or the last one.
    report: tokio::sync::Mutex<Counted>,
}

// === impl Meters ===

impl Meters {
    pub(super) fn new() -> Self {
        let report = Counted { reporter: format!("gateway {}", new_run()), ..Counted::default() };
        Self { counted: Mutex::default(), report: tokio::sync::Mutex::new(report) }
    }

    /// Counts stamps. All counting of the gateway happens here.
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

    /// Reports the counts of live series to the ledger. A report that may not have arrived is sent again under its number,
    /// and newer counts wait for the next report.
    ///
    /// `sift` removes series of removed offers from the counts. It returns false while the live series are not known.
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

    /// The counts that the ledger does not have yet.
    #[cfg(test)]
    pub(super) fn counted(&self) -> BTreeMap<MetricSeries, u64> {
        self.counted.lock().unwrap().clone()
    }
}
