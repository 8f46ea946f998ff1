//! The terms this companion published. A new payment is taken by the relay for those only, so whoever reaches the relay
//! can use the operator's facilitator for nothing else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use farebox_core::evm::{Address, Amount, Network};
use farebox_core::rules::{PaymentOption, Snapshot, Tuple};

/// Every way to pay, with the offers it stands or stood for. A proxy may sell for a while by a price that has changed
/// since, so terms are kept for a day after they were last published.
#[derive(Debug, Default)]
pub struct Offered(HashMap<Paid, Vec<Term>>);

/// What is paid to whom: (network, asset, payTo, amount).
type Paid = (Network, Address, Address, Amount);

#[derive(Debug)]
struct Term {
    tuple: Tuple,
    /// When other rules took its place; `None` while it is published.
    dropped: Option<Instant>,
}

const KEPT: Duration = Duration::from_secs(86_400);

// === impl Offered ===

impl Offered {
    /// Learns the rules that are published from now on. `series` are those of the snapshot, in its order, with the births
    /// that were published.
    pub fn publish(&mut self, snapshot: &Snapshot, series: &[Tuple], now: Instant) {
        for term in self.0.values_mut().flatten() {
            term.dropped = term.dropped.or(Some(now));
        }
        for option in snapshot.routes.iter().flat_map(|route| &route.options) {
            let Some(tuple) = series.get(option.tuple) else { continue };
            let terms = self.0.entry(paid(option)).or_default();
            // The newest life of a series is the last.
            terms.retain(|term| term.tuple != *tuple);
            terms.push(Term { tuple: tuple.clone(), dropped: None });
        }
        self.0.retain(|_, terms| {
            terms.retain(|term| term.dropped.is_none_or(|dropped| now.duration_since(dropped) < KEPT));
            !terms.is_empty()
        });
    }

    /// The series of an offer that can be paid like this: the one that is named, or the newest of its name where
    /// another birth is named. `None` if the offer was not published at these terms.
    pub fn tuple(&self, option: &PaymentOption, named: &Tuple) -> Option<Tuple> {
        let tuples = || self.0.get(&paid(option)).into_iter().flatten().map(|term| &term.tuple);
        let same_name = |tuple: &&Tuple| Tuple { born: named.born, ..(*tuple).clone() } == *named;
        tuples().find(|tuple| *tuple == named).or_else(|| tuples().rev().find(same_name)).cloned()
    }
}

fn paid(option: &PaymentOption) -> Paid {
    (option.network.clone(), option.asset, option.pay_to, option.amount)
}

#[cfg(test)]
#[path = "offered_tests.rs"]
mod tests;
