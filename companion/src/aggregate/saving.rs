//! Handing over what changed, and showing only what was saved: a total that was seen and then forgotten would
//! go backwards.

use std::borrow::Cow;

use super::changes::{Change, differences};
use super::rows::Rows;
use super::state::{AggregateState, StateError};
use super::{Aggregate, Totals};

/// Everything to be saved at one moment.
#[derive(Debug)]
pub struct Taken {
    /// Rows that differ from what was taken before.
    pub changes: Vec<Change>,
    totals: Totals,
    loads: u64,
}

/// What an aggregate has handed over; of no use where nobody saves.
#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Keep-set as it was handed over last.
    keep: Rows,
    keep_changed: bool,
    /// Totals of the last saved moment, without what was removed since; `None` where nobody
    /// saves.
    pub(super) shown: Option<Totals>,
    /// Handed over and not shown yet.
    is_due: bool,
    /// Loads applied.
    loads: u64,
}

// === impl Saving ===

impl Saving {
    /// The keep-set may have changed.
    pub(super) const fn keep_changed(&mut self) {
        self.keep_changed = true;
    }

    /// A load was applied.
    pub(super) const fn loaded(&mut self) {
        self.keep_changed = true;
        self.loads += 1;
    }
}

// === impl Aggregate ===

impl Aggregate {
    /// Takes up saved rows, none at the very first start, and remembers from now on what differs from them.
    pub fn restored(rows: &Rows) -> Result<Self, StateError> {
        let mut aggregate = Self::from_state(&AggregateState::from_rows(rows)?)?;
        aggregate.store.changes.begin();
        aggregate.saving.keep_changed();
        if !rows.is_empty() {
            aggregate.saving.keep = AggregateState::of_keep_set(aggregate.keep.save()).to_rows();
        }
        aggregate.saving.shown = Some(aggregate.totals());
        Ok(aggregate)
    }

    /// What is to be saved now. Whoever takes it writes it, or keeps it until it can: it is not given twice.
    /// `None` if nothing changed, and where nobody saves.
    pub fn take_changes(&mut self) -> Option<Taken> {
        if !self.store.changes.are_kept() {
            return None;
        }
        let mut changes = self.store.take_changes();
        if std::mem::take(&mut self.saving.keep_changed) {
            let keep = AggregateState::of_keep_set(self.keep.save()).to_rows();
            changes.extend(differences(&self.saving.keep, &keep));
            self.saving.keep = keep;
        }
        if changes.is_empty() && !self.saving.is_due {
            return None;
        }
        self.saving.is_due = true;
        Some(Taken { changes, totals: self.totals(), loads: self.saving.loads })
    }

    /// Shows what was taken. Rules that were loaded meanwhile may have removed some of it, or begun it anew:
    /// then it is shown when it is taken next.
    pub fn show(&mut self, taken: Taken) {
        if taken.loads == self.saving.loads {
            self.saving.shown = Some(taken.totals);
            self.saving.is_due = false;
        }
    }

    /// What readers may see: everything up to the last saved moment.
    pub fn shown(&self) -> Cow<'_, Totals> {
        self.saving.shown.as_ref().map_or_else(|| Cow::Owned(self.totals()), Cow::Borrowed)
    }
}
