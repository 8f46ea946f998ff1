//! Counts of the requests that reached the origin. They prove that unpaid requests did not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Requests per path, without the query.
#[derive(Debug, Default)]
pub struct Hits {
    counts: Mutex<BTreeMap<String, u64>>,
    /// Paths whose requests are not held any more.
    let_go: Mutex<BTreeSet<String>>,
}

// === impl Hits ===

impl Hits {
    /// Requests for exactly this path.
    pub fn of(&self, path: &str) -> u64 {
        self.with(|hits| hits.get(path).copied().unwrap_or(0))
    }

    /// Requests for all paths.
    pub fn total(&self) -> u64 {
        self.with(|hits| hits.values().sum())
    }

    /// All paths and their counts.
    pub fn all(&self) -> BTreeMap<String, u64> {
        self.with(|hits| hits.clone())
    }

    /// Answers the requests of a path that are held, now and from now on.
    pub fn let_go(&self, path: &str) {
        self.let_go.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
    }

    pub(super) fn is_let_go(&self, path: &str) -> bool {
        self.let_go.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    pub(super) fn count(&self, path: &str) -> u64 {
        self.with(|hits| {
            let hit = hits.entry(path.to_owned()).or_default();
            *hit += 1;
            *hit
        })
    }

    fn with<T>(&self, read: impl FnOnce(&mut BTreeMap<String, u64>) -> T) -> T {
        read(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
