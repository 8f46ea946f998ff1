//! Envoy's counters for the core's stamps.
//!
//! A counter is defined together with the rest of its group when the first of them is moved: the companion shows
//! what was never moved at zero by itself, and Envoy spends nothing on it. Each definition costs the host another
//! id, so a VM remembers the ids of what is live across pushes.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use farebox_core::metrics::{
    BlockedReason, CallOutcome, DURATION_BUCKETS, HostSeries, Stamp, TupleCounter, histogram_bucket,
    host_name,
};
use farebox_core::protocol::Operation;
use farebox_core::rules::{ChargeIndex, OfferIndex, RuleSet, TupleIndex};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{MetricType, Status};

use crate::counted::{self, Counted};

/// Metric ids for one rule set.
pub(crate) struct Meters {
    groups: BTreeMap<Group, Rc<Ids>>,
    generation: u32,
}

/// Counters that are defined together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// By [`TupleCounter::index`].
    Tuple(TupleIndex),
    /// The time of the last charge. A gauge at 0 would say that money came in 1970.
    Latest(TupleIndex),
    /// One counter.
    Charge(ChargeIndex),
    /// By [`BlockedReason::index`]; `None` for requests of no known offer.
    Blocked(Option<OfferIndex>),
    /// One per bound, one for what took longer, and the time it took.
    Call(Operation, CallOutcome),
}

/// The ids of a group, once it is defined; `None` for what the host refused.
struct Ids {
    key: u64,
    defined: OnceCell<Box<[Option<u32>]>>,
}

/// What a VM remembers.
#[derive(Default)]
struct Memory {
    /// By key, what it enforces.
    live: BTreeMap<u64, Rc<Ids>>,
    counted: Counted,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

// === impl Meters ===

impl Meters {
    /// Defines what the process counts in already, and forgets what is no longer live.
    pub(crate) fn define(rules: &RuleSet) -> Result<Self, Status> {
        let generation = host_name(&HostSeries::ConfigGeneration);
        let generation = hostcalls::define_metric(MetricType::Gauge, &generation)?;
        MEMORY.with_borrow_mut(|memory| {
            let mut live = BTreeMap::new();
            let mut groups = BTreeMap::new();
            for group in all_of(rules) {
                let key = group.key(rules).ok_or(Status::BadArgument)?;
                let known = live.get(&key).or_else(|| memory.live.get(&key)).cloned();
                let ids = known.unwrap_or_else(|| Rc::new(Ids { key, defined: OnceCell::new() }));
                live.insert(key, Rc::clone(&ids));
                groups.insert(group, ids);
            }
            memory.live = live;
            let meters = Self { groups, generation };
            memory.counted.refresh()?;
            meters.define_counted(rules, &memory.counted);
            Ok(meters)
        })
    }

    /// Defines what other VMs have begun to count in since. Requests they began under older rules count there
    /// until they end, and what only they have defined ends with them.
    pub(crate) fn catch_up(&self, rules: &RuleSet) -> Result<(), Status> {
        MEMORY.with_borrow_mut(|memory| {
            if memory.counted.refresh()? {
                self.define_counted(rules, &memory.counted);
            }
            Ok(())
        })
    }

    /// Says which generation this process enforces: the only word of it the companion believes, because
    /// Envoy's own version echoes also name a push that was refused.
    pub(crate) fn confirm(&self, generation: u64) -> Result<(), Status> {
        hostcalls::record_metric(self.generation, generation)?;
        let live: BTreeSet<u64> = self.groups.values().map(|ids| ids.key).collect();
        // What is not forgotten now is forgotten with a later push.
        let _ = MEMORY.with_borrow_mut(|memory| memory.counted.retain(&live));
        Ok(())
    }

    /// Counts a stamp of these rules. A counter that cannot be moved is no reason to fail a request.
    pub(crate) fn count(&self, stamp: &Stamp, rules: &RuleSet) {
        match *stamp {
            Stamp::Tuple(tuple, counter) => self.add(Group::Tuple(tuple), counter.index(), 1, rules),
            Stamp::Charged(charge) => self.add(Group::Charge(charge), 0, 1, rules),
            Stamp::LastSuccess(tuple, unix_seconds) => {
                if let Some(id) = self.id(Group::Latest(tuple), 0, rules) {
                    let _ = hostcalls::record_metric(id, unix_seconds);
                }
            }
            Stamp::Blocked(offer, reason) => self.add(Group::Blocked(offer), reason.index(), 1, rules),
            Stamp::Call(operation, outcome, millis) => {
                let group = Group::Call(operation, outcome);
                self.add(group, histogram_bucket(millis), 1, rules);
                self.add(group, DURATION_BUCKETS.len() + 1, millis, rules);
            }
        }
    }

    /// The host refuses to add nothing.
    fn add(&self, group: Group, place: usize, amount: u64, rules: &RuleSet) {
        if let (Some(id), Ok(amount @ 1..)) = (self.id(group, place, rules), i64::try_from(amount)) {
            let _ = hostcalls::increment_metric(id, amount);
        }
    }

    fn id(&self, group: Group, place: usize, rules: &RuleSet) -> Option<u32> {
        let ids = self.groups.get(&group)?;
        let defined = ids.defined.get_or_init(|| {
            // Not written down, it would only be lost with the last VM that defined it.
            let _ = counted::note(ids.key);
            group.define(rules)
        });
        *defined.get(place)?
    }

    fn define_counted(&self, rules: &RuleSet, counted: &Counted) {
        for (group, ids) in &self.groups {
            if ids.defined.get().is_none() && counted.has(ids.key) {
                let _ = ids.defined.set(group.define(rules));
            }
        }
    }
}

// === impl Group ===

impl Group {
    /// The same for the same series in every VM and under all rules.
    fn key(self, rules: &RuleSet) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        match self {
            Self::Tuple(tuple) => (0, rules.tuples.get(tuple.0 as usize)?).hash(&mut hasher),
            Self::Latest(tuple) => (1, rules.tuples.get(tuple.0 as usize)?).hash(&mut hasher),
            Self::Charge(charge) => {
                let (tuple, amount) = rules.charges.get(charge.0 as usize)?;
                (2, rules.tuples.get(tuple.0 as usize)?, amount).hash(&mut hasher);
            }
            Self::Blocked(Some(offer)) => (3, rules.offers.get(offer.0 as usize)?).hash(&mut hasher),
            Self::Blocked(None) => (4, ()).hash(&mut hasher),
            Self::Call(operation, outcome) => (5, operation.name(), outcome.as_str()).hash(&mut hasher),
        }
        Some(hasher.finish())
    }

    fn define(self, rules: &RuleSet) -> Box<[Option<u32>]> {
        let kind = if matches!(self, Self::Latest(_)) { MetricType::Gauge } else { MetricType::Counter };
        let define = |series: HostSeries| hostcalls::define_metric(kind, &host_name(&series)).ok();
        self.series(rules).into_iter().map(define).collect()
    }

    /// By place; empty for a group of other rules.
    fn series(self, rules: &RuleSet) -> Vec<HostSeries> {
        let tuple = |index: TupleIndex| rules.tuples.get(index.0 as usize).cloned();
        match self {
            Self::Tuple(index) => {
                let series =
                    |tuple| TupleCounter::all().map(move |c| HostSeries::Tuple(Clone::clone(&tuple), c));
                tuple(index).map(series).into_iter().flatten().collect()
            }
            Self::Latest(index) => tuple(index).map(HostSeries::LastSuccess).into_iter().collect(),
            Self::Charge(charge) => {
                let charge = rules.charges.get(charge.0 as usize);
                let series =
                    charge.and_then(|(index, amount)| Some(HostSeries::Charged(tuple(*index)?, *amount)));
                series.into_iter().collect()
            }
            Self::Blocked(offer) => {
                let offer = match offer {
                    Some(offer) => rules.offers.get(offer.0 as usize).cloned().unwrap_or_default(),
                    None => Default::default(),
                };
                let series =
                    |reason: &BlockedReason| HostSeries::Blocked(offer.0.clone(), offer.1.clone(), *reason);
                BlockedReason::ALL.iter().map(series).collect()
            }
            Self::Call(operation, outcome) => {
                let bucket = |bucket| HostSeries::CallBucket(operation, outcome, bucket);
                let millis = HostSeries::CallMillis(operation, outcome);
                (0..=DURATION_BUCKETS.len()).map(bucket).chain([millis]).collect()
            }
        }
    }
}

/// Every group that can be counted in under these rules.
fn all_of(rules: &RuleSet) -> impl Iterator<Item = Group> {
    let places = |length: usize| 0..u32::try_from(length).unwrap_or(u32::MAX);
    let tuples = places(rules.tuples.len()).map(TupleIndex);
    let tuples = tuples.flat_map(|tuple| [Group::Tuple(tuple), Group::Latest(tuple)]);
    let charges = places(rules.charges.len()).map(|place| Group::Charge(ChargeIndex(place)));
    let offers = places(rules.offers.len()).map(|place| Group::Blocked(Some(OfferIndex(place))));
    let calls = [Operation::Verify, Operation::Settle]
        .into_iter()
        .flat_map(|operation| CallOutcome::ALL.iter().map(move |outcome| Group::Call(operation, *outcome)));
    tuples.chain(charges).chain(offers).chain([Group::Blocked(None)]).chain(calls)
}
