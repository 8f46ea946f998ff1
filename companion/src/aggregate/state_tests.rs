//! Totals over random histories, held against what was really counted.

use std::collections::BTreeMap;

use farebox_core::metrics::TupleCounter;
use farebox_core::rules::Tuple;

use super::saving_tests::{apply, but_for_times};
use super::*;
use crate::testing::{report, tuple};

const OFFERS: [&str; 3] = ["a", "b", "c"];
const HISTORIES: u64 = 400;
const STEPS: usize = 250;

/// splitmix64: histories are the same in every run.
pub(super) struct Random(pub(super) u64);

/// A counter as its process keeps it.
#[derive(Default, Clone)]
struct Counter {
    value: u64,
    /// What the last reading showed.
    seen: u64,
    /// Counted and not read since.
    unread: u64,
    was_reset: bool,
}

/// A process of a proxy. Counters by offer and birth.
#[derive(Clone)]
struct Envoy {
    started: i64,
    restart_epoch: u32,
    counters: BTreeMap<(&'static str, u64), Counter>,
    /// What its predecessor had shown before a hot restart; `None` once it was read itself.
    predecessor: Option<BTreeMap<(&'static str, u64), u64>>,
    was_read: bool,
    /// The process before a hot restart, which drains.
    drains: Option<Box<Self>>,
    /// Seconds its clock was set forward since it started.
    clock_set: i64,
}

/// What was really counted in the present life of an offer.
#[derive(Debug, Default, Clone, Copy)]
struct Truth {
    counted: u64,
    /// What ended with a process or a reset before it was read.
    lost: u64,
    /// The total when it was last looked at.
    total: u128,
}

struct World {
    random: Random,
    aggregate: Aggregate,
    /// What was saved of it.
    rows: Rows,
    /// Processes by address: of the first, hot restarts are made; behind the second are two.
    addresses: Vec<Vec<Envoy>>,
    births: BTreeMap<&'static str, u64>,
    truths: BTreeMap<&'static str, Truth>,
    generation: u64,
    time: i64,
    companions_clock_set: i64,
}

// === impl Random ===

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

// === impl Envoy ===

impl Envoy {
    fn started(started: i64) -> Self {
        Self {
            started,
            restart_epoch: 0,
            counters: BTreeMap::new(),
            predecessor: None,
            was_read: false,
            drains: None,
            clock_set: 0,
        }
    }
}

// === impl World ===

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            aggregate: Aggregate::restored(&Rows::new()).unwrap(),
            rows: Rows::new(),
            addresses: [1, 2, 1].map(|count| (0..count).map(|i| Envoy::started(100 * i)).collect()).into(),
            births: BTreeMap::new(),
            truths: BTreeMap::new(),
            generation: 1_000,
            time: 1_000,
            companions_clock_set: 0,
        };
        world.load(&OFFERS);
        world
    }

    /// A load with these offers.
    fn load(&mut self, offers: &[&'static str]) {
        self.generation += 1;
        let keys = Keys {
            tuples: offers.iter().map(|name| tuple("ns", name, 0)).collect(),
            offers: offers.iter().map(|name| ("ns".to_owned(), (*name).to_owned())).collect(),
        };
        let births: BTreeMap<Tuple, u64> = self.aggregate.births(self.generation, &keys);
        self.aggregate.apply(self.generation, keys);
        let births: BTreeMap<_, _> =
            offers.iter().map(|name| (*name, births[&tuple("ns", name, 0)])).collect();
        self.truths.retain(|name, _| births.get(name) == self.births.get(name));
        for name in births.keys() {
            self.truths.entry(name).or_default();
        }
        self.births = births;
    }

    fn step(&mut self) {
        self.time += 5;
        let address = self.random.pick(&[0, 1, 2]);
        let index = usize::try_from(self.random.below(self.addresses[address].len() as u64)).unwrap();
        match self.random.below(20) {
            0..=7 => self.count(address, index),
            8..=12 => self.read(address, index),
            13 => self.restart(address, index),
            14 => self.reset(address, index),
            15 => self.replace_vm(address, index),
            16 | 17 => {
                let offers: Vec<_> = OFFERS.into_iter().filter(|_| self.random.below(4) > 0).collect();
                self.load(&offers);
            }
            18 => self.restart_companion(),
            _ => self.addresses[address][index].clock_set += self.random.pick(&[-40, 3, 7_200]),
        }
    }

    /// Counts for a living offer, or under a birth that is over.
    fn count(&mut self, address: usize, index: usize) {
        let name = self.random.pick(&OFFERS);
        let by = 1 + self.random.below(9);
        let born = self.births.get(name).copied();
        let late = self.random.below(5) == 0;
        let envoy = &mut self.addresses[address][index];
        let old = envoy.counters.keys().find(|(of, at)| *of == name && Some(*at) < born).copied();
        let key = if late { old } else { born.map(|born| (name, born)) };
        let Some(key) = key else { return };
        let counter = envoy.counters.entry(key).or_default();
        counter.value += by;
        counter.unread += by;
        if Some(key.1) == born {
            self.truths.get_mut(name).unwrap().counted += by;
        }
    }

    fn read(&mut self, address: usize, index: usize) {
        let report = self.report(address, index, |envoy| envoy);
        self.aggregate.ingest(&format!("e{address}"), report);
        let envoy = &mut self.addresses[address][index];
        envoy.was_read = true;
        let predecessor = envoy.predecessor.take();
        for (key, counter) in &mut envoy.counters {
            let shown = predecessor.as_ref().and_then(|shown| shown.get(key)).copied().unwrap_or(0);
            let noticed = if counter.was_reset && counter.value >= counter.seen {
                // It looks as if it had never been reset.
                counter.value - counter.seen
            } else if predecessor.is_some() {
                counter.value - counter.value.min(shown)
            } else {
                counter.unread
            };
            assert!(noticed <= counter.unread);
            if self.births.get(key.0) == Some(&key.1) {
                self.truths.get_mut(key.0).unwrap().lost += counter.unread - noticed;
            }
            *counter = Counter { seen: counter.value, unread: 0, was_reset: false, ..*counter };
        }
        self.read_predecessor(address, index);
    }

    /// An old connection leads to a process that drains. Its heir counts what it counts.
    fn read_predecessor(&mut self, address: usize, index: usize) {
        if self.addresses[address][index].drains.is_none() || self.random.below(2) == 0 {
            return;
        }
        let mut report = self.report(address, index, |envoy| envoy.drains.as_deref().unwrap_or(envoy));
        report.values.iter_mut().for_each(|(_, value)| *value += 3);
        self.aggregate.ingest(&format!("e{address}"), report);
    }

    /// What a process behind an address shows.
    fn report(&mut self, address: usize, index: usize, which: impl Fn(&Envoy) -> &Envoy) -> Report {
        let envoy = which(&self.addresses[address][index]);
        let values = envoy.counters.iter().map(|((name, born), counter)| {
            (HostSeries::Tuple(tuple("ns", name, *born), TupleCounter::PaymentPresented), counter.value)
        });
        let mut report = report(envoy.started, values.collect());
        report.read_at = u64::try_from(self.time).unwrap();
        report.process.restart_epoch = envoy.restart_epoch;
        report.process.inherits = envoy.restart_epoch > 0;
        let late = 1_000 * i64::try_from(self.random.below(2)).unwrap();
        let proxy_clock = report.process.proxy_clock.as_mut().unwrap();
        (proxy_clock.low, proxy_clock.high) = (proxy_clock.low - late, proxy_clock.high - late);
        let shift = 1_000 * (self.companions_clock_set - envoy.clock_set);
        let own_clock = &mut report.process.own_clock;
        (own_clock.low, own_clock.high) = (own_clock.low + shift - 1_000, own_clock.high + shift);
        report
    }

    /// What was not read is lost.
    fn lose(&mut self, counters: &BTreeMap<(&'static str, u64), Counter>) {
        for ((name, born), counter) in counters {
            if self.births.get(name) == Some(born) {
                self.truths.get_mut(name).unwrap().lost += counter.unread;
            }
        }
    }

    fn restart(&mut self, address: usize, index: usize) {
        let ended = self.addresses[address][index].clone();
        self.time += 5;
        let mut next = Envoy::started(self.time);
        if address == 0 && ended.was_read && self.random.below(2) == 0 {
            next.restart_epoch = ended.restart_epoch + 1;
            next.drains = Some(Box::new(Envoy { drains: None, ..ended.clone() }));
            for (key, counter) in &ended.counters {
                // It inherits what was counted since the last flush, whenever that was.
                let inherited = self.random.below(counter.value + 1);
                let heir = Counter { value: inherited, unread: counter.unread, ..Counter::default() };
                next.counters.insert(*key, heir);
            }
            next.predecessor =
                Some(ended.counters.iter().map(|(key, counter)| (*key, counter.seen)).collect());
        } else {
            self.lose(&ended.counters);
        }
        self.addresses[address][index] = next;
        // Otherwise nothing is heard of the neighbour for more restarts than are kept apart.
        (0..self.addresses[address].len()).filter(|other| *other != index).for_each(|other| {
            self.read(address, other);
        });
    }

    fn reset(&mut self, address: usize, index: usize) {
        if self.addresses[address][index].predecessor.is_some() {
            return;
        }
        let counters = self.addresses[address][index].counters.clone();
        self.lose(&counters);
        for counter in self.addresses[address][index].counters.values_mut() {
            *counter = Counter { seen: counter.seen, was_reset: true, ..Counter::default() };
        }
    }

    /// Names the new VM does not define are gone.
    fn replace_vm(&mut self, address: usize, index: usize) {
        let births = &self.births;
        self.addresses[address][index].counters.retain(|(name, born), _| births.get(name) == Some(born));
    }

    fn restart_companion(&mut self) {
        let state = self.aggregate.to_state();
        let text = serde_json::to_string(&state).unwrap();
        let restored: AggregateState = serde_json::from_str(&text).unwrap();
        assert_eq!(restored, state);
        assert_eq!(Aggregate::from_state(&restored).unwrap().to_state(), state);
        self.save();
        self.aggregate = Aggregate::restored(&self.rows).unwrap();
        assert_eq!(self.aggregate.to_state().to_rows(), self.rows);
        self.check("after a restart, before a load");
        self.companions_clock_set = self.random.pick(&[0, -3_600, 11, 86_400]);
        if self.random.below(2) == 0 {
            // Readings come before the first load as well; two of one process replace each other.
            self.read(2, 0);
            self.read(2, 0);
        }
        let offers: Vec<_> = self.births.keys().copied().collect();
        self.load(&offers);
    }

    /// Writes what changed. Together with what was written before it is everything.
    fn save(&mut self) {
        if let Some(taken) = self.aggregate.take_changes() {
            apply(&mut self.rows, &taken.changes);
            self.aggregate.show(taken);
        }
        assert_eq!(but_for_times(&self.rows), but_for_times(&self.aggregate.to_state().to_rows()));
        assert_eq!(*self.aggregate.shown(), self.aggregate.totals());
    }

    /// Every total is exactly what was counted less what is lost or not yet read, and has not gone back.
    fn check(&mut self, when: &str) {
        let totals = self.aggregate.totals();
        for (name, truth) in &mut self.truths {
            let born = self.births[name];
            let of = |envoy: &Envoy| envoy.counters.get(&(*name, born)).map_or(0, |counter| counter.unread);
            let unread: u64 = self.addresses.iter().flatten().map(of).sum();
            let total = totals.tuples[&tuple("ns", name, 0)].get(TupleCounter::PaymentPresented);
            assert_eq!(total, u128::from(truth.counted - truth.lost - unread), "{name} {when}: {truth:?}");
            assert!(total >= truth.total, "{name} {when}: {total} after {truth:?}");
            truth.total = total;
        }
    }
}

#[test]
fn totals_of_random_histories_are_exact_and_never_go_back() {
    for seed in 0..HISTORIES {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            world.step();
            world.check(&format!("in step {step} of history {seed}"));
            if step % 25 == 0 {
                world.save();
            }
        }
    }
}

/// A state with rows of every kind.
fn full() -> AggregateState {
    let counter =
        |name: &str, born| HostSeries::Tuple(tuple("ns;=%", name, born), TupleCounter::PaymentPresented);
    let keys = |names: &[&str]| Keys {
        tuples: names.iter().map(|name| tuple("ns;=%", name, 0)).collect(),
        offers: names.iter().map(|name| ("ns;=%".to_owned(), (*name).to_owned())).collect(),
    };
    let mut aggregate = Aggregate::default();
    aggregate.apply(1, keys(&["a", "b"]));
    let values = vec![
        (counter("a", 0), u64::MAX),
        (counter("b", 0), 2),
        (HostSeries::LastSuccess(tuple("ns;=%", "a", 0)), 77),
    ];
    aggregate.ingest("e1", report(10, values.clone()));
    aggregate.ingest("e1", report(1_000, values.clone()));
    aggregate.forget_silent(25 * 3600);
    let mut last = report(2_000, values);
    last.malformed.push(("farebox_odd".to_owned(), 3));
    aggregate.ingest("e2", last);
    aggregate.apply(2, keys(&["a"]));
    aggregate.to_state()
}

#[test]
fn a_saved_state_is_rows_with_exact_numbers() {
    let state = full();
    let json = serde_json::to_value(&state).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["retired"][0]["total"], "36893488147419103230");
    assert_eq!(json["processes"].as_array().unwrap().len(), 3);
    let name = "offer_namespace=.=ns%3b%3d%25;.;offer_name=.=a;.;chain=.=eip155:84532;.;\
        asset_symbol=.=USDC;.;born=.=0;.;farebox_payments_presented_total";
    assert_eq!(
        json["counters"][1],
        serde_json::json!({"source": "e2", "life": 0, "series": name, "last": u64::MAX, "baseline": 0})
    );
    assert_eq!(json["counters"][2]["baseline"], serde_json::Value::Null);
    assert_eq!(json["malformed"][0]["last"], 3);
    assert_eq!(json["latest"][0]["seconds"], 77);
    assert_eq!(json["births"][0]["generation"], 0);
    assert_eq!(json["removals"][0]["generation"], 2);
    assert_eq!(json["dropped"], serde_json::json!([{"reason": "malformed", "count": 1}]));
    assert_eq!(Aggregate::from_state(&state).unwrap().to_state(), state);
}

#[test]
fn totals_are_the_same_before_and_after_the_first_load_of_the_next_run() {
    let mut aggregate = Aggregate::from_state(&full()).unwrap();
    let total = |aggregate: &Aggregate| {
        aggregate.totals().tuples[&tuple("ns;=%", "a", 0)].get(TupleCounter::PaymentPresented)
    };
    let before = total(&aggregate);
    assert_eq!(before, 3 * u128::from(u64::MAX));
    let keys = Keys { tuples: [tuple("ns;=%", "a", 0)].into(), offers: [].into() };
    aggregate.apply(3, keys);
    assert_eq!(total(&aggregate), before);
    assert_eq!(aggregate.totals().dropped(DropReason::Malformed), 1);
}

#[test]
fn births_that_were_published_after_the_state_was_saved_win() {
    let published = BTreeMap::from([(tuple("ns;=%", "a", 0), 9)]);
    let mut aggregate = Aggregate::from_state(&full()).unwrap().published(Some(published));
    aggregate.apply(10, Keys { tuples: [tuple("ns;=%", "a", 0)].into(), offers: [].into() });
    let totals = aggregate.totals();
    assert_eq!(totals.tuples[&tuple("ns;=%", "a", 0)].get(TupleCounter::PaymentPresented), 0);
}

#[test]
fn a_state_that_is_damaged_is_refused_whole() {
    let damaged = |damage: &dyn Fn(&mut AggregateState)| {
        let mut state = full();
        damage(&mut state);
        Aggregate::from_state(&state).err()
    };
    assert_eq!(damaged(&|_| {}), None);
    assert_eq!(damaged(&|state| state.version = 2), Some(StateError::Version(2)));
    let unreadable = |text: &str| Some(StateError::Unreadable(text.into()));
    assert_eq!(damaged(&|state| state.counters[0].series = "odd".into()), unreadable("odd"));
    assert_eq!(damaged(&|state| state.retired[0].total = "-1".into()), unreadable("-1"));
    assert_eq!(damaged(&|state| state.dropped[0].reason = "why".into()), unreadable("why"));
    let twice = |state: &mut AggregateState| state.processes.push(state.processes[0].clone());
    assert_eq!(damaged(&twice), Some(StateError::Twice("e1".into())));
    assert_eq!(damaged(&|state| state.processes.clear()), Some(StateError::Orphan("e2".into())));
}
