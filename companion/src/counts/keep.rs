//! Which series may exist: the tuples and offers of the active rules, each tuple with the generation in which
//! its present life began.

use std::collections::{BTreeMap, BTreeSet};

use farebox_core::metrics::MetricSeries;
use farebox_core::terms::Tuple;
use farebox_pricing::Snapshot;

/// What a load keeps alive. Tuples have `born` 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Tuples of every option of every paid route.
    pub tuples: BTreeSet<Tuple>,
    /// (offer_namespace, offer_name) of every route, also skipped ones.
    pub offers: BTreeSet<(String, String)>,
}

/// The keys of the active rules, with the births that were published.
#[derive(Debug, Default)]
pub struct KeepSet {
    births: BTreeMap<Tuple, u64>,
    offers: BTreeSet<(String, String)>,
}

/// Whether a series may be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to a living tuple or offer, or to none.
    Kept,
    /// Its tuple or offer is gone.
    Pruned,
    /// Its tuple lives, but this belongs to an earlier life.
    Stale,
}

// === impl Keys ===

impl Keys {
    /// The birth of each tuple under rules of this generation, where these were `known` before.
    pub fn births(&self, generation: u64, known: &BTreeMap<Tuple, u64>) -> BTreeMap<Tuple, u64> {
        let born = |tuple: &Tuple| known.get(tuple).copied().unwrap_or(generation);
        self.tuples.iter().map(|tuple| (tuple.clone(), born(tuple))).collect()
    }
}

impl From<&Snapshot> for Keys {
    fn from(snapshot: &Snapshot) -> Self {
        let owned = |(namespace, name): (&str, &str)| (namespace.to_owned(), name.to_owned());
        Self { tuples: snapshot.keep_set(), offers: snapshot.offers().into_iter().map(owned).collect() }
    }
}

// === impl KeepSet ===

impl KeepSet {
    /// Of tuples (`born` 0) with their births, and of offers.
    pub const fn new(births: BTreeMap<Tuple, u64>, offers: BTreeSet<(String, String)>) -> Self {
        Self { births, offers }
    }

    /// Living tuples, `born` 0.
    pub(super) fn tuples(&self) -> impl Iterator<Item = &Tuple> {
        self.births.keys()
    }

    /// Judges a series.
    pub fn judge(&self, series: &MetricSeries) -> Verdict {
        match series {
            MetricSeries::Tuple(tuple, _)
            | MetricSeries::Charged(tuple, _)
            | MetricSeries::LastSuccess(tuple) => {
                match self.births.get(&Tuple { born: 0, ..tuple.clone() }) {
                    Some(born) if tuple.born >= *born => Verdict::Kept,
                    Some(_) => Verdict::Stale,
                    None => Verdict::Pruned,
                }
            }
            MetricSeries::Blocked(namespace, name, _) => {
                let unknown = namespace.is_empty() && name.is_empty();
                let key = (namespace.clone(), name.clone());
                if unknown || self.offers.contains(&key) { Verdict::Kept } else { Verdict::Pruned }
            }
            MetricSeries::CallBucket(..) | MetricSeries::CallMillis(..) | MetricSeries::ConfigGeneration => {
                Verdict::Kept
            }
        }
    }
}
