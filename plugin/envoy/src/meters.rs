//! Envoy's counters for the core's stamps.
//!
//! A counter is defined when it is first moved: the companion shows what was never moved at zero by itself, and
//! Envoy spends nothing on it. Each definition costs the host another id, so a VM remembers the ids of what is live
//! across pushes.

use std::cell::RefCell;
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
use crate::succession::{self, Left};

/// Metric ids for one rule set.
pub(crate) struct Meters {
    /// In the order of [`all_of`].
    groups: Vec<Rc<Ids>>,
    generation: u32,
    /// Name of this VM and of its likes in other threads, see [`crate::root::Root`].
    vm: Vec<u8>,
}

/// Counters of one thing, at most 64.
#[derive(Clone, Copy)]
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

/// The ids of a group's counters, by place; `None` for what is not defined.
struct Ids {
    key: u64,
    defined: RefCell<Vec<Option<u32>>>,
}

/// What a VM remembers.
#[derive(Default)]
struct Memory {
    /// What it enforces, sorted by key.
    live: Vec<Rc<Ids>>,
    counted: Counted,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// The calls there are.
const OPERATIONS: [Operation; 2] = [Operation::Verify, Operation::Settle];

// === impl Meters ===

impl Meters {
    /// Prepares to count under these rules.
    pub(crate) fn define(rules: &RuleSet, vm: Vec<u8>) -> Result<Self, Status> {
        let generation = host_name(&HostSeries::ConfigGeneration);
        let generation = hostcalls::define_metric(MetricType::Gauge, &generation)?;
        MEMORY.with_borrow_mut(|memory| {
            let mut groups = Vec::new();
            for group in all_of(rules) {
                let key = group.key(rules).ok_or(Status::BadArgument)?;
                let known = find(&memory.live, key).cloned();
                groups.push(known.unwrap_or_else(|| Rc::new(Ids { key, defined: RefCell::default() })));
            }
            let sorted = sorted(&groups).into_iter();
            memory.live = sorted.filter_map(|(_, place)| groups.get(place as usize)).cloned().collect();
            Ok(Self { groups, generation, vm })
        })
    }

    /// Makes these rules the last, if they are somebody's. Then defines what the process counts in already, so
    /// that nothing begun elsewhere before is missed, and forgets what is no longer live.
    pub(crate) fn succeed(&self, rules: &RuleSet) -> Result<(), Status> {
        let before =
            if rules.is_loaded() { Some(succession::claim(&self.vm, rules.generation)?) } else { None };
        MEMORY.with_borrow_mut(|memory| {
            memory.counted.refresh()?;
            for (group, ids) in all_of(rules).zip(&self.groups) {
                let bits = memory.counted.of(ids.key);
                for place in (0..64).filter(|place| bits >> place & 1 == 1) {
                    if ids.get(place).is_none() {
                        ids.define(group, place, rules);
                    }
                }
            }
            // A worker that is late may know less than the others do already.
            if before.is_some_and(|before| before <= rules.generation) {
                let is_live = |group| find(&memory.live, group).is_some();
                // What is not forgotten now is forgotten with a later push.
                let _ = succession::take(|group| !is_live(group));
                let _ = memory.counted.retain(is_live);
            }
            Ok(())
        })
    }

    /// Counts what VMs that were replaced have left.
    pub(crate) fn take_over(&self, rules: &RuleSet) -> Result<(), Status> {
        if !succession::is_any_left()? || !succession::is_last(&self.vm)? {
            return Ok(());
        }
        let known = sorted(&self.groups);
        let left = succession::take(|key| known.binary_search_by_key(&key, |known| known.0).is_ok())?;
        for (group, ids) in all_of(rules).zip(&self.groups) {
            let first = left.partition_point(|left| left.group < ids.key);
            for left in left.iter().skip(first).take_while(|left| left.group == ids.key) {
                let place = left.place as usize;
                let value = ids.get(place).and_then(|id| hostcalls::get_metric(id).ok());
                // A time may have been set since.
                let is_past = group.is_time() && value >= Some(left.amount);
                if !is_past {
                    self.add(group, place, left.amount, rules);
                }
            }
        }
        Ok(())
    }

    /// Says which generation this process enforces: the only word of it the companion believes, because
    /// Envoy's own version echoes also name a push that was refused.
    pub(crate) fn confirm(&self, generation: u64) -> Result<(), Status> {
        hostcalls::record_metric(self.generation, generation)
    }

    /// Counts a stamp of these rules. A counter that cannot be moved is no reason to fail a request.
    pub(crate) fn count(&self, stamp: &Stamp, rules: &RuleSet) {
        match *stamp {
            Stamp::Tuple(tuple, counter) => self.add(Group::Tuple(tuple), counter.index(), 1, rules),
            Stamp::Charged(charge) => self.add(Group::Charge(charge), 0, 1, rules),
            Stamp::LastSuccess(tuple, unix_seconds) => {
                self.add(Group::Latest(tuple), 0, unix_seconds, rules);
            }
            Stamp::Blocked(offer, reason) => self.add(Group::Blocked(offer), reason.index(), 1, rules),
            Stamp::Call(operation, outcome, millis) => {
                let group = Group::Call(operation, outcome);
                self.add(group, histogram_bucket(millis), 1, rules);
                self.add(group, DURATION_BUCKETS.len() + 1, millis, rules);
            }
        }
    }

    fn add(&self, group: Group, place: usize, amount: u64, rules: &RuleSet) {
        if let Some(id) = self.id(group, place, amount, rules) {
            group.add(id, amount);
        }
    }

    /// `None` if the amount was left to others.
    fn id(&self, group: Group, place: usize, amount: u64, rules: &RuleSet) -> Option<u32> {
        let ids = self.groups.get(group.place(rules)?)?;
        ids.get(place).or_else(|| {
            let bit = u32::try_from(place).ok()?;
            // Not written down, it would only be lost with the last VM that defined it.
            let _ = counted::note(ids.key, 1_u64.checked_shl(bit)?);
            let is_left = || {
                let left = Left { group: ids.key, place: bit, amount };
                succession::is_last(&self.vm) == Ok(false) && succession::leave(left, group.join()).is_ok()
            };
            if is_left() { None } else { ids.define(group, place, rules) }
        })
    }
}

// === impl Ids ===

impl Ids {
    fn get(&self, place: usize) -> Option<u32> {
        *self.defined.borrow().get(place)?
    }

    fn define(&self, group: Group, place: usize, rules: &RuleSet) -> Option<u32> {
        let name = host_name(&group.series(place, rules)?);
        let id = hostcalls::define_metric(group.kind(), &name).ok()?;
        let mut defined = self.defined.borrow_mut();
        if defined.len() <= place {
            defined.resize(place + 1, None);
        }
        *defined.get_mut(place)? = Some(id);
        Some(id)
    }
}

/// Keys and places of groups, sorted by key. Of the type that [`Counted`] sorts, because sorting another one would
/// be as much code again.
fn sorted(groups: &[Rc<Ids>]) -> Vec<(u64, u64)> {
    let mut sorted: Vec<_> = groups.iter().zip(0..).map(|(ids, place)| (ids.key, place)).collect();
    sorted.sort_unstable();
    sorted
}

fn find(sorted: &[Rc<Ids>], key: u64) -> Option<&Rc<Ids>> {
    sorted.get(sorted.binary_search_by_key(&key, |ids| ids.key).ok()?)
}

// === impl Group ===

impl Group {
    /// Its place in [`all_of`]; `None` for a group of other rules.
    fn place(self, rules: &RuleSet) -> Option<usize> {
        let within = |index: u32, length: usize| (index as usize) < length;
        let (tuples, charges) = (rules.tuples.len(), rules.charges.len());
        let calls = 2 * tuples + charges + rules.offers.len() + 1;
        let (known, place) = match self {
            Self::Tuple(tuple) => (within(tuple.0, tuples), 2 * tuple.0 as usize),
            Self::Latest(tuple) => (within(tuple.0, tuples), 2 * tuple.0 as usize + 1),
            Self::Charge(charge) => (within(charge.0, charges), 2 * tuples + charge.0 as usize),
            Self::Blocked(Some(offer)) => {
                (within(offer.0, rules.offers.len()), 2 * tuples + charges + offer.0 as usize)
            }
            Self::Blocked(None) => (true, calls - 1),
            Self::Call(operation, outcome) => {
                let operation = usize::from(operation == Operation::Settle);
                (true, calls + operation * CallOutcome::ALL.len() + outcome.index())
            }
        };
        known.then_some(place)
    }

    /// The same for the same series in every VM, under all rules and in every build.
    fn key(self, rules: &RuleSet) -> Option<u64> {
        let (mut tuple, mut amount, mut texts) = (None, &[][..], ["", ""]);
        let kind = match self {
            Self::Tuple(index) => {
                tuple = Some(index);
                0
            }
            Self::Latest(index) => {
                tuple = Some(index);
                1
            }
            Self::Charge(charge) => {
                let (index, of) = rules.charges.get(charge.0 as usize)?;
                (tuple, amount) = (Some(*index), of.0.as_le_slice());
                2
            }
            Self::Blocked(Some(offer)) => {
                let (namespace, name) = rules.offers.get(offer.0 as usize)?;
                texts = [namespace, name];
                3
            }
            Self::Blocked(None) => 4,
            Self::Call(operation, outcome) => {
                texts = [operation.name(), outcome.as_str()];
                5
            }
        };
        let [first, second] = texts;
        let (mut labels, mut born) = ([first, second, "", ""], 0);
        if let Some(index) = tuple {
            let tuple = rules.tuples.get(index.0 as usize)?;
            labels = [&tuple.offer_namespace, &tuple.offer_name, &tuple.chain, &tuple.asset_symbol];
            born = tuple.born;
        }
        let (kind, born) = ([kind], born.to_le_bytes());
        let parts = [&kind[..], &born, amount].into_iter().chain(labels.iter().map(|label| label.as_bytes()));
        Some(hash(parts))
    }

    /// Moves a counter, or sets a time.
    fn add(self, id: u32, amount: u64) {
        let _ = match (self.kind(), i64::try_from(amount)) {
            (MetricType::Gauge, _) => hostcalls::record_metric(id, amount),
            // The host refuses to add nothing.
            (_, Ok(amount @ 1..)) => hostcalls::increment_metric(id, amount),
            _ => Ok(()),
        };
    }

    /// Two amounts in one.
    fn join(self) -> fn(u64, u64) -> u64 {
        if self.is_time() { u64::max } else { u64::saturating_add }
    }

    const fn is_time(self) -> bool {
        matches!(self, Self::Latest(_))
    }

    const fn kind(self) -> MetricType {
        if self.is_time() { MetricType::Gauge } else { MetricType::Counter }
    }

    /// The counter at a place; `None` for one of other rules.
    fn series(self, place: usize, rules: &RuleSet) -> Option<HostSeries> {
        let tuple = |index: TupleIndex| rules.tuples.get(index.0 as usize).cloned();
        Some(match self {
            Self::Tuple(index) => HostSeries::Tuple(tuple(index)?, TupleCounter::all().nth(place)?),
            Self::Latest(index) => HostSeries::LastSuccess(tuple(index)?),
            Self::Charge(charge) => {
                let (index, amount) = rules.charges.get(charge.0 as usize)?;
                HostSeries::Charged(tuple(*index)?, *amount)
            }
            Self::Blocked(offer) => {
                let (namespace, name) = match offer {
                    Some(offer) => rules.offers.get(offer.0 as usize).cloned()?,
                    None => Default::default(),
                };
                HostSeries::Blocked(namespace, name, *BlockedReason::ALL.get(place)?)
            }
            Self::Call(operation, outcome) if place > DURATION_BUCKETS.len() => {
                HostSeries::CallMillis(operation, outcome)
            }
            Self::Call(operation, outcome) => HostSeries::CallBucket(operation, outcome, place),
        })
    }
}

/// FNV-1a of 64 bits, over texts and their ends.
fn hash<'a>(texts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let bytes = texts.flat_map(|text| text.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Every group that can be counted in under these rules.
fn all_of(rules: &RuleSet) -> impl Iterator<Item = Group> {
    let places = |length: usize| 0..u32::try_from(length).unwrap_or(u32::MAX);
    let tuples = places(rules.tuples.len()).map(TupleIndex);
    let tuples = tuples.flat_map(|tuple| [Group::Tuple(tuple), Group::Latest(tuple)]);
    let charges = places(rules.charges.len()).map(|place| Group::Charge(ChargeIndex(place)));
    let offers = places(rules.offers.len()).map(|place| Group::Blocked(Some(OfferIndex(place))));
    let calls = OPERATIONS
        .into_iter()
        .flat_map(|operation| CallOutcome::ALL.iter().map(move |outcome| Group::Call(operation, *outcome)));
    tuples.chain(charges).chain(offers).chain([Group::Blocked(None)]).chain(calls)
}
