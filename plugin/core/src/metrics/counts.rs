//! The counts of a shell that are not reported yet. They are kept by position, so that counting is one addition. Names
//! are made only for a report.

use super::{
    BlockedReason, CallOutcome, DURATION_BUCKETS, MetricSeries, Stamp, TupleCounter, grow, histogram_bucket,
};
use crate::protocol::Operation;
use crate::rules::{RuleSet, TupleIndex, Unseeded};
use std::collections::HashMap;

/// Amounts of one rule set.
#[derive(Debug, Default)]
pub struct Counts {
    /// Positions and their amounts.
    moved: Vec<(u32, u64)>,
    /// Index of each position in `moved`.
    places: HashMap<u32, u32, Unseeded>,
}

/// Positions of one rule set: first those of every tuple, then charges, blocked requests of every offer and of none,
/// and calls.
struct Layout {
    charges: usize,
    blocked: usize,
    calls: usize,
}

/// Counters of a tuple, and the time of its last charge.
const OF_TUPLE: usize = TupleCounter::COUNT + 1;
/// A counter for each bound, one for longer calls, and the sum of their times.
const OF_CALL: usize = DURATION_BUCKETS.len() + 2;

// === impl Counts ===

impl Counts {
    /// Counts a stamp of these rules.
    pub fn add(&mut self, stamp: &Stamp, rules: &RuleSet) {
        let layout = Layout::of(rules);
        for (position, amount) in layout.positions(stamp, rules).into_iter().flatten() {
            let place = *self.places.entry(position).or_insert_with(|| {
                self.moved.push((position, 0));
                self.moved.len() as u32 - 1
            });
            if let Some((_, known)) = self.moved.get_mut(place as usize) {
                grow(known, amount, layout.is_time(position as usize));
            }
        }
    }
    /// Whether there is nothing to report.
    pub const fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }
    /// Takes one series with its amount, or with the time to set; `None` once nothing is left.
    pub fn take(&mut self, rules: &RuleSet) -> Option<(MetricSeries, u64)> {
        loop {
            let (position, amount) = self.moved.pop()?;
            self.places.remove(&position);
            if let Some(series) = Layout::of(rules).series(position as usize, rules) {
                return Some((series, amount));
            }
        }
    }
}

// === impl Layout ===

impl Layout {
    fn of(rules: &RuleSet) -> Self {
        let charges = rules.tuples.len() * OF_TUPLE;
        let blocked = charges + rules.charges.len();
        Self { charges, blocked, calls: blocked + (rules.offers.len() + 1) * BlockedReason::COUNT }
    }

    /// The positions of a stamp, with the amounts. None for a stamp of other rules, whose indexes these rules do not
    /// have.
    fn positions(&self, stamp: &Stamp, rules: &RuleSet) -> [Option<(u32, u64)>; 2] {
        let tuple = |index: TupleIndex, place: usize| {
            ((index.0 as usize) < rules.tuples.len()).then_some(index.0 as usize * OF_TUPLE + place)
        };
        let one = |position: Option<usize>, amount| [position.and_then(|it| of(it, amount)), None];
        match stamp {
            Stamp::Tuple(index, counter) => one(tuple(*index, counter.index()), 1),
            Stamp::LastSuccess(index, seconds) => one(tuple(*index, TupleCounter::COUNT), *seconds),
            Stamp::Charged(charge) => {
                let charge = charge.0 as usize;
                one((charge < rules.charges.len()).then_some(self.charges + charge), 1)
            }
            Stamp::Blocked(offer, reason) => {
                // Counters without an offer come last.
                let offer = match offer {
                    Some(offer) => Some(offer.0 as usize).filter(|offer| *offer < rules.offers.len()),
                    None => Some(rules.offers.len()),
                };
                let position = |offer| self.blocked + offer * BlockedReason::COUNT + reason.index();
                one(offer.map(position), 1)
            }
            Stamp::Call(operation, outcome, millis) => {
                let operation = usize::from(*operation == Operation::Settle);
                let call = self.calls + (operation * CallOutcome::COUNT + outcome.index()) * OF_CALL;
                [of(call + histogram_bucket(*millis), 1), of(call + OF_CALL - 1, *millis)]
            }
        }
    }

    /// The series at a position.
    fn series(&self, position: usize, rules: &RuleSet) -> Option<MetricSeries> {
        let tuple = |index: usize| rules.tuples.get(index).cloned();
        if position < self.charges {
            let (tuple, place) = (tuple(position / OF_TUPLE)?, position % OF_TUPLE);
            return Some(match TupleCounter::all().nth(place) {
                Some(counter) => MetricSeries::Tuple(tuple, counter),
                None => MetricSeries::LastSuccess(tuple),
            });
        }
        if position < self.blocked {
            let (index, amount) = rules.charges.get(position - self.charges)?;
            return Some(MetricSeries::Charged(tuple(index.0 as usize)?, *amount));
        }
        if position < self.calls {
            let position = position - self.blocked;
            let (namespace, name) =
                rules.offers.get(position / BlockedReason::COUNT).cloned().unwrap_or_default();
            let reason = *BlockedReason::ALL.get(position % BlockedReason::COUNT)?;
            return Some(MetricSeries::Blocked(namespace, name, reason));
        }
        let position = position - self.calls;
        let (call, place) = (position / OF_CALL, position % OF_CALL);
        let operation = *[Operation::Verify, Operation::Settle].get(call / CallOutcome::COUNT)?;
        let outcome = *CallOutcome::ALL.get(call % CallOutcome::COUNT)?;
        Some(if place == OF_CALL - 1 {
            MetricSeries::CallMillis(operation, outcome)
        } else {
            MetricSeries::CallBucket(operation, outcome, place)
        })
    }

    const fn is_time(&self, position: usize) -> bool {
        position < self.charges && position % OF_TUPLE == TupleCounter::COUNT
    }
}

fn of(position: usize, amount: u64) -> Option<(u32, u64)> {
    Some((u32::try_from(position).ok()?, amount))
}

/// The series that a stamp changes under a rule set, with the increment; two for a call (bucket and sum). For
/// [`MetricSeries::LastSuccess`], a gauge, the number is the value to set. A stamp of another rule set, whose indexes
/// this one does not have, gives an empty list.
pub fn series_of(stamp: &Stamp, rules: &RuleSet) -> Vec<(MetricSeries, u64)> {
    let layout = Layout::of(rules);
    let positions = layout.positions(stamp, rules).into_iter().flatten();
    positions
        .filter_map(|(position, amount)| Some((layout.series(position as usize, rules)?, amount)))
        .collect()
}

#[cfg(test)]
#[path = "counts_tests.rs"]
mod tests;
