//! Envoy's counters for the core's stamps.
//!
//! Every counter of every live series is defined when rules are taken, so that it is scraped at zero
//! before it is first counted and a request only adds to a known id. A host counter has a name once and
//! for all, but each definition costs the host another id, so a VM remembers the ids of what is live
//! across pushes.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use farebox_core::evm::Amount;
use farebox_core::metrics::{
    BlockedReason, CallOutcome, DURATION_BUCKETS, HostSeries, Stamp, TupleCounter, histogram_bucket,
    host_name,
};
use farebox_core::protocol::Operation;
use farebox_core::rules::{RuleSet, Tuple};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{MetricType, Status};

/// Metric ids by the indexes of one rule set.
pub(crate) struct Meters {
    tuples: Vec<Rc<TupleMeter>>,
    charges: Vec<u32>,
    /// By [`BlockedReason::index`].
    offers: Vec<Rc<[u32]>>,
    /// By [`BlockedReason::index`], for requests of no known offer.
    no_offer: Rc<[u32]>,
    calls: Rc<[CallMeter]>,
    generation: u32,
}

/// Ids of one tuple.
struct TupleMeter {
    tuple: Tuple,
    /// By [`TupleCounter::index`].
    counters: Box<[u32]>,
    /// Never defined before the first charge: a gauge at 0 would say that money came in 1970.
    last_success: OnceCell<Option<u32>>,
}

/// Ids of one kind of facilitator call.
struct CallMeter {
    operation: Operation,
    outcome: CallOutcome,
    /// One per bound, and one for what took longer.
    buckets: Box<[u32]>,
    millis: u32,
}

/// What this VM defined for the rules it enforces.
#[derive(Default)]
struct Defined {
    tuples: BTreeMap<Tuple, Rc<TupleMeter>>,
    charges: BTreeMap<(Tuple, Amount), u32>,
    offers: BTreeMap<(String, String), Rc<[u32]>>,
    calls: Option<Rc<[CallMeter]>>,
    generation: Option<u32>,
}

thread_local! {
    static DEFINED: RefCell<Defined> = RefCell::default();
}

// === impl Meters ===

impl Meters {
    /// Defines what is not yet defined, and forgets what is no longer live.
    pub(crate) fn define(rules: &RuleSet) -> Result<Self, Status> {
        DEFINED.with_borrow_mut(|defined| {
            let (meters, live) = Self::define_after(rules, defined)?;
            *defined = live;
            Ok(meters)
        })
    }

    fn define_after(rules: &RuleSet, known: &Defined) -> Result<(Self, Defined), Status> {
        let mut live = Defined::default();
        let mut tuples = Vec::with_capacity(rules.tuples.len());
        for tuple in &rules.tuples {
            let meter = match known.tuples.get(tuple) {
                Some(meter) => Rc::clone(meter),
                None => Rc::new(TupleMeter::define(tuple)?),
            };
            live.tuples.insert(tuple.clone(), Rc::clone(&meter));
            tuples.push(meter);
        }
        let mut charges = Vec::with_capacity(rules.charges.len());
        for (tuple, amount) in &rules.charges {
            let tuple = rules.tuples.get(tuple.0 as usize).ok_or(Status::BadArgument)?;
            let key = (tuple.clone(), *amount);
            let id = match known.charges.get(&key) {
                Some(id) => *id,
                None => counter(&HostSeries::Charged(tuple.clone(), *amount))?,
            };
            live.charges.insert(key, id);
            charges.push(id);
        }
        let mut blocked = |offer: &(String, String)| {
            let ids = match known.offers.get(offer) {
                Some(ids) => Rc::clone(ids),
                None => define_blocked(offer)?,
            };
            live.offers.insert(offer.clone(), Rc::clone(&ids));
            Ok(ids)
        };
        let offers = rules.offers.iter().map(&mut blocked).collect::<Result<_, Status>>()?;
        let no_offer = blocked(&(String::new(), String::new()))?;
        let calls = match &known.calls {
            Some(calls) => Rc::clone(calls),
            None => define_calls()?,
        };
        live.calls = Some(Rc::clone(&calls));
        let generation = match known.generation {
            Some(id) => id,
            None => hostcalls::define_metric(MetricType::Gauge, &host_name(&HostSeries::ConfigGeneration))?,
        };
        live.generation = Some(generation);
        Ok((Self { tuples, charges, offers, no_offer, calls, generation }, live))
    }

    /// Says which generation this process enforces: the only word of it the companion believes, because
    /// Envoy's own version echoes also name a push that was refused.
    pub(crate) fn confirm(&self, generation: u64) -> Result<(), Status> {
        hostcalls::record_metric(self.generation, generation)
    }

    /// Counts. A counter that cannot be moved is no reason to fail a request.
    pub(crate) fn count(&self, stamp: &Stamp) {
        match *stamp {
            Stamp::Tuple(tuple, counter) => {
                add(self.tuples.get(tuple.0 as usize).and_then(|meter| meter.id(counter)), 1);
            }
            Stamp::Charged(charge) => add(self.charges.get(charge.0 as usize).copied(), 1),
            Stamp::LastSuccess(tuple, unix_seconds) => {
                let meter = self.tuples.get(tuple.0 as usize);
                if let Some(id) = meter.and_then(|meter| meter.last_success()) {
                    let _ = hostcalls::record_metric(id, unix_seconds);
                }
            }
            Stamp::Blocked(offer, reason) => {
                let ids = match offer {
                    Some(offer) => self.offers.get(offer.0 as usize),
                    None => Some(&self.no_offer),
                };
                add(ids.and_then(|ids| ids.get(reason.index())).copied(), 1);
            }
            Stamp::Call(operation, outcome, millis) => {
                let meter = self.calls.iter().find(|m| m.operation == operation && m.outcome == outcome);
                if let Some(meter) = meter {
                    add(meter.buckets.get(histogram_bucket(millis)).copied(), 1);
                    add(Some(meter.millis), millis);
                }
            }
        }
    }
}

// === impl TupleMeter ===

impl TupleMeter {
    fn define(tuple: &Tuple) -> Result<Self, Status> {
        let counters = TupleCounter::all()
            .map(|kind| counter(&HostSeries::Tuple(tuple.clone(), kind)))
            .collect::<Result<_, _>>()?;
        Ok(Self { tuple: tuple.clone(), counters, last_success: OnceCell::new() })
    }

    fn id(&self, counter: TupleCounter) -> Option<u32> {
        self.counters.get(counter.index()).copied()
    }

    fn last_success(&self) -> Option<u32> {
        *self.last_success.get_or_init(|| {
            let name = host_name(&HostSeries::LastSuccess(self.tuple.clone()));
            hostcalls::define_metric(MetricType::Gauge, &name).ok()
        })
    }
}

fn define_blocked((namespace, name): &(String, String)) -> Result<Rc<[u32]>, Status> {
    BlockedReason::ALL
        .iter()
        .map(|reason| counter(&HostSeries::Blocked(namespace.clone(), name.clone(), *reason)))
        .collect()
}

fn define_calls() -> Result<Rc<[CallMeter]>, Status> {
    let mut calls = Vec::new();
    for operation in [Operation::Verify, Operation::Settle] {
        for &outcome in CallOutcome::ALL {
            let buckets = (0..=DURATION_BUCKETS.len())
                .map(|bucket| counter(&HostSeries::CallBucket(operation, outcome, bucket)))
                .collect::<Result<_, _>>()?;
            let millis = counter(&HostSeries::CallMillis(operation, outcome))?;
            calls.push(CallMeter { operation, outcome, buckets, millis });
        }
    }
    Ok(calls.into())
}

fn counter(series: &HostSeries) -> Result<u32, Status> {
    hostcalls::define_metric(MetricType::Counter, &host_name(series))
}

/// The host refuses to add nothing.
fn add(id: Option<u32>, amount: u64) {
    if let (Some(id), Ok(amount @ 1..)) = (id, i64::try_from(amount)) {
        let _ = hostcalls::increment_metric(id, amount);
    }
}
