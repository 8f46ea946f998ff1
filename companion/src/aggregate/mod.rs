//! Adding up what the proxies counted, and forgetting the series of offers that are gone.
//!
//! A proxy reports cumulative values. Each is identified by (source, process, series, born), so a value read
//! twice changes nothing, a lost reading costs freshness only, and a proxy that was away goes on where it was.
//! A total is what every [`Process`] contributes plus what is over for good. Where it cannot be known whether
//! something was counted already, it is not counted again. Which series may exist is decided by the
//! [`KeepSet`] alone, replaced at each applied load.
//!
//! [`Aggregate::to_state`] and [`Aggregate::from_state`] carry all of it over the end of the companion, as
//! [`Rows`]. Where somebody saves them ([`Aggregate::restored`]), [`Aggregate::take_changes`] gives only those
//! that changed, and readers see what was saved.

mod changes;
#[cfg(test)]
mod fleet_tests;
mod keep;
mod life;
mod process;
mod rows;
mod saving;
#[cfg(test)]
mod saving_tests;
mod state;
#[cfg(test)]
mod state_tests;
mod store;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::BTreeMap;

use farebox_core::metrics::HostSeries;
use farebox_core::rules::Tuple;

pub use changes::Change;
pub use keep::{KeepSet, Keys, Verdict};
pub use process::{Interval, Process};
pub use rows::{Kind, RowKey, Rows};
pub use saving::Taken;
pub use state::{AggregateState, StateError};
pub use store::{DropReason, Refused, Report};
pub use totals::{CallTotals, Totals, TupleTotals};

use saving::Saving;
use store::Store;

/// Every series of every source, and which of them are alive.
#[derive(Debug, Default)]
pub struct Aggregate {
    keep: KeepSet,
    store: Store,
    /// Readings before the first load, the last one of each process.
    early: Vec<(String, Report)>,
    saving: Saving,
}

/// Readings of one source that wait for the first load.
const MAX_EARLY_OF_SOURCE: usize = 8;

// === impl Aggregate ===

impl Aggregate {
    /// Takes the births that were published, if there are any, for those it was saved with: proxies count
    /// under what was published, and a state may have been saved before.
    #[must_use]
    pub fn published(mut self, births: Option<BTreeMap<Tuple, u64>>) -> Self {
        if births.is_some() {
            self.keep.restore(births);
            self.saving.keep_changed();
        }
        self
    }

    /// The births a load of `keys` under `generation` gives, without applying it.
    pub fn births(&self, generation: u64, keys: &Keys) -> BTreeMap<Tuple, u64> {
        self.keep.births_of(generation, keys)
    }

    /// Makes `keys` the keep-set of `generation`: new tuples start at zero, series of all others go. The only
    /// way a series is ever removed. Returns how many tuples went.
    pub fn apply(&mut self, generation: u64, keys: Keys) -> usize {
        let is_first = !self.keep.is_loaded();
        let removed = self.keep.replace(generation, keys);
        self.store.prune(&self.keep);
        self.saving.loaded();
        if let Some(mut shown) = self.saving.shown.take() {
            // Births that were published later than the rows were saved may have ended what these show.
            shown = if is_first { self.totals() } else { shown.kept(&self.keep) };
            self.saving.shown = Some(shown);
        }
        for (source, mut early) in std::mem::take(&mut self.early) {
            // What is to be refused is refused with the next reading, whose caller logs it.
            early.values.retain(|(series, _)| self.keep.judge(series) == Verdict::Kept);
            early.malformed.clear();
            self.store.ingest(&source, early, &self.keep);
        }
        removed
    }

    /// Takes one reading of a source. Returns what was refused for the first time, for the log. Until the first
    /// load nobody knows which series may exist: readings wait for it, so that totals that go on after a restart
    /// are never seen at zero.
    pub fn ingest(&mut self, source: &str, report: Report) -> Vec<Refused> {
        if !self.keep.is_loaded() {
            self.wait(source, report);
            return Vec::new();
        }
        self.store.ingest(source, report, &self.keep)
    }

    /// Forgets removals that every source has heard of. `enforced` is the lowest generation of a source that
    /// may still report; `None` if there is no such source.
    pub fn forget_removals(&mut self, enforced: Option<u64>) {
        if self.keep.forget_removals(enforced) {
            self.saving.keep_changed();
        }
    }

    /// Whether a series may be counted.
    pub fn keeps(&self, series: &HostSeries) -> bool {
        self.keep.judge(series) == Verdict::Kept
    }

    /// Bounds what is kept of proxies that have been silent for long. Their totals stay.
    pub fn forget_silent(&mut self, now: u64) {
        self.store.forget_silent(now);
    }

    fn wait(&mut self, source: &str, report: Report) {
        let replaced = |(name, early): &(String, Report)| {
            name == source && early.process.distance(&report.process).is_some()
        };
        self.early.retain(|early| !replaced(early));
        if self.early.iter().filter(|(name, _)| name == source).count() < MAX_EARLY_OF_SOURCE {
            self.early.push((source.to_owned(), report));
        }
    }

    /// Everything added up.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::zero(&self.keep);
        self.store.for_each(|series: &HostSeries, value| totals.add(series, value));
        totals.dropped.clone_from(&self.store.dropped);
        self.store.for_each_latest(|tuple, seconds| totals.latest(tuple, seconds));
        totals
    }
}
