use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use farebox_core::metrics::TupleCounter;
use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::aggregate::{Aggregate, Keys};
use crate::publish::ProxyState;
use crate::state::State;
use crate::testing::{FakeEnvoy, eventually, now, tuple};

fn collector(envoys: &[&FakeEnvoy]) -> (Arc<Collector>, Shared) {
    let named =
        |(index, envoy): (usize, &&FakeEnvoy)| Proxy { name: format!("e{index}"), stats: envoy.url.clone() };
    let proxies: Vec<_> = envoys.iter().enumerate().map(named).collect();
    let states =
        proxies.iter().map(|proxy| ProxyState::new(proxy.name.clone(), proxy.stats.clone())).collect();
    let mut aggregate = Aggregate::default();
    aggregate
        .apply(1, Keys { tuples: [tuple("ns", "a", 0)].into(), offers: [("ns".into(), "a".into())].into() });
    let state = Shared::new(State::new("pricing.yaml".into(), states, aggregate));
    (Arc::new(Collector::new(proxies, state.clone()).unwrap()), state)
}

fn requests() -> HostSeries {
    HostSeries::Tuple(tuple("ns", "a", 0), TupleCounter::PaymentPresented)
}

fn total(state: &Shared) -> u128 {
    state.counted().totals().tuples[&tuple("ns", "a", 0)].get(TupleCounter::PaymentPresented)
}

#[tokio::test]
async fn counters_are_read_exactly_even_beyond_what_a_double_holds() {
    let envoy = FakeEnvoy::start().await;
    envoy.count(&requests(), u64::MAX - 1);
    let (collector, state) = collector(&[&envoy]);
    collector.collect().await;
    assert_eq!(total(&state), u128::from(u64::MAX) - 1);
}

#[tokio::test]
async fn generation_and_refusals_are_read_from_the_proxy_itself() {
    let envoy = FakeEnvoy::start().await;
    envoy.set(|answers| {
        answers.generation = Some(7);
        answers.rejected = 3;
    });
    let client = crate::http::client_builder().build().unwrap();
    let reading = envoy::read(&client, &Clock::start(), &envoy.url, &envoy::Query::new(None)).await.unwrap();
    assert_eq!((reading.generation, reading.rejected), (Some(7), 3));
    assert_eq!((reading.report.values, reading.report.malformed), (vec![], vec![]));
}

#[tokio::test]
async fn a_clock_that_differs_and_a_relay_that_is_not_reached_are_read_from_the_proxy_itself() {
    let envoy = FakeEnvoy::start().await;
    let (alone, state) = collector(&[&envoy]);
    let collector = Arc::into_inner(alone).unwrap().relaying_by(Some("farebox"));
    let read = async || {
        collector.collect().await;
        let state = state.lock();
        let now = crate::state::unix_seconds();
        (state.proxies[0].clock(), state.proxies[0].reaches_relay(now))
    };
    assert_eq!(read().await, (Some(0), None), "no health check says nothing");
    for (ahead, shown) in [(120, 118..=120), (-120, -120..=-117), (2, 0..=2), (-1, -1..=0)] {
        envoy.set(|answers| (answers.clock_ahead, answers.started) = (ahead, now() - 100 + ahead));
        let (clock, _) = read().await;
        assert!(shown.contains(&clock.unwrap()), "{ahead}: {clock:?}");
    }
    envoy.set(|answers| drop(answers.stats.insert("cluster.farebox.health_check.failure".into(), json!(3))));
    assert_eq!(read().await.1, Some(false));
    envoy.set(|answers| drop(answers.stats.insert("cluster.farebox.membership_healthy".into(), json!(1))));
    assert_eq!(read().await.1, Some(true));
}

#[tokio::test]
async fn names_of_other_filters_are_left_alone_and_broken_ones_of_ours_counted() {
    let envoy = FakeEnvoy::start().await;
    envoy.set(|answers| {
        answers.stats.insert("wasmcustom.other_filter_total".into(), json!(5));
        answers.stats.insert("wasmcustom.offer_name=.=a;.;farebox_payments_presented_total".into(), json!(2));
        answers.stats.insert("wasmcustom.farebox_text".into(), json!("no number"));
    });
    let (collector, state) = collector(&[&envoy]);
    collector.collect().await;
    collector.collect().await;
    assert_eq!(state.counted().totals().dropped(DropReason::Malformed), 1);
}

#[tokio::test]
async fn a_proxy_that_restarts_while_it_is_read_is_not_counted_twice() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state) = collector(&[&envoy]);
    envoy.count(&requests(), 10);
    collector.collect().await;
    envoy.count(&requests(), 3);
    envoy.set(|answers| answers.started_after_stats = Some(now()));
    collector.collect().await;
    assert_eq!(total(&state), 10);
    assert_eq!(state.lock().proxies[0].last_error.as_deref(), Some("restarted while it was read"));
    collector.collect().await;
    assert_eq!(total(&state), 13);
    assert_eq!(state.lock().proxies[0].last_error, None);
}

#[tokio::test]
async fn an_unreachable_proxy_keeps_its_values_and_says_why() {
    let envoy = FakeEnvoy::start().await;
    let gone = FakeEnvoy { url: "http://127.0.0.1:1".into(), ..envoy.clone() };
    envoy.count(&requests(), 4);
    let (collector, state) = collector(&[&envoy, &gone]);
    collector.collect().await;
    assert_eq!(total(&state), 4);
    let state = state.lock();
    assert_eq!(state.proxies[0].last_error, None);
    assert!(state.proxies[1].last_error.as_deref().unwrap().contains("refused"));
    assert_eq!(state.proxies[1].last_report, None);
}

#[tokio::test]
async fn a_reader_in_a_hurry_gets_the_quick_proxies_and_does_not_wait_for_the_slow_one() {
    let (quick, slow) = (FakeEnvoy::start().await, FakeEnvoy::start().await);
    quick.count(&requests(), 4);
    slow.count(&requests(), 5);
    slow.set(|answers| answers.delay = Duration::from_secs(30));
    let (collector, state) = collector(&[&quick, &slow]);
    let start = Instant::now();
    collector.collect_on_demand().await;
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    assert_eq!(total(&state), 4);
}

#[tokio::test]
async fn readers_that_arrive_during_a_round_share_the_next() {
    let envoy = FakeEnvoy::start().await;
    envoy.set(|answers| answers.delay = Duration::from_millis(50));
    let (collector, _state) = collector(&[&envoy]);
    join_all((0..20).map(|_| collector.collect())).await;
    assert_eq!(envoy.readings.load(Ordering::SeqCst), 2);
    collector.collect().await;
    assert_eq!(envoy.readings.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn proxies_are_read_again_every_interval() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state) = collector(&[&envoy]);
    tokio::spawn(async move { collector.run(Duration::from_millis(20)).await });
    eventually("first reading", || state.lock().proxies[0].last_report.is_some()).await;
    envoy.count(&requests(), 9);
    eventually("a later reading", || total(&state) == 9).await;
}

#[tokio::test]
async fn a_clock_that_is_set_at_either_end_counts_nothing_twice() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state) = collector(&[&envoy]);
    envoy.count(&requests(), 10);
    collector.collect().await;
    for ahead in [3_600, -50] {
        // Its age jumps with its time of day.
        envoy.set(|answers| answers.clock_ahead = ahead);
        collector.collect().await;
        assert_eq!(total(&state), 10);
    }
    envoy.set(|answers| answers.clock_ahead = 0);
    let mut collector = Arc::into_inner(collector).unwrap();
    collector.clock = Clock::ahead(7_200);
    collector.collect().await;
    assert_eq!(total(&state), 10);
}

#[tokio::test]
async fn an_envoy_that_is_as_old_as_the_one_before_was_is_still_another() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state) = collector(&[&envoy]);
    envoy.set(|answers| answers.started = now() - 10);
    envoy.count(&requests(), 10);
    collector.collect().await;
    // Nobody read for a while; both clocks went on, and the new one is ten seconds old as well.
    envoy.set(|answers| {
        answers.clock_ahead = 60;
        answers.started = now() + 60 - 10;
    });
    let mut collector = Arc::into_inner(collector).unwrap();
    collector.clock = Clock::ahead(60);
    envoy.count(&requests(), 12);
    collector.collect().await;
    assert_eq!(total(&state), 22);
}

#[tokio::test]
async fn the_heir_of_a_hot_restart_is_read_once_it_has_its_inheritance() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state) = collector(&[&envoy]);
    envoy.count(&requests(), 13);
    collector.collect().await;
    envoy.set(|answers| {
        answers.restart_epoch = 1;
        answers.started = now();
        answers.is_initializing = true;
    });
    envoy.count(&requests(), 0);
    collector.collect().await;
    assert_eq!(
        state.lock().proxies[0].last_error.as_deref(),
        Some("is taking over from the process before it")
    );
    envoy.set(|answers| answers.is_initializing = false);
    envoy.count(&requests(), 3);
    collector.collect().await;
    assert_eq!(total(&state), 13);
    envoy.count(&requests(), 5);
    collector.collect().await;
    assert_eq!(total(&state), 15);
}

#[tokio::test]
async fn numbers_of_the_new_process_between_two_answers_of_the_old_are_not_taken() {
    let envoy = FakeEnvoy::start().await;
    let (collector, state) = collector(&[&envoy]);
    envoy.count(&requests(), 13);
    collector.collect().await;
    envoy.set(|answers| answers.epoch_in_stats = Some(1));
    envoy.count(&requests(), 3);
    collector.collect().await;
    assert_eq!(state.lock().proxies[0].last_error.as_deref(), Some("restarted while it was read"));
    envoy.set(|answers| answers.epoch_in_stats = None);
    envoy.count(&requests(), 14);
    collector.collect().await;
    assert_eq!(total(&state), 14);
}

#[tokio::test]
async fn dead_proxies_among_many_delay_nobody_and_every_other_one_is_fresh() {
    let envoys = join_all((0..100).map(|_| FakeEnvoy::start())).await;
    for (index, envoy) in envoys.iter().enumerate() {
        envoy.count(&requests(), 1);
        if index % 10 == 0 {
            envoy.set(|answers| answers.delay = Duration::from_secs(30));
        }
    }
    let (collector, state) = collector(&envoys.iter().collect::<Vec<_>>());
    let background = tokio::spawn({
        let collector = collector.clone();
        async move { collector.run(Duration::from_secs(5)).await }
    });
    eventually("the living are read", || total(&state) == 90).await;
    // The round is still waiting for the dead.
    envoys.iter().for_each(|envoy| envoy.count(&requests(), 2));
    let start = Instant::now();
    collector.collect_on_demand().await;
    assert_eq!(total(&state), 180);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    background.abort();
}

#[tokio::test]
async fn a_reader_who_gives_up_does_not_make_others_miss_their_reading() {
    let envoy = FakeEnvoy::start().await;
    envoy.count(&requests(), 4);
    envoy.set(|answers| answers.delay = Duration::from_millis(800));
    let (collector, state) = collector(&[&envoy]);
    let hurried = collector.collect_on_demand();
    let patient = collector.collect();
    tokio::join!(hurried, patient);
    assert_eq!(total(&state), 4);
}
