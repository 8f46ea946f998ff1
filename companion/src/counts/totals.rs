//! Counters added up under the public labels. Births and amounts are not labels: the lives and prices of a tuple that are
//! alive add up.

use std::collections::BTreeMap;

use farebox_core::metrics::{
    BlockedReason, CallOutcome, DURATION_BUCKETS, FailureReason, MetricSeries, TupleCounter,
};
use farebox_core::protocol::Operation;
use farebox_core::terms::Tuple;
use ruint::aliases::U256;

use super::KeepSet;

/// Totals of every living series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// By tuple, `born` 0; every living tuple is present.
    pub tuples: BTreeMap<Tuple, TupleTotals>,
    /// `blocked_requests_total` by (offer_namespace, offer_name) and reason.
    pub blocked: BTreeMap<(String, String, BlockedReason), u128>,
    /// `facilitator_request_duration_seconds`.
    pub calls: BTreeMap<(Operation, CallOutcome), CallTotals>,
}

/// Totals of one tuple.
#[derive(Debug, Clone, PartialEq)]
pub struct TupleTotals {
    /// By [`TupleCounter::index`].
    counters: [u128; TupleCounter::COUNT],
    /// `charged_requests_total`.
    pub charged: u128,
    /// `settled_amount_atomic_total`.
    pub amount: U256,
    /// `last_payment_success_seconds`; absent until a charge.
    pub last_success: Option<u64>,
    /// Settlements opened and closed in each life of the tuple.
    settling: BTreeMap<u64, Settling>,
}

/// Settlements of unknown outcome in one life of a tuple.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Settling {
    opened: u128,
    closed: u128,
}

/// A duration histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallTotals {
    /// Calls per bucket, not cumulative; the last is `+Inf`.
    pub buckets: [u128; DURATION_BUCKETS.len() + 1],
    /// Sum of durations, milliseconds.
    pub millis: u128,
}

impl Default for TupleTotals {
    fn default() -> Self {
        let counters = [0; TupleCounter::COUNT];
        Self { counters, charged: 0, amount: U256::ZERO, last_success: None, settling: BTreeMap::new() }
    }
}

// === impl Totals ===

impl Totals {
    /// Zeros for everything that exists before traffic.
    pub(super) fn zero(keep: &KeepSet) -> Self {
        let mut totals = Self::default();
        for tuple in keep.tuples() {
            totals.tuples.insert(tuple.clone(), TupleTotals::default());
        }
        for reason in BlockedReason::ALL {
            totals.blocked.insert((String::new(), String::new(), *reason), 0);
        }
        for operation in [Operation::Verify, Operation::Settle] {
            for outcome in CallOutcome::ALL {
                totals.calls.insert((operation, *outcome), CallTotals::default());
            }
        }
        totals
    }

    pub(super) fn add(&mut self, series: &MetricSeries, value: u64) {
        let (time, value) = (value, u128::from(value));
        match series {
            MetricSeries::Tuple(tuple, counter) => {
                let totals = self.tuple(tuple);
                totals.counters[counter.index()] += value;
                match counter {
                    TupleCounter::UnresolvedOpened => totals.settling(tuple.born).opened += value,
                    TupleCounter::UnresolvedClosed => totals.settling(tuple.born).closed += value,
                    _ => {}
                }
            }
            MetricSeries::Charged(tuple, amount) => {
                let totals = self.tuple(tuple);
                totals.charged += value;
                totals.amount = totals.amount.saturating_add(amount.0.saturating_mul(U256::from(value)));
            }
            MetricSeries::Blocked(namespace, name, reason) => {
                *self.blocked.entry((namespace.clone(), name.clone(), *reason)).or_default() += value;
            }
            MetricSeries::CallBucket(operation, outcome, bucket) => {
                let calls = self.calls.entry((*operation, *outcome)).or_default();
                if let Some(count) = calls.buckets.get_mut(*bucket) {
                    *count += value;
                }
            }
            MetricSeries::CallMillis(operation, outcome) => {
                self.calls.entry((*operation, *outcome)).or_default().millis += value;
            }
            MetricSeries::LastSuccess(tuple) => {
                let latest = &mut self.tuple(tuple).last_success;
                *latest = (*latest).max(Some(time));
            }
            MetricSeries::ConfigGeneration => {}
        }
    }

    fn tuple(&mut self, tuple: &Tuple) -> &mut TupleTotals {
        self.tuples.entry(Tuple { born: 0, ..tuple.clone() }).or_default()
    }
}

// === impl TupleTotals ===

impl TupleTotals {
    /// One counter.
    pub fn get(&self, counter: TupleCounter) -> u128 {
        self.counters[counter.index()]
    }

    /// `requests_total`: with a payment and without.
    pub fn requests(&self) -> u128 {
        self.get(TupleCounter::PaymentPresented) + self.get(TupleCounter::PaymentRequired)
    }

    /// `payment_failed_total`: the sum over its reasons.
    pub fn failed(&self) -> u128 {
        FailureReason::ALL.iter().map(|reason| self.get(TupleCounter::PaymentFailed(*reason))).sum()
    }

    /// `settlements_unresolved`: opened and not yet closed. What one life of the tuple closed beyond what is
    /// known to have been opened in it says nothing about another life.
    pub fn unresolved(&self) -> u128 {
        self.settling.values().map(|life| life.opened.saturating_sub(life.closed)).sum()
    }

    fn settling(&mut self, born: u64) -> &mut Settling {
        self.settling.entry(born).or_default()
    }
}
