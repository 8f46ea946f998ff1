//! What was counted, added up. Proxies, gateway and spools bring reports to the ledger, whose counters are the totals.
//!
//! * [`reports`]: what filters report, `POST /report`.
//! * [`spool`]: files in which a shell that cannot call counts.
//! * [`gather`]: what the companion brings itself, and what a reader of `/metrics` gets.
//! * [`keep`]: which series may exist. The load that removes an offer removes its series.
//! * [`totals`]: counters under the public labels.

pub mod gather;
mod keep;
pub mod reports;
mod spool;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farebox_core::metrics::MetricSeries;
use farebox_core::terms::Tuple;

use crate::handle::Handle;
use crate::ledger::LedgerHealth;
use crate::publish::PublishState;
use crate::rules::RulesState;

pub use gather::Gatherer;
pub use keep::{KeepSet, Keys, Verdict};
#[cfg(test)]
pub use spool::SpoolState;
pub use spool::{Spools, SpoolsState};
pub use totals::{Totals, TupleTotals};

/// The counters that were read last, and which of them are alive.
///
/// A copy is made at once, and says what was there at that moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// `None` before rules were loaded.
    keep: Option<Arc<KeepSet>>,
    /// `None` until they were read: a zero would be read as a restart.
    counters: Option<Arc<BTreeMap<MetricSeries, u64>>>,
    dropped: Dropped,
}

/// The parts that counting asks, and to which it tells what it sees, with its own state.
#[derive(Debug, Clone)]
pub struct CountsParts {
    /// The rules in force.
    pub rules: Handle<RulesState>,
    /// How the ledger is.
    pub ledger: Handle<LedgerHealth>,
    /// The proxies, which say in reports what they enforce.
    pub published: Handle<PublishState>,
    /// What was counted.
    pub counted: Handle<Counts>,
    /// The spools that are read.
    pub spools: Handle<SpoolsState>,
}

/// How often each reason held.
pub type Dropped = BTreeMap<DropReason, u64>;

/// Why something is not counted: `reason` of `reports_dropped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Its tuple or offer is gone.
    Pruned,
    /// It belongs to an earlier life of its tuple.
    StaleGeneration,
    /// Its name, or its line in a spool, cannot be read; or it is money, and the ledger counts that with the payment.
    Malformed,
    /// It could not be reported: a line that could not be written to a spool, or a report a filter had no room to keep.
    Lost,
}

// === impl Counts ===

impl Counts {
    /// Makes `keys` what may exist, each tuple with the generation it was born in: new tuples start at zero, series of
    /// all others go. The only way a series is ever removed.
    pub fn apply(&mut self, births: BTreeMap<Tuple, u64>, offers: BTreeSet<(String, String)>) {
        let keep = KeepSet::new(births, offers);
        if let Some(counters) = &mut self.counters {
            Arc::make_mut(counters).retain(|series, _| keep.judge(series) == Verdict::Kept);
        }
        self.keep = Some(Arc::new(keep));
    }

    /// Takes from changes what is gone, and money unless their sender counts it; says how often each reason for that
    /// holds. `None` before rules were loaded: then it is unknown what may exist.
    pub fn sift(&self, changes: &mut BTreeMap<MetricSeries, u64>, counts_money: bool) -> Option<Dropped> {
        let keep = self.keep.as_ref()?;
        let mut dropped = Dropped::new();
        changes.retain(|series, _| {
            let reason = match keep.judge(series) {
                Verdict::Kept if series.is_money() && !counts_money => DropReason::Malformed,
                Verdict::Kept => return true,
                Verdict::Pruned => DropReason::Pruned,
                Verdict::Stale => DropReason::StaleGeneration,
            };
            *dropped.entry(reason).or_default() += 1;
            false
        });
        Some(dropped)
    }

    /// Takes from changes what is gone, and money, and counts what it takes. Whether it is known what may exist.
    pub fn admit(&mut self, changes: &mut BTreeMap<MetricSeries, u64>) -> bool {
        let dropped = self.sift(changes, false);
        let is_known = dropped.is_some();
        self.drop_more(dropped.unwrap_or_default());
        is_known
    }

    /// Counts what is dropped.
    pub fn drop_more(&mut self, dropped: impl IntoIterator<Item = (DropReason, u64)>) {
        for (reason, how_many) in dropped {
            let known = self.dropped.entry(reason).or_default();
            *known = known.saturating_add(how_many);
        }
    }

    /// Takes the counters of the ledger. Returns those that are gone.
    pub fn read(&mut self, mut counters: BTreeMap<MetricSeries, u64>) -> BTreeSet<MetricSeries> {
        let Some(keep) = &self.keep else { return BTreeSet::new() };
        let gone = counters.extract_if(.., |series, _| keep.judge(series) != Verdict::Kept);
        let gone = gone.map(|(series, _)| series).collect();
        self.counters = Some(Arc::new(counters));
        gone
    }

    /// Whether rules are in force whose counters were not read yet: their families would be missing.
    pub const fn are_unread(&self) -> bool {
        self.keep.is_some() && self.counters.is_none()
    }

    /// Everything added up; nothing until the ledger was read.
    pub fn totals(&self) -> Totals {
        let (Some(keep), Some(counters)) = (&self.keep, &self.counters) else { return Totals::default() };
        let mut totals = Totals::zero(keep);
        for (series, value) in &**counters {
            totals.add(series, *value);
        }
        totals
    }

    /// What was dropped for a reason: `reports_dropped_total`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(&reason).copied().unwrap_or(0)
    }
}

// === impl DropReason ===

impl DropReason {
    /// Every reason, in exposition order.
    pub const ALL: [Self; 4] = [Self::Pruned, Self::StaleGeneration, Self::Malformed, Self::Lost];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pruned => "pruned",
            Self::StaleGeneration => "stale_generation",
            Self::Malformed => "malformed",
            Self::Lost => "lost",
        }
    }
}
