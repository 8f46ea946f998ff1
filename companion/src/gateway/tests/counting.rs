//! What the gateway counts, and when the ledger has it.

use super::world::{World, payment};

#[tokio::test]
async fn each_answer_is_counted_before_its_head_is_sent() {
    let world = World::start().await;
    let mut before = 0;
    let mut more = || {
        let now: usize = world.counters().values().filter(|value| **value > 0).count();
        now - std::mem::replace(&mut before, now)
    };
    assert_eq!(world.get("/paid/x").await.status, 402);
    assert_eq!(more(), 1);
    assert_eq!(world.get("/elsewhere").await.status, 404);
    assert_eq!(more(), 1);
    // Presented, verified, and two calls with bucket and sum; a sum of no milliseconds is none yet.
    let streaming = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    assert_eq!(streaming.status().as_u16(), 200);
    assert!((4..=6).contains(&more()));
    assert_eq!(world.get("/free/x").await.status, 200);
    assert_eq!(more(), 0, "a free request counts nothing");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_loses_no_count_and_a_report_that_is_told_twice_counts_once() {
    let world = World::start().await;
    let required = async || {
        let counters = world.ledger.counters().await.unwrap();
        counters.iter().map(|(_, value)| value).sum::<u64>()
    };
    assert_eq!(world.get("/paid/x").await.status, 402);
    world.meters.report(&world.ledger).await.unwrap();
    world.meters.report(&world.ledger).await.unwrap();
    assert_eq!(required().await, 1);
    assert_eq!(world.get("/paid/x").await.status, 402);
    // Whether the ledger has it by now or not, the gateway does not know.
    for _ in 0..20 {
        let _ = futures_util::FutureExt::now_or_never(world.meters.report(&world.ledger));
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(world.get("/paid/x").await.status, 402);
    world.ledger.close().await;
    world.meters.report(&world.ledger).await.unwrap_err();
    let url = world.ledger.url();
    let ledger = crate::ledger::Ledger::open(&url, "c1", Default::default()).await.unwrap();
    world.meters.report(&ledger).await.unwrap();
    let counters = ledger.counters().await.unwrap();
    assert_eq!(counters.iter().map(|(_, value)| value).sum::<u64>(), 3);
}
