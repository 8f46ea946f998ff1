//! The calls to facilitators this companion is making. The reconciliation does not ask about a settlement under way, the
//! end of the companion waits for all of them, and a chain whose facilitator hangs leaves places for the others.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farebox_core::payment::PaymentKey;
use tokio::sync::mpsc;

/// The register of settlements under way, and of payments of each chain that wait for a facilitator.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    settlements: Tally<PaymentKey>,
    chains: Tally<String>,
    /// Most payments of a chain that may wait when one more is to be verified.
    most: usize,
    open: mpsc::Sender<()>,
}

/// One settlement, until this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    _settlement: Counted<PaymentKey>,
    /// All calls are over when the receiver closes.
    _open: mpsc::Sender<()>,
}

/// A payment that waits for a facilitator of its chain, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _counted: Counted<String>,
}

/// How often each is held.
#[derive(Debug)]
struct Tally<K>(Arc<Mutex<HashMap<K, usize>>>);

#[derive(Debug)]
struct Counted<K: Eq + Hash> {
    key: K,
    tally: Tally<K>,
}

// === impl UnderWay ===

impl UnderWay {
    /// An empty register, and what tells when its settlements are over after it is dropped.
    pub(super) fn new(most: usize) -> (Self, mpsc::Receiver<()>) {
        let (open, over) = mpsc::channel(1);
        (Self { settlements: Tally::default(), chains: Tally::default(), most, open }, over)
    }

    pub(super) fn begin(&self, key: &PaymentKey) -> Call {
        Call { _settlement: self.settlements.one_more(key.clone()), _open: self.open.clone() }
    }

    pub(super) fn holds(&self, key: &PaymentKey) -> bool {
        self.settlements.lock().contains_key(key)
    }

    /// A place for a payment that is to be verified. `None` if its chain has too many.
    pub(super) fn verify(&self, chain: &str) -> Option<Place> {
        // A few too many do no harm.
        let waiting = self.chains.lock().get(chain).copied().unwrap_or(0);
        (waiting < self.most).then(|| self.settle(chain))
    }

    /// A place for one that was verified: always.
    pub(super) fn settle(&self, chain: &str) -> Place {
        Place { _counted: self.chains.one_more(chain.to_owned()) }
    }
}

// === impl Tally ===

impl<K: Eq + Hash + Clone> Tally<K> {
    fn one_more(&self, key: K) -> Counted<K> {
        *self.lock().entry(key.clone()).or_default() += 1;
        Counted { key, tally: self.clone() }
    }
}

impl<K> Tally<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Tally<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

// === impl Counted ===

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.tally.lock();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_hangs_takes_no_place_of_another_and_none_of_what_was_verified() {
        let (under_way, _over) = UnderWay::new(2);
        let held = [under_way.verify("a"), under_way.verify("a")];
        assert!(held.iter().all(Option::is_some));
        assert!(under_way.verify("a").is_none());
        assert!(under_way.verify("b").is_some());
        let settling = under_way.settle("a");
        drop(held);
        let held = under_way.verify("a");
        assert!(held.is_some());
        assert!(under_way.verify("a").is_none(), "settlements count");
        drop((settling, held));
        assert!(under_way.chains.lock().is_empty());
    }
}
