//! Which series may exist: the tuples and offers of the active rules, each tuple with the generation in which
//! its present life began.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::metrics::HostSeries;
use farebox_core::rules::{Snapshot, Tuple};

/// What a load keeps alive. Tuples have `born` 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Tuples of every option of every paid route.
    pub tuples: BTreeSet<Tuple>,
    /// (offer_namespace, offer_name) of every route, also skipped ones.
    pub offers: BTreeSet<(String, String)>,
}

/// The keys of the active rules, and the removals that late reports may still contradict.
#[derive(Debug, Default)]
pub struct KeepSet {
    births: BTreeMap<Tuple, u64>,
    offers: BTreeSet<(String, String)>,
    /// Removed tuples with the generation that removed them: they explain refusals.
    removals: BTreeMap<Tuple, u64>,
    start: Start,
}

/// How tuples of the first load are born.
#[derive(Debug, Default)]
enum Start {
    /// Nothing is known of an earlier run: everything proxies still hold is accepted.
    #[default]
    Fresh,
    /// An earlier run published these births: lives go on.
    Restored(BTreeMap<Tuple, u64>),
    /// A load was applied.
    Over,
}

/// Whether a reported series may be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to a living tuple or offer, or to none.
    Kept,
    /// Its tuple or offer is gone, since this generation if that is still known.
    Pruned(Option<u64>),
    /// Its tuple lives, but this value belongs to an earlier life.
    Stale,
}

/// What of a keep-set outlives the companion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SavedKeys {
    /// `None` if nothing was ever loaded.
    pub(super) births: Option<BTreeMap<Tuple, u64>>,
    pub(super) offers: BTreeSet<(String, String)>,
    pub(super) removals: BTreeMap<Tuple, u64>,
}

// === impl Keys ===

impl From<&Snapshot> for Keys {
    fn from(snapshot: &Snapshot) -> Self {
        let owned = |(namespace, name): (&str, &str)| (namespace.to_owned(), name.to_owned());
        Self { tuples: snapshot.keep_set(), offers: snapshot.offers().into_iter().map(owned).collect() }
    }
}

// === impl KeepSet ===

impl KeepSet {
    /// Births that an earlier run knew. For a keep-set before its first load.
    pub(super) fn restore(&mut self, births: Option<BTreeMap<Tuple, u64>>) {
        self.start = births.map_or(Start::Fresh, Start::Restored);
    }

    pub(super) fn save(&self) -> SavedKeys {
        let births = match &self.start {
            Start::Fresh => None,
            Start::Restored(births) => Some(births.clone()),
            Start::Over => Some(self.births.clone()),
        };
        SavedKeys { births, offers: self.offers.clone(), removals: self.removals.clone() }
    }

    pub(super) fn load(saved: SavedKeys) -> Self {
        let SavedKeys { births, offers, removals } = saved;
        // Totals show what lived until rules are loaded.
        let living = births.clone().unwrap_or_default();
        let mut keep = Self { births: living, offers, removals, ..Self::default() };
        keep.restore(births);
        keep
    }

    pub(super) const fn is_loaded(&self) -> bool {
        matches!(self.start, Start::Over)
    }

    pub(super) fn births_of(&self, generation: u64, keys: &Keys) -> BTreeMap<Tuple, u64> {
        let known = match &self.start {
            Start::Fresh => return keys.tuples.iter().map(|tuple| (tuple.clone(), 0)).collect(),
            Start::Restored(births) => births,
            Start::Over => &self.births,
        };
        let born = |tuple: &Tuple| known.get(tuple).copied().unwrap_or(generation);
        keys.tuples.iter().map(|tuple| (tuple.clone(), born(tuple))).collect()
    }

    /// Returns how many tuples are gone.
    pub(super) fn replace(&mut self, generation: u64, keys: Keys) -> usize {
        let births = self.births_of(generation, &keys);
        let mut before = std::mem::replace(&mut self.births, births);
        if let Start::Restored(births) = std::mem::replace(&mut self.start, Start::Over) {
            before = births;
        }
        self.removals.retain(|tuple, _| !keys.tuples.contains(tuple));
        let removed: Vec<Tuple> = before.into_keys().filter(|tuple| !keys.tuples.contains(tuple)).collect();
        let count = removed.len();
        self.removals.extend(removed.into_iter().map(|tuple| (tuple, generation)));
        self.offers = keys.offers;
        count
    }

    /// Whether there were any to forget.
    pub(super) fn forget_removals(&mut self, enforced: Option<u64>) -> bool {
        let before = self.removals.len();
        self.removals.retain(|_, removed| enforced.is_some_and(|enforced| enforced < *removed));
        self.removals.len() < before
    }

    /// Living tuples, `born` 0.
    pub(super) fn tuples(&self) -> impl Iterator<Item = &Tuple> {
        self.births.keys()
    }

    /// Whether a tuple (`born` 0) lives.
    pub(super) fn holds(&self, tuple: &Tuple) -> bool {
        self.births.contains_key(tuple)
    }

    /// Judges a series as a proxy reports it.
    pub fn judge(&self, series: &HostSeries) -> Verdict {
        match series {
            HostSeries::Tuple(tuple, _) | HostSeries::Charged(tuple, _) | HostSeries::LastSuccess(tuple) => {
                let key = Tuple { born: 0, ..tuple.clone() };
                match self.births.get(&key) {
                    Some(born) if tuple.born >= *born => Verdict::Kept,
                    Some(_) => Verdict::Stale,
                    None => Verdict::Pruned(self.removals.get(&key).copied()),
                }
            }
            HostSeries::Blocked(namespace, name, _) => {
                let unknown = namespace.is_empty() && name.is_empty();
                let key = (namespace.clone(), name.clone());
                if unknown || self.offers.contains(&key) { Verdict::Kept } else { Verdict::Pruned(None) }
            }
            HostSeries::CallBucket(..) | HostSeries::CallMillis(..) | HostSeries::ConfigGeneration => {
                Verdict::Kept
            }
        }
    }
}
