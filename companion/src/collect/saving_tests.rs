//! A collector with a ledger: what it read survives it.

use farebox_core::evm::Amount;
use farebox_core::metrics::{TupleCounter, host_name};

use super::*;
use crate::aggregate::{Aggregate, Keys, Rows};
use crate::testing::{FakeEnvoy, now, tuple};

/// The companion of one database, over its lives.
struct Companion {
    folder: tempfile::TempDir,
    envoy: FakeEnvoy,
}

/// One life of it.
struct Life {
    collector: Collector,
    state: Shared,
    ledger: Ledger,
}

fn requests() -> HostSeries {
    HostSeries::Tuple(tuple("ns", "a", 0), TupleCounter::PaymentPresented)
}

fn keys() -> Keys {
    Keys { tuples: [tuple("ns", "a", 0)].into(), offers: [("ns".into(), "a".into())].into() }
}

// === impl Companion ===

impl Companion {
    async fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), envoy: FakeEnvoy::start().await }
    }

    fn url(&self) -> String {
        Ledger::file_url(&self.folder.path().join("l.db"))
    }

    /// Starts, without rules.
    async fn start(&self) -> Life {
        let ledger = Ledger::open(&self.url(), "c1", Default::default()).await.unwrap();
        let (totals, rows) = ledger.take_over_totals().await.unwrap();
        let proxy = Proxy { name: "e1".into(), stats: self.envoy.url.clone() };
        let known = ProxyState::new(proxy.name.clone(), proxy.stats.clone());
        let aggregate = Aggregate::restored(&rows).unwrap();
        let state = Shared::new(State::new("pricing.yaml".into(), vec![known], aggregate));
        let collector = Collector::new(vec![proxy], state.clone()).unwrap();
        Life { collector: collector.with_ledger(ledger.clone(), totals), state, ledger }
    }
}

// === impl Life ===

impl Life {
    fn load(&self, generation: u64) {
        self.state.counted().apply(generation, keys());
    }

    fn shown(&self) -> u128 {
        let counted = self.state.counted();
        counted.shown().tuples[&tuple("ns", "a", 0)].get(TupleCounter::PaymentPresented)
    }

    fn error(&self) -> Option<String> {
        self.state.lock().totals_error.clone()
    }

    async fn rows(&self) -> Rows {
        self.ledger.take_over_totals().await.unwrap().1
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut *self.ledger.connection().await.unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn totals_go_on_although_the_companion_and_the_proxy_were_killed() {
    let companion = Companion::new().await;
    let life = companion.start().await;
    life.load(1);
    companion.envoy.count(&requests(), 5);
    life.collector.collect().await;
    assert_eq!(life.shown(), 5);
    drop(life);
    companion.envoy.set(|answers| answers.started = now());
    companion.envoy.count(&requests(), 2);

    let life = companion.start().await;
    assert_eq!(life.shown(), 5, "before any rules");
    life.load(2);
    assert_eq!(life.shown(), 5, "before any reading");
    life.collector.collect_on_demand().await;
    assert_eq!(life.shown(), 7);
    let rows = life.state.counted().to_state().to_rows();
    assert_eq!(rows, life.rows().await);
}

#[tokio::test]
async fn a_reading_of_nothing_new_writes_nothing() {
    let companion = Companion::new().await;
    let life = companion.start().await;
    life.load(1);
    companion.envoy.count(&requests(), 5);
    life.collector.collect().await;
    // From here on no total can be written. The start of a process is learned ever more exactly.
    life.run(
        "CREATE TRIGGER full BEFORE INSERT ON totals WHEN NEW.kind <> 'process' \
         BEGIN SELECT RAISE(FAIL, 'disk full'); END",
    )
    .await;
    life.collector.collect().await;
    assert_eq!(life.error(), None);
    companion.envoy.count(&requests(), 6);
    life.collector.collect().await;
    assert!(life.error().is_some());
}

#[tokio::test]
async fn a_database_that_fails_stops_no_total_and_gets_all_that_is_due_once_it_works() {
    let companion = Companion::new().await;
    let life = companion.start().await;
    life.load(1);
    life.collector.collect().await;
    life.run("ALTER TABLE totals RENAME TO away").await;
    for value in [5, 8] {
        companion.envoy.count(&requests(), value);
        life.collector.collect().await;
        assert_eq!(life.shown(), u128::from(value));
        let error = life.error().unwrap();
        assert!(error.starts_with("the totals cannot be saved: the ledger failed: "), "{error}");
    }
    life.run("ALTER TABLE away RENAME TO totals").await;
    // Nothing was counted since: what is due is written all the same.
    life.collector.collect().await;
    assert_eq!(life.error(), None);
    drop(life);
    assert_eq!(companion.start().await.shown(), 8);
}

#[tokio::test]
async fn of_two_companions_of_one_name_the_last_one_saves() {
    let companion = Companion::new().await;
    let first = companion.start().await;
    first.load(1);
    companion.envoy.count(&requests(), 5);
    first.collector.collect().await;
    let second = companion.start().await;
    second.load(2);
    companion.envoy.count(&requests(), 6);
    first.collector.collect().await;
    let error = first.error().unwrap();
    assert!(error.contains("another companion of the name `c1` has taken over this ledger"), "{error}");
    second.collector.collect().await;
    assert_eq!((second.shown(), second.error()), (6, None));
    assert_eq!(companion.start().await.shown(), 6);
}

#[tokio::test]
async fn counters_of_an_offer_that_is_gone_leave_the_ledger_with_it() {
    let companion = Companion::new().await;
    let life = companion.start().await;
    let charged = |name: &str| HostSeries::Charged(tuple("ns", name, 0), Amount::from_u64(1_000));
    for name in ["a", "gone"] {
        sqlx::query("INSERT INTO counters (companion, series, value) VALUES ('c1', $1, 3)")
            .bind(host_name(&charged(name)))
            .execute(&mut *life.ledger.connection().await.unwrap())
            .await
            .unwrap();
    }
    life.load(1);
    life.collector.collect().await;
    assert_eq!(life.ledger.counters().await.unwrap().len(), 2, "there are no rules in force yet");
    let rules = farebox_core::rules::load(&crate::testing::pricing("http://127.0.0.1:1", &["a"]));
    life.state.lock().active = Some(crate::state::Active {
        generation: 1,
        hash: String::new(),
        snapshot: rules.snapshot.unwrap().into(),
        applied_at: 0,
        swept: 0,
    });
    life.collector.collect().await;
    let left: Vec<_> = life.ledger.counters().await.unwrap().into_iter().map(|(series, _)| series).collect();
    assert_eq!(left, [charged("a")]);
    assert_eq!(life.state.counted().totals().tuples[&tuple("ns", "a", 0)].charged, 3);
}
