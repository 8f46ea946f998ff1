//! One purchase, by the `payment-identifier` extension, and two payments for it.

use super::*;
use crate::testing::on_every_database;

on_every_database! {
    a_purchase_that_was_paid_is_not_paid_again_by_another_authorization,
    a_purchase_whose_payment_came_to_nothing_can_be_paid_by_another,
}

fn named(nonce: u8, id: &str) -> Value {
    let mut body = payment(nonce);
    body["paymentPayload"]["extensions"] =
        json!({ "payment-identifier": { "info": { "required": false, "id": id } } });
    body
}

const ID: &str = "pay_7d5d747be160e280504c099d984bcfe0";

async fn a_purchase_that_was_paid_is_not_paid_again_by_another_authorization(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    stage.verify(1, &named(1, ID)).await;
    let during = stage.verify(2, &named(2, ID)).await;
    assert_eq!(during, RelayReply::Twin { transaction: None });
    let RelayReply::Settled { transaction } = stage.settle(1, &named(1, ID)).await else { panic!() };
    let twin = RelayReply::Twin { transaction: Some(transaction) };
    assert_eq!(stage.verify(2, &named(2, ID)).await, twin);
    stage.over(1, End::Whole, &named(1, ID)).await;
    assert_eq!(stage.verify(2, &named(2, ID)).await, twin);
    // The payment itself is told as ever; other purchases and malformed names are nobody's twins.
    assert_eq!(stage.verify(2, &named(1, ID)).await, RelayReply::Used);
    assert_eq!(stage.verify(2, &named(3, "pay_00000000000000000000000000000000")).await, RelayReply::Valid);
    assert_eq!(stage.verify(2, &named(4, "short")).await, RelayReply::Valid);
    assert_eq!(stage.verify(3, &named(5, "short")).await, RelayReply::Valid);
    assert_eq!(stage.charges().await, (1, 1));
}

async fn a_purchase_whose_payment_came_to_nothing_can_be_paid_by_another(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    stage.verify(1, &named(1, ID)).await;
    stage.over(1, End::Unsent, &named(1, ID)).await;
    assert_eq!(stage.verify(2, &named(2, ID)).await, RelayReply::Valid);
    assert!(is_settled(&stage.settle(2, &named(2, ID)).await));
    assert_eq!(stage.charges().await, (1, 1));
}
