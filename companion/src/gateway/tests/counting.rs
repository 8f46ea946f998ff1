//! Tests of the gateway's counts, and of their way to the ledger.

use std::collections::BTreeMap;

use farebox_core::metrics::MetricSeries;

use super::world::{World, payment};

#[tokio::test]
async fn each_answer_is_counted_before_its_head_is_sent() {
    let world = World::start().await;
    // Sums of milliseconds are left out, because their growth is not predictable.
    let is_counted = |series: &MetricSeries| !matches!(series, MetricSeries::CallMillis(..));
    let mut before = 0;
    let mut more = || {
        let counters = world.counters();
        let now: u64 = counters.iter().filter(|(series, _)| is_counted(series)).map(|(_, by)| by).sum();
        now - std::mem::replace(&mut before, now)
    };
    assert_eq!(world.get("/paid/x").await.status, 402);
    assert_eq!(more(), 1);
    assert_eq!(world.get("/elsewhere").await.status, 404);
    assert_eq!(more(), 1);
    // Presented, verified, and the buckets of two calls.
    let streaming = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    assert_eq!((streaming.status().as_u16(), more()), (200, 4));
    assert_eq!(world.counters().keys().filter(|series| !is_counted(series)).count(), 2);
    // Presented, failed upstream, and one call.
    assert_eq!(world.pay("/paid/500", &payment(2)).await.status, 500);
    assert_eq!(more(), 3);
    assert_eq!(world.get("/free/x").await.status, 200);
    assert_eq!(more(), 0, "a free request counts nothing");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_loses_no_count_and_a_report_that_is_told_twice_counts_once() {
    let world = World::start().await;
    let required = async || {
        let counters = world.ledger.counters().await.unwrap();
        counters.values().sum::<u64>()
    };
    let sift = |changes: &mut BTreeMap<_, _>| world.state.counted.lock().admit(changes);
    assert_eq!(world.get("/paid/x").await.status, 402);
    world.meters.report(&world.ledger, &sift).await.unwrap();
    world.meters.report(&world.ledger, &sift).await.unwrap();
    assert_eq!(required().await, 1);
    assert_eq!(world.get("/paid/x").await.status, 402);
    // The gateway does not know whether the ledger has the report.
    for _ in 0..20 {
        let _ = futures_util::FutureExt::now_or_never(world.meters.report(&world.ledger, &sift));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(world.get("/paid/x").await.status, 402);
    world.ledger.close().await;
    world.meters.report(&world.ledger, &sift).await.unwrap_err();
    let url = world.ledger.url();
    let ledger = crate::ledger::Ledger::open(&url, "c1", Default::default()).await.unwrap();
    world.meters.report(&ledger, &sift).await.unwrap();
    let counters = ledger.counters().await.unwrap();
    assert_eq!(counters.values().sum::<u64>(), 3);
}
