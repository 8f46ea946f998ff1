//! Companions of one ledger use the same generations.

use std::sync::Arc;

use farebox_core::metrics::{Counted, MetricSeries, TupleCounter};
use tokio::sync::watch;

use super::*;
use crate::facilitator::{Credentials, FacilitatorClient};
use crate::ledger::Ledger;
use crate::publish::{Publication, Published};
use crate::rules::{Readiness, ReloadResult};
use crate::serve::Shared;
use crate::settings::Settlement;
use crate::testing::{Database, Gate, fake_facilitator, on_every_database, pricing, settings, tuple};

/// One of the companions.
struct Companion {
    loader: Loader,
    ledger: Ledger,
    state: Shared,
    published: watch::Receiver<Option<Publication>>,
    facilitator: String,
}

on_every_database! {
    of_companions_that_load_the_same_files_at_once_each_file_gets_one_generation,
    a_companion_that_comes_later_or_again_takes_the_number_that_is_there,
    an_offer_that_went_and_came_back_elsewhere_starts_anew_here_too,
    a_companion_with_an_older_file_neither_takes_nor_gives_numbers,
    what_was_published_before_there_was_a_ledger_goes_on_in_it,
}

impl Companion {
    async fn start(url: &str, facilitator: &str, last: Option<Published>) -> Self {
        let ledger = Ledger::open(url, "c", Default::default()).await.unwrap();
        let settings = settings(Settlement::Relay);
        let state = Shared::new("pricing.yaml".into());
        let readiness = Readiness::start(FacilitatorClient::new(Credentials::default()).unwrap());
        let (publications, published) = watch::channel(None);
        let loader = Loader::new(Arc::new(settings), state.for_loading(), readiness, publications, last);
        let loader = loader.sharing(Some(ledger.clone()));
        Self { loader, ledger, state, published, facilitator: facilitator.to_owned() }
    }

    async fn load(&mut self, offers: &[&str]) -> ReloadResult {
        let text = pricing(&self.facilitator, offers);
        self.loader.reload(Source::File, Ok(text)).await;
        self.state.lock().rules.last_attempt.as_ref().unwrap().result
    }

    /// Its publication, from which the filter's whole configuration is made.
    fn pushed(&self) -> Publication {
        self.published.borrow().clone().unwrap()
    }

    fn generation(&self) -> u64 {
        self.state.lock().rules.active.as_ref().unwrap().generation
    }

    /// Writes one request to the ledger, as reported by a proxy.
    async fn count(&self, offer: &str, born: u64) {
        let series = MetricSeries::Tuple(tuple("ns", offer, born), TupleCounter::PaymentPresented);
        let (reporter, changes) = (crate::ledger::new_run(), [(series, 1)].into());
        let report = Counted { reporter, sequence: 1, changes, malformed: 0 };
        assert!(self.ledger.apply(&report).await.unwrap());
    }

    async fn counted(&self, offer: &str) -> u128 {
        let counters = self.ledger.counters().await.unwrap();
        self.state.counted.lock().read(counters);
        let totals = self.state.counted.lock().totals();
        let found = totals.tuples.iter().find(|(tuple, _)| tuple.offer_name == offer);
        found.map_or(0, |(_, of)| of.get(TupleCounter::PaymentPresented))
    }
}

async fn pair(database: &Database) -> [Companion; 2] {
    let facilitator = fake_facilitator().await;
    let first = Companion::start(&database.url, &facilitator, None).await;
    [first, Companion::start(&database.url, &facilitator, None).await]
}

async fn of_companions_that_load_the_same_files_at_once_each_file_gets_one_generation(database: Database) {
    let [mut first, mut second] = pair(&database).await;
    let mut generations = Vec::new();
    for offers in [&["a", "b"][..], &["a"], &["a", "b", "c"], &["c"], &["a", "b"]] {
        let results = tokio::join!(first.load(offers), second.load(offers));
        assert_eq!(results, (ReloadResult::Applied, ReloadResult::Applied));
        assert_eq!(first.pushed(), second.pushed(), "generation, hash, births and all");
        generations.push(first.generation());
    }
    assert!(generations.is_sorted_by(|a, b| a < b), "{generations:?}");
    let latest = first.ledger.latest_rules().await.unwrap().unwrap();
    let pushed = first.pushed();
    assert_eq!(latest.generation, pushed.rules.generation);
    assert_eq!(latest.hash, pushed.rules.hash);
    assert_eq!(pushed.rules.tuples, [tuple("ns", "a", generations[4]), tuple("ns", "b", generations[4])]);
    assert_eq!(first.load(&["a", "b"]).await, ReloadResult::Unchanged);
    // Each row names every series, so only the last two rows are kept.
    let mut connection = first.ledger.connection().await.unwrap();
    let kept: Vec<i64> = sqlx::query_scalar("SELECT generation FROM published_rules ORDER BY generation")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(kept, generations[3..].iter().map(|generation| *generation as i64).collect::<Vec<_>>());
}

async fn a_companion_that_comes_later_or_again_takes_the_number_that_is_there(database: Database) {
    let [mut first, mut second] = pair(&database).await;
    first.load(&["a"]).await;
    first.load(&["a", "b"]).await;
    second.load(&["a", "b"]).await;
    assert_eq!(first.pushed(), second.pushed());
    // After a restart the companion knows its last publication.
    let Publication { rules, .. } = second.pushed();
    let last = Published::from((*rules).clone());
    let facilitator = second.facilitator.clone();
    drop(second);
    let mut again = Companion::start(&database.url, &facilitator, Some(last)).await;
    again.load(&["a", "b"]).await;
    assert_eq!(first.pushed(), again.pushed());
}

async fn an_offer_that_went_and_came_back_elsewhere_starts_anew_here_too(database: Database) {
    let [mut first, mut second] = pair(&database).await;
    for companion in [&mut first, &mut second] {
        companion.load(&["a", "b"]).await;
        let born = companion.generation();
        companion.count("a", born).await;
        companion.count("b", born).await;
    }
    let first_born = first.generation();
    second.load(&["a"]).await;
    second.load(&["a", "b"]).await;
    let born = second.generation();
    first.loader.follow(None).await;
    assert_eq!(first.pushed(), second.pushed());
    assert_eq!(first.pushed().rules.tuples, [tuple("ns", "a", first_born), tuple("ns", "b", born)]);
    assert_eq!(first.state.lock().rules.reloads, [1, 0, 0], "following is no load");
    for (number, companion) in [&first, &second].into_iter().enumerate() {
        let before = number as u128;
        let shown = (companion.counted("a").await, companion.counted("b").await);
        assert_eq!(shown, (2, before), "either shows what both have counted");
        companion.count("b", first_born).await;
        companion.count("b", born).await;
        assert_eq!(companion.counted("b").await, before + 1, "the life before is over");
    }
}

async fn a_companion_with_an_older_file_neither_takes_nor_gives_numbers(database: Database) {
    let [mut first, mut second] = pair(&database).await;
    first.load(&["a"]).await;
    second.load(&["a"]).await;
    second.load(&["a", "b"]).await;
    let before = first.pushed();
    first.loader.follow(None).await;
    assert_eq!(first.load(&["a"]).await, ReloadResult::Unchanged);
    assert_eq!(first.pushed(), before);
    second.loader.follow(None).await;
    assert_eq!(second.generation(), before.rules.generation + 1);
    first.load(&["a", "b"]).await;
    assert_eq!(first.pushed(), second.pushed());
}

async fn what_was_published_before_there_was_a_ledger_goes_on_in_it(database: Database) {
    let facilitator = fake_facilitator().await;
    let ahead = crate::clock::unix_seconds() * 1000 + 1_000_000;
    let births = [(tuple("ns", "a", 0), 17), (tuple("ns", "gone", 0), 3)].into();
    let last = Published { generation: ahead, births, protected: vec![] };
    let mut first = Companion::start(&database.url, &facilitator, Some(last.clone())).await;
    first.load(&["a", "b"]).await;
    let pushed = first.pushed();
    assert_eq!(pushed.rules.tuples, [tuple("ns", "a", 17), tuple("ns", "b", ahead + 1)]);
    assert_eq!(pushed.rules.generation, ahead + 1);
    // A companion with an even higher generation does not go back; the first companion follows it.
    let last = Published { generation: ahead + 500, ..last };
    let mut second = Companion::start(&database.url, &facilitator, Some(last)).await;
    second.load(&["a", "b"]).await;
    assert_eq!(second.generation(), ahead + 501);
    first.loader.follow(None).await;
    assert_eq!(first.pushed(), second.pushed());
}

#[tokio::test]
async fn a_ledger_that_is_away_keeps_the_last_good_rules_and_the_load_is_made_up_for() {
    let database = Database::postgres().await;
    let (mut gate, url) = Gate::before(&database.url).await;
    let mut companion = Companion::start(&url, &fake_facilitator().await, None).await;
    companion.load(&["a"]).await;
    let before = companion.pushed();
    gate.cut().await;
    assert_eq!(companion.load(&["a", "b"]).await, ReloadResult::Rejected);
    let cause = companion.state.lock().rules.last_attempt.as_ref().unwrap().cause("pricing.yaml");
    assert!(cause.starts_with("their generation is not agreed upon: the ledger "), "{cause}");
    assert_eq!(companion.pushed(), before);
    companion.loader.follow(None).await;
    assert_eq!(companion.state.lock().rules.reloads, [1, 0, 1], "not tried while the ledger is away");
    gate.reopen().await;
    companion.loader.follow(None).await;
    assert_eq!(companion.state.lock().rules.reloads, [2, 0, 1]);
    assert_eq!(companion.pushed().rules.generation, before.rules.generation + 1);
    assert_eq!(companion.state.lock().rules.config_err_since, None);
}
