//! A ledger that can be read and not written.

use sqlx::{AnyConnection, Connection, Executor};

use super::*;

/// From here on no payment can be written down.
async fn lock(stage: &Stage) -> AnyConnection {
    let mut other = AnyConnection::connect(&stage.database.url).await.unwrap();
    for event in ["INSERT", "UPDATE"] {
        let name = format!("CREATE TRIGGER on_{event} BEFORE {event} ON payments");
        let sql = format!("{name} BEGIN SELECT RAISE(ABORT, 'no room'); END");
        other.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    }
    other
}

async fn unlock(mut other: AnyConnection) {
    for event in ["INSERT", "UPDATE"] {
        other.execute(sqlx::AssertSqlSafe(format!("DROP TRIGGER on_{event}"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_settlement_that_cannot_be_written_down_is_not_begun_and_its_buyer_told_so() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    let locked = lock(&stage).await;
    assert_eq!(stage.settle(1, &payment(1)).await, RelayReply::NotBegun);
    assert_eq!(stage.verify(2, &payment(2)).await, RelayReply::Unavailable);
    assert!(stage.relay.state.ledger.lock().error.clone().unwrap().contains("no room"));
    unlock(locked).await;
    stage
        .reconcile_until("free again", async |stage| stage.verify(2, &payment(1)).await == RelayReply::Valid)
        .await;
    assert!(stage.relay.state.ledger.lock().error.is_none());
    assert!(is_settled(&stage.settle(2, &payment(1)).await));
    assert_eq!((stage.charges().await, stage.settle_calls().await), ((1, 1), 1));
}

#[tokio::test]
async fn a_verdict_that_cannot_be_written_down_is_none() {
    let stage = Stage::open().await;
    stage.dev.fail_next("verify", "slow:300", 1).await;
    let locked = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        lock(&stage).await
    };
    let call = payment(1);
    let (reply, locked) = tokio::join!(stage.verify(1, &call), locked);
    assert_eq!(reply, RelayReply::Unavailable);
    assert_eq!(stage.settle(1, &payment(1)).await, RelayReply::NotBegun);
    unlock(locked).await;
    stage
        .reconcile_until("free again", async |stage| stage.verify(2, &payment(1)).await == RelayReply::Valid)
        .await;
}

#[tokio::test]
async fn an_outcome_is_written_down_as_soon_as_it_can_be() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "slow:300", 1).await;
    let locked = async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let locked = lock(&stage).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        unlock(locked).await;
    };
    let call = payment(1);
    let (reply, ()) = tokio::join!(stage.settle(1, &call), locked);
    assert!(is_settled(&reply), "its proxy waited long enough: {reply:?}");
    stage.over(1, End::Whole, &payment(1)).await;
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::Used);
    assert_eq!((stage.charges().await, stage.settle_calls().await), ((1, 1), 1));
}

#[tokio::test]
async fn a_facilitator_that_hangs_takes_so_many_payments_and_no_more() {
    let stage = Stage::open().await;
    stage.dev.fail("verify", "slow:1500").await;
    let nonces: Vec<u8> = (1..=48).collect();
    let payments: Vec<Value> = nonces.iter().copied().map(payment).collect();
    let asked = nonces.iter().zip(&payments).map(|(nonce, payment)| stage.verify(*nonce, payment));
    let replies = futures_util::future::join_all(asked).await;
    let busy = replies.iter().filter(|reply| **reply == RelayReply::Busy).count();
    assert_eq!(busy, nonces.len() - MOST, "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| **reply == RelayReply::Valid).count(), MOST);
    // Nothing is kept of what was turned away.
    stage.dev.order(&json!({})).await;
    let again = replies.iter().position(|reply| *reply == RelayReply::Busy).unwrap();
    assert_eq!(stage.verify(99, &payments[again]).await, RelayReply::Valid);
}
