//! Envoy's counters for the core's stamps.
//!
//! Every counter of every live series is defined when rules are taken, so that it is scraped at zero
//! before it is first counted and a request only adds to a known id. A host counter has a name once and
//! for all, but each definition costs the host another id, so a VM remembers the ids of what is live
//! across pushes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

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
    /// By [`TupleCounter::index`], then the time of the last charge. That is not defined before the first:
    /// a gauge at 0 would say that money came in 1970.
    tuples: Vec<Ids>,
    /// The one counter of each.
    charges: Vec<Ids>,
    /// By [`BlockedReason::index`].
    offers: Vec<Ids>,
    /// By [`BlockedReason::index`], for requests of no known offer.
    no_offer: Ids,
    /// Of each operation and outcome: one per bound, one for what took longer, and the time it took.
    calls: Vec<(Operation, CallOutcome, Ids)>,
    generation: Ids,
}

/// Ids that are defined together.
type Ids = Rc<[Cell<Option<u32>>]>;

/// Ids by the name of the first of them.
type Defined = BTreeMap<String, Ids>;

thread_local! {
    /// What this VM defined for the rules it enforces.
    static DEFINED: RefCell<Defined> = RefCell::default();
}

// === impl Meters ===

impl Meters {
    /// Defines what is not yet defined, and forgets what is no longer live.
    pub(crate) fn define(rules: &RuleSet) -> Result<Self, Status> {
        DEFINED.with_borrow_mut(|defined| {
            let mut taking = Taking { known: defined, live: Defined::default() };
            let meters = taking.meters(rules)?;
            *defined = taking.live;
            Ok(meters)
        })
    }

    /// Says which generation this process enforces: the only word of it the companion believes, because
    /// Envoy's own version echoes also name a push that was refused.
    pub(crate) fn confirm(&self, generation: u64) -> Result<(), Status> {
        let id = self.generation.first().and_then(Cell::get).ok_or(Status::NotFound)?;
        hostcalls::record_metric(id, generation)
    }

    /// Counts a stamp of these rules. A counter that cannot be moved is no reason to fail a request.
    pub(crate) fn count(&self, stamp: &Stamp, rules: &RuleSet) {
        match *stamp {
            Stamp::Tuple(tuple, counter) => add(self.tuples.get(tuple.0 as usize), counter.index(), 1),
            Stamp::Charged(charge) => add(self.charges.get(charge.0 as usize), 0, 1),
            Stamp::LastSuccess(tuple, unix_seconds) => {
                let place = tuple.0 as usize;
                let cell = self.tuples.get(place).and_then(|ids| ids.get(TupleCounter::COUNT));
                if let (Some(cell), Some(tuple)) = (cell, rules.tuples.get(place)) {
                    let id = cell.get().or_else(|| {
                        let name = host_name(&HostSeries::LastSuccess(tuple.clone()));
                        hostcalls::define_metric(MetricType::Gauge, &name).ok()
                    });
                    cell.set(id);
                    if let Some(id) = id {
                        let _ = hostcalls::record_metric(id, unix_seconds);
                    }
                }
            }
            Stamp::Blocked(offer, reason) => {
                let ids = match offer {
                    Some(offer) => self.offers.get(offer.0 as usize),
                    None => Some(&self.no_offer),
                };
                add(ids, reason.index(), 1);
            }
            Stamp::Call(operation, outcome, millis) => {
                let call = self.calls.iter().find(|(o, c, _)| *o == operation && *c == outcome);
                let ids = call.map(|(_, _, ids)| ids);
                add(ids, histogram_bucket(millis), 1);
                add(ids, DURATION_BUCKETS.len() + 1, millis);
            }
        }
    }
}

/// Taking rules: what was live before, and what is from now on.
struct Taking<'a> {
    known: &'a Defined,
    live: Defined,
}

// === impl Taking ===

impl Taking<'_> {
    fn meters(&mut self, rules: &RuleSet) -> Result<Meters, Status> {
        let tuples = rules.tuples.iter().map(|tuple| self.tuple(tuple)).collect::<Result<_, _>>()?;
        let mut charges = Vec::with_capacity(rules.charges.len());
        for (tuple, amount) in &rules.charges {
            let tuple = rules.tuples.get(tuple.0 as usize).ok_or(Status::BadArgument)?;
            charges.push(self.counters(&mut [HostSeries::Charged(tuple.clone(), *amount)].into_iter())?);
        }
        let offers =
            rules.offers.iter().map(|(ns, name)| self.blocked(ns, name)).collect::<Result<_, _>>()?;
        let mut calls = Vec::new();
        for operation in [Operation::Verify, Operation::Settle] {
            for &outcome in CallOutcome::ALL {
                let buckets = (0..=DURATION_BUCKETS.len())
                    .map(|bucket| HostSeries::CallBucket(operation, outcome, bucket));
                let millis = HostSeries::CallMillis(operation, outcome);
                calls.push((operation, outcome, self.counters(&mut buckets.chain([millis]))?));
            }
        }
        let generation = self.ids(MetricType::Gauge, &mut [HostSeries::ConfigGeneration].into_iter(), 0)?;
        Ok(Meters { tuples, charges, offers, no_offer: self.blocked("", "")?, calls, generation })
    }

    fn tuple(&mut self, tuple: &Tuple) -> Result<Ids, Status> {
        let series = |kind| HostSeries::Tuple(tuple.clone(), kind);
        self.ids(MetricType::Counter, &mut TupleCounter::all().map(series), 1)
    }

    fn blocked(&mut self, namespace: &str, name: &str) -> Result<Ids, Status> {
        let series =
            |reason: &BlockedReason| HostSeries::Blocked(namespace.to_owned(), name.to_owned(), *reason);
        self.counters(&mut BlockedReason::ALL.iter().map(series))
    }

    fn counters(&mut self, series: &mut dyn Iterator<Item = HostSeries>) -> Result<Ids, Status> {
        self.ids(MetricType::Counter, series, 0)
    }

    /// The ids of metrics of one kind, and room for some more.
    fn ids(
        &mut self,
        kind: MetricType,
        series: &mut dyn Iterator<Item = HostSeries>,
        room: usize,
    ) -> Result<Ids, Status> {
        let first = series.next().map(|series| host_name(&series)).ok_or(Status::BadArgument)?;
        let ids = match self.live.get(&first).or_else(|| self.known.get(&first)) {
            Some(ids) => Rc::clone(ids),
            None => {
                let mut ids = vec![Cell::new(Some(hostcalls::define_metric(kind, &first)?))];
                for series in series {
                    ids.push(Cell::new(Some(hostcalls::define_metric(kind, &host_name(&series))?)));
                }
                ids.resize(ids.len() + room, Cell::new(None));
                ids.into()
            }
        };
        self.live.insert(first, Rc::clone(&ids));
        Ok(ids)
    }
}

/// The host refuses to add nothing.
fn add(ids: Option<&Ids>, place: usize, amount: u64) {
    let id = ids.and_then(|ids| ids.get(place)).and_then(Cell::get);
    if let (Some(id), Ok(amount @ 1..)) = (id, i64::try_from(amount)) {
        let _ = hostcalls::increment_metric(id, amount);
    }
}
