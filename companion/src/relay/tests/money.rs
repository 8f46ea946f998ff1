//! What must never be bought, and what must never be lost.

use sqlx::{AnyConnection, Connection, Executor};

use super::*;
use crate::testing::on_every_database;

on_every_database! {
    one_cheap_payment_cannot_buy_dear,
    an_owed_answer_buys_only_what_it_was_paid_for_and_only_by_the_bytes_that_were_signed,
    what_nobody_can_check_gives_way_to_the_payment_whose_nonce_it_names,
    a_junk_signature_of_an_open_payment_changes_nothing,
    of_two_companions_with_outcomes_in_either_order_settled_wins,
    an_answer_that_broke_off_at_one_proxy_is_fetched_at_another_once,
    a_payment_outlives_its_window,
}

/// The same nonce, signed for the dear offer.
fn dear(nonce: u8) -> Value {
    payment_call(DEAR, nonce, SHOP)
}

async fn one_cheap_payment_cannot_buy_dear(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let ask_dear = async |path: &str, holder| ask(&stage.relay, path, &By::dear(holder), &dear(1)).await;
    stage.verify(1, &payment(1)).await;
    assert_eq!(ask_dear("/verify", 2).await, RelayReply::OtherPayment);
    // Nor by the holder of the cheap one.
    assert_eq!(ask_dear("/verify", 1).await, RelayReply::OtherPayment);
    stage.settle(1, &payment(1)).await;
    assert_eq!(ask_dear("/verify", 2).await, RelayReply::Used);
    stage.over(1, End::Whole, &payment(1)).await;
    for holder in [1, 2] {
        assert_eq!(ask_dear("/verify", holder).await, RelayReply::Used);
        assert!(!is_settled(&ask_dear("/settle", holder).await));
    }
    assert_eq!(stage.charges().await, (1, 1));
    assert_eq!(stage.settle_calls().await, 1);
}

/// What its holder settles is what it had verified, whatever the call to `/settle` holds.
#[tokio::test]
async fn a_cheap_payment_is_settled_as_itself_though_a_dear_one_is_brought() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    assert!(is_settled(&ask(&stage.relay, "/settle", &By::dear(1), &dear(1)).await));
    let record = stage.dev.record().await;
    assert_eq!(record["settled"][0]["amount"], "1000");
    assert_eq!(
        stage.sum(|series| matches!(series, MetricSeries::Charged(of, _) if of.offer_name == "a")).await,
        1
    );
    stage.over(1, End::Unsent, &payment(1)).await;
    let bought = ask(&stage.relay, "/verify", &By::dear(2), &dear(1)).await;
    assert_eq!(bought, RelayReply::Used);
}

async fn an_owed_answer_buys_only_what_it_was_paid_for_and_only_by_the_bytes_that_were_signed(
    database: Database,
) {
    let stage = Stage::on(database, PATIENT).await;
    let call = payment(1);
    stage.verify(1, &call).await;
    let RelayReply::Settled { transaction } = stage.settle(1, &call).await else { panic!() };
    stage.over(1, End::Unsent, &call).await;
    assert_eq!(ask(&stage.relay, "/verify", &By::dear(2), &dear(1)).await, RelayReply::Used);
    for known in [true, false] {
        let by = By { known, ..By::holder(2) };
        assert_eq!(ask(&stage.relay, "/verify", &by, &junk(&call)).await, RelayReply::Used);
        let elsewhere = By { offer: tuple("ns", "b", 0), route: "/services/b/*", ..by };
        let (offer, route) = ("ns/a".to_owned(), "/services/a/*".to_owned());
        let paid_for = RelayReply::PaidFor { offer, route, transaction: transaction.clone() };
        assert_eq!(ask(&stage.relay, "/verify", &elsewhere, &call).await, paid_for);
    }
    assert!(redeems(&stage.verify(2, &call).await), "nothing of that touched it");
    assert_eq!(stage.charges().await, (1, 1));
}

/// Bytes that nobody can check here may be a smart account's signature, or a stranger's who knows the nonce.
async fn what_nobody_can_check_gives_way_to_the_payment_whose_nonce_it_names(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let (call, junk) = (payment(1), junk(&payment(1)));
    stage.dev.fail_next("verify", "slow:1500", 1).await;
    let by = By { proven: false, ..By::holder(9) };
    let own = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.verify(1, &call).await
    };
    let (stranger, own) = tokio::join!(ask(&stage.relay, "/verify", &by, &junk), own);
    assert_eq!(own, RelayReply::Valid);
    assert!(matches!(stranger, RelayReply::InFlight | RelayReply::Invalid { .. }), "{stranger:?}");
    assert!(is_settled(&stage.settle(1, &call).await));
    assert_eq!(stage.charges().await, (1, 1));
}

async fn a_junk_signature_of_an_open_payment_changes_nothing(database: Database) {
    let stage = Stage::on(database, Deadlines { settle: Duration::from_millis(300), ..PATIENT }).await;
    let call = payment(1);
    stage.verify(1, &call).await;
    stage.dev.fail_next("settle", "success_but_hang", 1).await;
    assert!(is_open(&stage.settle(1, &call).await));
    for known in [true, false] {
        let by = By { known, ..By::holder(2) };
        assert_eq!(ask(&stage.relay, "/verify", &by, &junk(&call)).await, RelayReply::OtherPayment);
        assert!(is_open(&ask(&stage.relay, "/settle", &by, &junk(&call)).await));
    }
    assert_eq!(stage.settle_calls().await, 1, "a stranger causes no call that moves money");
    assert!(is_settled(&stage.verify(2, &call).await));
    assert_eq!(stage.charges().await, (1, 1));
}

/// The facilitator says settled, but that is not on disk before the proxy has given up.
#[tokio::test]
async fn a_charge_that_is_written_down_too_late_for_its_buyer_is_owed() {
    let stage = Stage::open().await;
    let call = payment(1);
    stage.verify(1, &call).await;
    stage.dev.fail_next("settle", "slow:500", 1).await;
    let mut other = AnyConnection::connect(&stage.database.url).await.unwrap();
    let gone = async {
        tokio::time::timeout(Duration::from_millis(1_000), stage.settle(1, &call)).await.unwrap_err();
    };
    let locked = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        other.execute("ROLLBACK").await.unwrap();
    };
    tokio::join!(gone, locked);
    while stage.charged().await == 0 {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(redeems(&stage.verify_when_free(2, &call).await));
    stage.over(2, End::Whole, &call).await;
    assert_eq!(stage.verify(3, &call).await, RelayReply::Used);
    assert_eq!(stage.charges().await, (1, 1));
}

async fn of_two_companions_with_outcomes_in_either_order_settled_wins(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let second = stage.second().await;
    let used = json!({ "settle": "invalid:invalid_exact_evm_nonce_already_used", "count": 1 });
    for (nonce, settled_first) in [(1, true), (2, false)] {
        let call = payment(nonce);
        stage.verify(1, &call).await;
        // The first companion's call moves the money; its reply takes a while.
        let takes = if settled_first { 600 } else { 1_800 };
        stage.dev.fail_next("settle", &format!("slow:{takes}"), 1).await;
        let (relay, body) = (stage.relay.clone(), call.clone());
        let first = tokio::spawn(async move { ask(&relay, "/settle", &By::holder(1), &body).await });
        tokio::time::sleep(Duration::from_millis(150)).await;
        // Its lease ends by the clock of the ledger, and the second companion asks.
        stage.pass(Duration::from_secs(3));
        let late = json!({ "settle": "slow:1200", "count": 1 });
        stage.dev.order(&if settled_first { late } else { used.clone() }).await;
        let asking = tokio::spawn(reconcile(second.clone()));
        let told = first.await.unwrap();
        assert!(is_open(&told), "the payment was taken from it: {told:?}");
        asking.abort();
        while stage.charged().await < u64::from(nonce) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(stage.counted(TupleCounter::UnresolvedOpened).await, u64::from(nonce));
        assert!(redeems(&stage.verify(2, &call).await), "{settled_first}");
        stage.over(2, End::Whole, &call).await;
        // The other outcome comes in, or came in before.
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        assert_eq!(stage.verify(3, &call).await, RelayReply::Used);
        assert_eq!(stage.charges().await, (u64::from(nonce), usize::from(nonce)));
        assert_eq!(stage.counted(TupleCounter::UnresolvedClosed).await, u64::from(nonce));
    }
}

async fn an_answer_that_broke_off_at_one_proxy_is_fetched_at_another_once(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let second = stage.second().await;
    for (nonce, end) in [(1, End::Broken), (2, End::Unsent)] {
        let call = payment(nonce);
        stage.verify(1, &call).await;
        stage.settle(1, &call).await;
        stage.over(1, end, &call).await;
        // News travels without being waited for.
        let mut asked = RelayReply::InFlight;
        while asked == RelayReply::InFlight {
            asked = ask(&second, "/verify", &By::holder(2), &call).await;
        }
        assert!(redeems(&asked), "{asked:?}");
        assert_eq!(over(&second, 2, end, &call).await, 204);
        // A fetch of which no byte went out was none.
        if end == End::Unsent {
            assert!(redeems(&stage.verify(4, &call).await));
            stage.over(4, End::Whole, &call).await;
        }
        // The other companion has it on disk as well.
        for relay in [&second, &stage.relay] {
            assert_eq!(ask(relay, "/verify", &By::holder(3), &call).await, RelayReply::Used);
        }
        assert_eq!(stage.charges().await, (u64::from(nonce), usize::from(nonce)));
    }
}

/// A record is kept for the retention, whatever the authorization says of its own time.
async fn a_payment_outlives_its_window(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    let call = farebox_testkit::facilitator::upfront_call(1000, 1, SHOP);
    stage.verify(1, &call).await;
    stage.settle(1, &call).await;
    stage.over(1, End::Whole, &call).await;
    stage.pass(Duration::from_secs(86_400));
    stage.relay.ledger.sweep().await.unwrap();
    assert_eq!(stage.verify(1, &call).await, RelayReply::Used);
    assert!(!is_settled(&stage.settle(1, &call).await));
    assert_eq!(stage.charges().await, (1, 1));
}
