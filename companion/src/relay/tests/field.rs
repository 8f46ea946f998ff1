//! Replies of facilitators met in the field: whoever may have been charged is not told to pay again.

use super::*;
use crate::testing::on_every_database;

on_every_database! {
    a_refusal_after_the_money_moved_leaves_the_payment_open,
    a_refusal_after_a_lost_reply_leaves_the_payment_open,
    a_nonce_used_right_after_it_was_valid_leaves_the_payment_open,
    a_reply_that_names_another_payer_proves_nothing,
}

/// Codes facilitators give once they have sent a transaction, or may have.
const AFTER_THE_BROADCAST: [&str; 5] = [
    "invalid_exact_evm_transaction_failed",
    "transaction_failed",
    "invalid_transaction_state",
    "unexpected_error",
    "unexpected_settle_error",
];
/// Codes they give before, and again for a payment they have settled.
const BEFORE: [&str; 6] = [
    "invalid_exact_evm_signature",
    "invalid_exact_evm_payload_signature",
    "invalid_payload",
    "invalid_payment_requirements",
    "invalid_network",
    "insufficient_funds",
];

/// Nothing else is known of it, whoever asks; then the facilitator answers, and it serves once.
async fn is_open_until_it_is_answered(stage: &Stage, call: &Value, code: &str) {
    let other_route = By { route: "/services/b/*", offer: tuple("ns", "b", 0), ..By::holder(4) };
    let asked = ask(&stage.relay, "/verify", &other_route, call).await;
    assert!(is_open(&asked), "{code}: {asked:?}");
    stage.dev.fail("settle", "none").await;
    let redeemed = stage.verify(5, call).await;
    assert!(serves(&redeemed), "{code}: {redeemed:?}");
    stage.over(5, End::Whole, call).await;
    assert_eq!(stage.verify(6, call).await, RelayReply::Used, "{code}");
}

async fn a_refusal_after_the_money_moved_leaves_the_payment_open(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    for (code, nonce) in AFTER_THE_BROADCAST.iter().zip(1..) {
        let call = payment(nonce);
        stage.verify(1, &call).await;
        stage.dev.fail("settle", &format!("settled_but:{code}")).await;
        let told = stage.settle(1, &call).await;
        assert!(is_open(&told), "{code}: {told:?}");
        // The same facilitator says it again, or that the nonce is used now.
        for code in [*code, "invalid_exact_evm_nonce_already_used"] {
            stage.dev.fail("settle", &format!("invalid:{code}")).await;
            let told = stage.verify(2, &call).await;
            assert!(is_open(&told), "{code}: {told:?}");
        }
        is_open_until_it_is_answered(&stage, &call, code).await;
        assert_eq!(stage.charges().await, (u64::from(nonce), usize::from(nonce)));
    }
}

async fn a_reply_that_names_another_payer_proves_nothing(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let call = payment(1);
    stage.dev.fail("verify", "another_payer").await;
    assert_eq!(stage.verify(1, &call).await, RelayReply::NoVerdict);
    let said = {
        let state = stage.relay.state.facilitators.lock();
        state.bad_replies.values().next().unwrap().words.clone()
    };
    assert_eq!(said, "it names another payer, 0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAaAaaAaaAa");
    stage.dev.fail("verify", "none").await;
    stage.dev.fail("settle", "another_payer").await;
    stage.verify(2, &call).await;
    let told = stage.settle(2, &call).await;
    assert_eq!(told, RelayReply::Open { transaction: None });
    assert_eq!(stage.charged().await, 0);
    is_open_until_it_is_answered(&stage, &call, "another payer").await;
    assert_eq!(stage.charged().await, 1);
}

async fn a_refusal_after_a_lost_reply_leaves_the_payment_open(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    for (code, nonce) in BEFORE.iter().zip(1..) {
        let call = payment(nonce);
        stage.verify(1, &call).await;
        stage.dev.fail("settle", "cut_after_headers").await;
        assert!(is_open(&stage.settle(1, &call).await));
        // By its buyer, and by the reconciliation with nobody asking.
        stage.dev.fail("settle", &format!("invalid:{code}")).await;
        let told = stage.verify(2, &call).await;
        assert!(is_open(&told), "{code}: {told:?}");
        stage.pass(Duration::from_secs(10));
        let before = stage.settle_calls().await;
        stage.reconcile_until("asked", async |stage| stage.settle_calls().await > before).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        is_open_until_it_is_answered(&stage, &call, code).await;
        assert_eq!(stage.charges().await, (u64::from(nonce), usize::from(nonce)));
    }
}

async fn a_nonce_used_right_after_it_was_valid_leaves_the_payment_open(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let call = payment(1);
    stage.verify(1, &call).await;
    let code = "invalid_exact_evm_nonce_already_used";
    stage.dev.fail("settle", &format!("settled_but:{code}")).await;
    let told = stage.settle(1, &call).await;
    assert!(is_open(&told), "{told:?}");
    is_open_until_it_is_answered(&stage, &call, code).await;
    assert_eq!(stage.charges().await, (1, 1));
}

/// A code from before the broadcast ends the first call of a payment, and only that.
#[tokio::test]
async fn a_refusal_of_the_first_call_charges_nothing_and_frees_the_payment() {
    let stage = Stage::open().await;
    for (code, nonce) in BEFORE.iter().zip(1..) {
        stage.verify(1, &payment(nonce)).await;
        stage.dev.fail("settle", &format!("invalid:{code}")).await;
        assert_eq!(stage.settle(1, &payment(nonce)).await, refused(code));
        assert!(!stage.has(&payment(nonce)).await);
    }
    assert_eq!(stage.charges().await, (0, 0));
}

#[tokio::test]
async fn a_transaction_on_its_way_is_asked_about_once_more_at_once_and_then_left_open() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail("settle", "pending_then_success").await;
    assert!(is_settled(&stage.settle(1, &payment(1)).await));
    assert_eq!(stage.settle_calls().await, 2);
    stage.verify(1, &payment(2)).await;
    stage.dev.fail("settle", "pending").await;
    let told = stage.settle(1, &payment(2)).await;
    assert!(matches!(told, RelayReply::Open { transaction: Some(_) }), "{told:?}");
    assert_eq!(stage.settle_calls().await, 4);
}
