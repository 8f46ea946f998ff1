//! A companion that is killed between any two steps.

use std::collections::BTreeMap;

use farebox_core::metrics::TupleCounter;

use super::state_tests::Random;
use super::tests::{base, charged, keys, report, requests};
use super::*;

/// What a database does with changes.
pub(super) fn apply(rows: &mut Rows, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(rows.insert(key.clone(), value.clone())),
            None => drop(rows.remove(key)),
        }
    }
}

/// The time of a reading is saved only now and then.
pub(super) fn but_for_times(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    for (_, value) in rows.iter_mut().filter(|(key, _)| key.kind == Kind::Process) {
        let mut process: serde_json::Value = serde_json::from_str(value).unwrap();
        process.as_object_mut().unwrap().remove("read_at").unwrap();
        *value = process.to_string();
    }
    rows
}

fn save(aggregate: &mut Aggregate, rows: &mut Rows) -> usize {
    let Some(taken) = aggregate.take_changes() else { return 0 };
    let written = taken.changes.len();
    apply(rows, &taken.changes);
    aggregate.show(taken);
    written
}

fn shown(aggregate: &Aggregate, name: &str) -> Option<u128> {
    let shown = aggregate.shown();
    shown.tuples.get(&base(name, 0)).map(|totals| totals.get(TupleCounter::PaymentPresented))
}

#[test]
fn only_what_changed_is_written() {
    let (mut aggregate, mut rows) = (Aggregate::restored(&Rows::new()).unwrap(), Rows::new());
    let names: Vec<String> = (0..1_000).map(|number| format!("o{number}")).collect();
    aggregate.apply(1, keys(&names.iter().map(String::as_str).collect::<Vec<_>>()));
    let mut values: Vec<_> = names.iter().map(|name| (requests(name, 0), 5)).collect();
    aggregate.ingest("e1", report(100, &values));
    assert_eq!(save(&mut aggregate, &mut rows), 3_003, "a version, a process, and each offer thrice");
    aggregate.ingest("e1", report(100, &values));
    assert_eq!(save(&mut aggregate, &mut rows), 0);
    values[7].1 = 6;
    aggregate.ingest("e1", report(100, &values));
    assert_eq!(save(&mut aggregate, &mut rows), 1);
    assert_eq!(rows, aggregate.to_state().to_rows());
}

#[test]
fn nothing_is_shown_before_it_is_saved() {
    let (mut aggregate, mut rows) = (Aggregate::restored(&Rows::new()).unwrap(), Rows::new());
    aggregate.apply(1, keys(&["a", "b"]));
    aggregate.ingest("e1", report(100, &[(requests("a", 0), 5)]));
    save(&mut aggregate, &mut rows);
    aggregate.ingest("e1", report(100, &[(requests("a", 0), 9)]));
    assert_eq!(shown(&aggregate, "a"), Some(5));
    let taken = aggregate.take_changes().unwrap();
    assert_eq!(shown(&aggregate, "a"), Some(5), "it may not have arrived");
    // Rules that come while it is written are in force at once, and old totals do not come back with it.
    aggregate.apply(2, keys(&["b", "c"]));
    assert_eq!((shown(&aggregate, "a"), shown(&aggregate, "c")), (None, Some(0)));
    apply(&mut rows, &taken.changes);
    aggregate.show(taken);
    assert_eq!(shown(&aggregate, "a"), None);
    save(&mut aggregate, &mut rows);
    assert_eq!((shown(&aggregate, "a"), shown(&aggregate, "b")), (None, Some(0)));
}

#[test]
fn rows_of_an_offer_go_with_it_and_it_does_not_come_back_with_the_next_run() {
    let (mut aggregate, mut rows) = (Aggregate::restored(&Rows::new()).unwrap(), Rows::new());
    aggregate.apply(1, keys(&["a", "gone"]));
    // A source that never forgets, as the ledger is one.
    let counters = [(requests("a", 0), 3), (charged("gone", 0, 1_000), 4)];
    let lasting = || Report { process: Process::lasting(), ..report(0, &counters) };
    aggregate.ingest("ledger", lasting());
    save(&mut aggregate, &mut rows);
    aggregate.apply(2, keys(&["a"]));
    aggregate.ingest("ledger", lasting());
    aggregate.forget_removals(None);
    save(&mut aggregate, &mut rows);
    let about: Vec<_> = rows.iter().filter(|(key, _)| key.name.contains("gone")).collect();
    assert_eq!(about.len(), 1, "what it showed last, to notice late charges: {about:?}");
    assert_eq!((about[0].0.kind, about[0].1.as_str()), (Kind::Counter, "4"));

    let mut aggregate = Aggregate::restored(&rows).unwrap();
    aggregate.apply(3, keys(&["a", "gone"]));
    assert_eq!(aggregate.births(4, &keys(&["gone"]))[&base("gone", 0)], 3);
    assert_eq!(aggregate.ingest("ledger", lasting()), []);
    let totals = aggregate.totals();
    assert_eq!(totals.tuples[&base("gone", 0)].charged, 0);
    assert_eq!(totals.dropped(DropReason::StaleGeneration), 0);
}

/// A restore, or an asynchronous failover: what was seen is not counted again, nor is what fills the gap.
#[test]
fn a_database_that_goes_back_doubles_nothing() {
    let (mut aggregate, mut rows) = (Aggregate::restored(&Rows::new()).unwrap(), Rows::new());
    aggregate.apply(1, keys(&["a", "b"]));
    let says = |a: u64, b: u64| {
        let counters: Vec<_> = [("a", a), ("b", b)].into_iter().filter(|(_, value)| *value > 0).collect();
        let counters: Vec<_> =
            counters.into_iter().map(|(name, value)| (charged(name, 0, 1_000), value)).collect();
        Report { process: Process::lasting(), ..report(0, &counters) }
    };
    let charged =
        |aggregate: &Aggregate| ["a", "b"].map(|name| aggregate.totals().tuples[&base(name, 0)].charged);
    for (a, b, shown) in [(3, 1, [3, 1]), (2, 0, [3, 1]), (3, 0, [3, 1]), (4, 1, [4, 1]), (4, 2, [4, 2])] {
        aggregate.ingest("ledger", says(a, b));
        save(&mut aggregate, &mut rows);
        assert_eq!(charged(&aggregate), shown, "the ledger says {a} and {b}");
    }
    let mut aggregate = Aggregate::restored(&rows).unwrap();
    aggregate.apply(2, keys(&["a", "b"]));
    aggregate.ingest("ledger", says(5, 2));
    save(&mut aggregate, &mut rows);
    assert_eq!(charged(&aggregate), [5, 2]);
}

#[test]
fn rows_that_cannot_be_read_are_refused_whole() {
    let mut aggregate = Aggregate::restored(&Rows::new()).unwrap();
    let mut rows = Rows::new();
    aggregate.apply(1, keys(&["a"]));
    aggregate.ingest("e1", report(100, &[(requests("a", 0), 5)]));
    save(&mut aggregate, &mut rows);
    let refused = |kind: Kind, value: Option<&str>| {
        let mut rows = rows.clone();
        let key = rows.keys().find(|key| key.kind == kind).unwrap().clone();
        apply(&mut rows, &[(key, value.map(str::to_owned))]);
        Aggregate::restored(&rows).unwrap_err()
    };
    let unreadable = |text: &str| StateError::Unreadable(text.to_owned());
    assert_eq!(refused(Kind::Version, Some("2")), StateError::Version(2));
    assert_eq!(refused(Kind::Version, None), StateError::NoVersion);
    assert_eq!(refused(Kind::Counter, Some("5 x")), unreadable("x"));
    assert_eq!(refused(Kind::Process, Some("{}")), unreadable("{}"));
    assert_eq!(refused(Kind::Birth, Some("")), unreadable(""));
    assert_eq!(refused(Kind::Process, None), StateError::Orphan("e1".into()));
}

/// Values by offer and birth.
type Counters = BTreeMap<(&'static str, u64), u64>;

/// A fleet whose companion saves, forgets and dies as it pleases.
struct World {
    random: Random,
    aggregate: Aggregate,
    rows: Rows,
    time: i64,
    generation: u64,
    /// What every proxy finds in its file, and an earlier run of the companion reads back.
    published: BTreeMap<&'static str, u64>,
    /// Start and counters of each proxy.
    proxies: Vec<(i64, Counters)>,
    /// Counted in the present life of each offer.
    counted: BTreeMap<&'static str, u128>,
    /// Last shown.
    seen: BTreeMap<&'static str, u128>,
}

// === impl World ===

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random(seed),
            aggregate: Aggregate::restored(&Rows::new()).unwrap(),
            rows: Rows::new(),
            time: 1_000,
            generation: 1_000,
            published: BTreeMap::new(),
            proxies: (0..3).map(|number| (number * 100, BTreeMap::new())).collect(),
            counted: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        world.load(&["a", "b", "c"]);
        world
    }

    fn step(&mut self) {
        self.time += 10;
        let proxy = self.random.pick(&[0, 1, 2]);
        match self.random.below(20) {
            0..=6 => {
                let name = self.random.pick(&["a", "b", "c"]);
                let Some(born) = self.published.get(name) else { return };
                *self.proxies[proxy].1.entry((name, *born)).or_default() += 3;
                *self.counted.entry(name).or_default() += 3;
            }
            7..=11 => self.read(proxy),
            12..=15 => drop(save(&mut self.aggregate, &mut self.rows)),
            16 => self.proxies[proxy] = (self.time, BTreeMap::new()),
            17 => {
                let kept: Vec<_> = ["a", "b", "c"].into_iter().filter(|_| self.random.below(4) > 0).collect();
                self.load(&kept);
            }
            _ => self.kill(),
        }
    }

    fn read(&mut self, proxy: usize) {
        let (started, counters) = &self.proxies[proxy];
        let values: Vec<_> =
            counters.iter().map(|((name, born), value)| (requests(name, *born), *value)).collect();
        self.aggregate.ingest(&format!("e{proxy}"), report(*started, &values));
    }

    fn load(&mut self, offers: &[&'static str]) {
        self.generation += 1;
        let births = self.aggregate.births(self.generation, &keys(offers));
        self.aggregate.apply(self.generation, keys(offers));
        let births: BTreeMap<_, _> = offers.iter().map(|name| (*name, births[&base(name, 0)])).collect();
        let lives_on = |name: &str| births.contains_key(name) && births.get(name) == self.published.get(name);
        self.counted.retain(|name, _| lives_on(name));
        self.seen.retain(|name, _| lives_on(name));
        self.published = births;
    }

    /// What was not saved is gone. Another run reads the rows and what was published.
    fn kill(&mut self) {
        let births = self.published.iter().map(|(name, born)| (base(name, 0), *born)).collect();
        self.aggregate = Aggregate::restored(&self.rows).unwrap().published(Some(births));
        if self.random.below(2) == 0 {
            self.read(0);
        }
        let offers: Vec<_> = self.published.keys().copied().collect();
        self.load(&offers);
    }

    fn check(&mut self, when: &str) {
        for name in self.published.keys() {
            let total = shown(&self.aggregate, name).unwrap();
            let counted = self.counted.get(name).copied().unwrap_or(0);
            let before = self.seen.insert(name, total).unwrap_or(0);
            assert!(before <= total && total <= counted, "{name} {when}: {before} {total} {counted}");
        }
    }
}

#[test]
fn whenever_it_is_killed_what_was_shown_never_goes_back_and_nothing_is_counted_twice() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for step in 0..250 {
            world.step();
            world.check(&format!("in step {step} of history {seed}"));
        }
    }
}
