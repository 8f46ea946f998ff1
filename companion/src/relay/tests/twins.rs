//! One purchase, by the `payment-identifier` extension, and two payments for it.

use super::*;
use crate::testing::on_every_database;

on_every_database! {
    a_purchase_that_was_paid_is_not_paid_again_by_another_authorization,
    a_purchase_whose_payment_came_to_nothing_can_be_paid_by_another,
    a_purchase_whose_name_is_none_is_refused_and_nothing_reserved,
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
    // The payment itself is told as ever; other purchases are nobody's twins.
    assert_eq!(stage.verify(2, &named(1, ID)).await, RelayReply::Used);
    assert_eq!(stage.verify(2, &named(3, "pay_00000000000000000000000000000000")).await, RelayReply::Valid);
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

async fn a_purchase_whose_name_is_none_is_refused_and_nothing_reserved(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    for id in ["", "short", "with spaces in between", &"x".repeat(129)] {
        let RelayReply::Invalid { reason, detail } = stage.verify(1, &named(1, id)).await else {
            panic!("{id}")
        };
        assert_eq!(reason, "invalid_payment_identifier");
        assert!(detail.unwrap().contains("16 to 128 characters"));
        assert!(!stage.has(&payment(1)).await, "nothing is reserved: {id}");
    }
    // The same payment with a name that is one, or with none, is as good as ever; once it is known, its life decides.
    assert_eq!(stage.verify(1, &named(1, ID)).await, RelayReply::Valid);
    assert_eq!(stage.verify(2, &named(1, "short")).await, RelayReply::InFlight);
    assert!(is_settled(&stage.settle(1, &named(1, ID)).await));
    stage.over(1, End::Whole, &named(1, ID)).await;
    assert_eq!(stage.verify(2, &named(1, "short")).await, RelayReply::Used);
    assert_eq!(stage.charges().await, (1, 1));
}
