//! What is asked about with nobody waiting.

use farebox_core::metrics::LateResult;
use farebox_core::payment::Answer;

use super::*;
use crate::testing::on_every_database;

on_every_database! {
    a_facilitator_that_settles_and_does_not_say_so_is_asked_until_the_outcome_is_known,
    what_a_companion_was_settling_when_it_died_is_resolved_by_its_next_life,
}

async fn a_facilitator_that_settles_and_does_not_say_so_is_asked_until_the_outcome_is_known(
    database: Database,
) {
    let stage = Stage::on(database, Deadlines { settle: Duration::from_millis(300), ..PATIENT }).await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "success_but_hang", 2).await;
    assert!(is_open(&stage.settle(1, &payment(1)).await));
    assert_eq!(stage.counted(TupleCounter::UnresolvedOpened).await, 1);
    stage
        .reconcile_until("settled", async |stage| {
            stage.pass(Duration::from_millis(500));
            stage.charged().await == 1
        })
        .await;
    assert_eq!(stage.settle_calls().await, 3);
    assert_eq!(stage.charges().await, (1, 1));
    assert_eq!(stage.counted(TupleCounter::UnresolvedClosed).await, 1);
    assert_eq!(stage.counted(TupleCounter::ResolvedLate(LateResult::Settled)).await, 1);
    assert!(redeems(&stage.verify(2, &payment(1)).await));
}

async fn what_a_companion_was_settling_when_it_died_is_resolved_by_its_next_life(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    stage.verify(1, &payment(1)).await;
    // It wrote down that it settles, and died before it called.
    let begin = Event::Begin(Holder([1; 16]));
    let begun = stage.relay.ledger.step(&key_of(&payment(1)), begin, None, None).await.unwrap();
    assert!(matches!(begun.answer, Answer::Call { epoch: 1, .. }));
    let stage = stage.restart().await;
    // While its lease runs, it may be another companion that lives.
    let asking = tokio::spawn(reconcile(stage.relay.clone()));
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(stage.settle_calls().await, 0);
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::InFlight);
    asking.abort();
    stage.pass(Duration::from_secs(3));
    stage.reconcile_until("settled", async |stage| stage.charged().await == 1).await;
    assert!(redeems(&stage.verify(2, &payment(1)).await));
    assert_eq!(stage.charges().await, (1, 1));
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other_and_is_not_asked_twice_at_once() {
    let stage =
        Stage::on(Database::sqlite().await, Deadlines { settle: Duration::from_secs(3), ..PATIENT }).await;
    for nonce in [1, 2] {
        stage.verify(nonce, &payment(nonce)).await;
        stage.dev.fail_next("settle", "http_500", 1).await;
        assert!(is_open(&stage.settle(nonce, &payment(nonce)).await));
        stage.pass(Duration::from_millis(1_000));
    }
    // The call of the one hangs; the other is answered.
    stage.dev.fail_next("settle", "hang", 1).await;
    stage.pass(Duration::from_millis(1_500));
    stage.reconcile_until("both are asked", async |stage| stage.settle_calls().await == 4).await;
    stage.pass(Duration::from_secs(10));
    let asking = tokio::spawn(reconcile(stage.relay.clone()));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(stage.charges().await, (1, 1));
    assert_eq!(stage.settle_calls().await, 4, "one is still being asked about, though its lease is over");
    asking.abort();
}

#[tokio::test]
async fn what_is_not_due_is_not_asked_about_and_asking_ends() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail("settle", "http_500").await;
    assert!(is_open(&stage.settle(1, &payment(1)).await));
    let asking = tokio::spawn(reconcile(stage.relay.clone()));
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(stage.settle_calls().await, 1, "not due for two seconds");
    asking.abort();
    // Each round by itself, since one takes a second.
    let (permits, mut swept) = (Arc::new(tokio::sync::Semaphore::new(8)), None);
    for _ in 0..60 {
        stage.pass(Duration::from_secs(600));
        let before = stage.settle_calls().await;
        stage.relay.round(&permits, &mut swept).await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if stage.settle_calls().await > before && permits.available_permits() == 8 {
                break;
            }
        }
    }
    let calls = stage.settle_calls().await;
    assert!((30..=33).contains(&calls), "about two hours of asking: {calls}");
    assert_eq!(stage.charges().await, (0, 0));
    // Its buyer may still ask.
    stage.dev.fail("settle", "none").await;
    assert!(serves(&stage.verify(2, &payment(1)).await));
}
