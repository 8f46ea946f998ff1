//! The terms that this companion published. The relay takes a new payment only for these terms, so a caller of the relay
//! cannot use the operator's facilitator for other sales.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use farebox_core::evm::{Address, Amount, Network};
use farebox_core::terms::{PaymentOption, Tuple};
use farebox_pricing::Snapshot;

/// Every way to pay, with its offers. Terms are kept for a day after they were last published, because a proxy may still
/// sell at an old price.
#[derive(Debug, Default)]
pub struct Offered(HashMap<Term, Vec<Life>>);

/// The terms of a payment: (network, asset, payTo, amount, series with `born` 0).
type Term = (Network, Address, Address, Amount, Tuple);

/// One life of a series: from its birth until its offer is removed.
#[derive(Debug)]
struct Life {
    born: u64,
    /// When other rules replaced it; `None` while it is published.
    dropped: Option<Instant>,
}

const KEPT: Duration = Duration::from_secs(86_400);

// === impl Offered ===

impl Offered {
    /// Takes rules that are published from now on. `series` are those of the snapshot, in its order, with the published
    /// births.
    pub fn publish(&mut self, snapshot: &Snapshot, series: &[Tuple], now: Instant) {
        for life in self.0.values_mut().flatten() {
            life.dropped = life.dropped.or(Some(now));
        }
        for option in snapshot.routes.iter().flat_map(|route| &route.options) {
            let Some(tuple) = series.get(option.tuple) else { continue };
            let lives = self.0.entry(term(option, tuple)).or_default();
            // The newest life is the last.
            lives.retain(|life| life.born != tuple.born);
            lives.push(Life { born: tuple.born, dropped: None });
        }
        self.0.retain(|_, lives| {
            lives.retain(|life| life.dropped.is_none_or(|dropped| now.duration_since(dropped) < KEPT));
            !lives.is_empty()
        });
    }

    /// The series of an offer with these terms: the named one, or the newest of the same labels if the birth differs.
    /// `None` if the offer was not published with these terms.
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
