//! The terms this companion ever published. A new payment is taken for those only, so whoever reaches the relay
//! can use the operator's facilitator for nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use farebox_core::evm::{Address, Amount, Network};
use farebox_core::rules::{PaymentOption, Snapshot, Tuple};

/// Every way to pay, with the offers it stood for. A proxy may sell for a while by a price that has changed since,
/// so nothing is taken back.
#[derive(Debug, Default)]
pub(super) struct Published(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    offers: HashMap<Paid, Vec<Tuple>>,
}

/// What is paid to whom: (network, asset, payTo, amount).
type Paid = (Network, Address, Address, Amount);

// === impl Published ===

impl Published {
    pub(super) fn learn(&self, generation: u64, snapshot: &Snapshot) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            return;
        }
        known.generation = generation;
        for option in snapshot.routes.iter().flat_map(|route| &route.options) {
            let Some(tuple) = snapshot.tuples.get(option.tuple) else { continue };
            let tuples = known.offers.entry(paid(option)).or_default();
            // The newest life of a series is the last.
            tuples.retain(|known| known != tuple);
            tuples.push(tuple.clone());
        }
    }

    /// The series of an offer that can be paid like this: the one that is named, or the newest of its name where
    /// another birth is named. `None` if the offer was never published at these terms.
    pub(super) fn tuple(&self, option: &PaymentOption, named: &Tuple) -> Option<Tuple> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tuples = known.offers.get(&paid(option))?;
        let exact = tuples.iter().find(|tuple| *tuple == named);
        let same_name = |tuple: &&Tuple| Tuple { born: named.born, ..(*tuple).clone() } == *named;
        exact.or_else(|| tuples.iter().rev().find(same_name)).cloned()
    }
}

fn paid(option: &PaymentOption) -> Paid {
    (option.network.clone(), option.asset, option.pay_to, option.amount)
}
