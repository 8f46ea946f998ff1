//! The terms this companion published. A new payment is taken by the relay for those only, so whoever reaches the relay
//! can use the operator's facilitator for nothing else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use farebox_core::evm::{Address, Amount, Network};
use farebox_core::terms::{PaymentOption, Tuple};
use farebox_pricing::Snapshot;

/// Every way to pay, with the offers it stands or stood for. A proxy may sell for a while by a price that has changed
/// since, so terms are kept for a day after they were last published.
#[derive(Debug, Default)]
pub struct Offered(HashMap<Term, Vec<Life>>);

/// What is paid to whom, for a series of any birth: (network, asset, payTo, amount, series born at 0).
type Term = (Network, Address, Address, Amount, Tuple);

/// A life of a series.
#[derive(Debug)]
struct Life {
    born: u64,
    /// When other rules took its place; `None` while it is published.
    dropped: Option<Instant>,
}

const KEPT: Duration = Duration::from_secs(86_400);

// === impl Offered ===

impl Offered {
    /// Learns the rules that are published from now on. `series` are those of the snapshot, in its order, with the births
    /// that were published.
    pub fn publish(&mut self, snapshot: &Snapshot, series: &[Tuple], now: Instant) {
        for life in self.0.values_mut().flatten() {
            life.dropped = life.dropped.or(Some(now));
        }
        for option in snapshot.routes.iter().flat_map(|route| &route.options) {
            let Some(tuple) = series.get(option.tuple) else { continue };
            let lives = self.0.entry(term(option, tuple)).or_default();
            // The newest is the last.
            lives.retain(|life| life.born != tuple.born);
            lives.push(Life { born: tuple.born, dropped: None });
        }
        self.0.retain(|_, lives| {
            lives.retain(|life| life.dropped.is_none_or(|dropped| now.duration_since(dropped) < KEPT));
            !lives.is_empty()
        });
    }

    /// The series of an offer that can be paid like this: the one that is named, or the newest of its name where
    /// another birth is named. `None` if the offer was not published at these terms.
    pub fn tuple(&self, option: &PaymentOption, named: &Tuple) -> Option<Tuple> {
        let lives = self.0.get(&term(option, named))?;
        let life = lives.iter().find(|life| life.born == named.born).or_else(|| lives.last())?;
        Some(Tuple { born: life.born, ..named.clone() })
    }
}

fn term(option: &PaymentOption, series: &Tuple) -> Term {
    let series = Tuple { born: 0, ..series.clone() };
    (option.network.clone(), option.asset, option.pay_to, option.amount, series)
}

#[cfg(test)]
#[path = "offered_tests.rs"]
mod tests;
