//! A payment's life, as proxies see it.

use farebox_core::metrics::LateResult;

use super::*;
use crate::rules::Offered;
use crate::testing::on_every_database;

on_every_database! {
    a_payment_in_use_or_used_at_one_proxy_is_refused_at_another,
    a_payment_whose_proxy_hangs_up_while_it_is_verified_is_free_for_another,
    a_settlement_whose_client_has_left_its_proxy_buys_an_answer_at_another,
    a_settlement_is_finished_when_nobody_waits_and_buys_one_answer_later,
    an_open_payment_that_is_sent_again_is_settled_as_it_is_on_record_and_serves_once,
}

#[tokio::test]
async fn a_payment_is_verified_settled_and_counted_under_the_offer_the_proxy_names() {
    let stage = Stage::open().await;
    assert_eq!(stage.verify(1, &payment(1)).await, RelayReply::Valid);
    let settled = stage.settle(1, &payment(1)).await;
    assert!(is_settled(&settled), "{settled:?}");
    // The receipt can be had again; the money moves no second time.
    assert_eq!(stage.settle(1, &payment(1)).await, settled);
    assert_eq!(stage.charges().await, (1, 1));
    let names =
        |series: &MetricSeries| matches!(series, MetricSeries::Charged(tuple, _) if tuple.offer_name == "a");
    assert_eq!(stage.sum(names).await, 1);
    stage.over(1, End::Whole, &payment(1)).await;
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::Used);
}

async fn a_payment_in_use_or_used_at_one_proxy_is_refused_at_another(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    stage.verify(1, &payment(1)).await;
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::InFlight);
    assert_eq!(stage.settle(2, &payment(1)).await, RelayReply::InFlight);
    stage.settle(1, &payment(1)).await;
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::InFlight, "it is being served");
    assert_eq!(stage.settle(2, &payment(1)).await, RelayReply::InFlight);
    stage.over(1, End::Whole, &payment(1)).await;
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::Used);
    assert_eq!(stage.charges().await, (1, 1));
}

#[tokio::test]
async fn what_nobody_had_verified_is_not_settled() {
    let stage = Stage::open().await;
    assert_eq!(stage.settle(1, &payment(1)).await, RelayReply::NotBegun);
    assert!(!stage.has(&payment(1)).await);
    assert_eq!(stage.settle_calls().await, 0);
}

#[tokio::test]
async fn a_payment_one_proxy_gives_back_is_free_for_another_unless_it_is_not_its_to_give() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    for end in [End::Whole, End::Broken, End::Unsent] {
        stage.over(2, end, &payment(1)).await;
        assert_eq!(stage.verify(3, &payment(1)).await, RelayReply::InFlight);
    }
    stage.over(1, End::Unsent, &payment(1)).await;
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::Valid);
    stage.settle(2, &payment(1)).await;
    stage.over(2, End::Whole, &payment(1)).await;
    for holder in [1, 2] {
        stage.over(holder, End::Unsent, &payment(1)).await;
        assert_eq!(stage.verify(3, &payment(1)).await, RelayReply::Used);
    }
}

#[tokio::test]
async fn news_of_ends_of_which_one_cannot_be_read_is_refused_whole() {
    let stage = Stage::open().await;
    assert_eq!(stage.verify(1, &payment(1)).await, RelayReply::Valid);
    let mut body = Vec::new();
    Ending { key: key_of(&payment(1)), holder: Holder([1; 16]), end: End::Unsent }.write(&mut body);
    body.extend_from_slice(b"{}\n");
    let request = Request::post("/over").body(Body::from(body)).unwrap();
    let response = stage.relay.clone().router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::InFlight, "the first request has it still");
}

#[tokio::test]
async fn one_call_tells_how_many_requests_ended() {
    let stage = Stage::open().await;
    let mut body = Vec::new();
    for nonce in 1..=3 {
        assert_eq!(stage.verify(1, &payment(nonce)).await, RelayReply::Valid);
        Ending { key: key_of(&payment(nonce)), holder: Holder([1; 16]), end: End::Unsent }.write(&mut body);
    }
    let request = Request::post("/over").body(Body::from(body)).unwrap();
    let response = stage.relay.clone().router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 204);
    for nonce in 1..=3 {
        assert_eq!(stage.verify(2, &payment(nonce)).await, RelayReply::Valid, "it is free");
    }
}

#[tokio::test]
async fn a_payment_the_facilitator_refuses_can_be_tried_again_anywhere() {
    let stage = Stage::open().await;
    stage.dev.fail_next("verify", "invalid:insufficient_funds", 1).await;
    let reason = "insufficient_funds".to_owned();
    assert_eq!(stage.verify(1, &payment(1)).await, RelayReply::Invalid { reason, detail: None });
    assert!(!stage.has(&payment(1)).await);
    assert_eq!(stage.verify(2, &payment(1)).await, RelayReply::Valid);
    stage.dev.fail_next("settle", "invalid:insufficient_funds", 1).await;
    assert_eq!(stage.settle(2, &payment(1)).await, refused("insufficient_funds"));
    assert!(!stage.has(&payment(1)).await);
    assert_eq!(stage.verify(1, &payment(1)).await, RelayReply::Valid);
    assert!(is_settled(&stage.settle(1, &payment(1)).await));
}

#[tokio::test]
async fn a_call_without_a_holder_an_offer_or_a_route_is_not_taken() {
    let stage = Stage::open().await;
    let odd = [
        By { holder: None, ..By::holder(1) },
        By { holder: Some("e1".to_owned()), ..By::holder(1) },
        By { offer: Tuple { chain: "eip155:1".to_owned(), ..tuple("ns", "a", 0) }, ..By::holder(1) },
    ];
    for by in odd {
        for path in ["/verify", "/settle"] {
            let reply = ask(&stage.relay, path, &by, &payment(1)).await;
            assert!(matches!(reply, RelayReply::NotTaken { .. }), "{by:?}: {reply:?}");
        }
    }
    assert!(!stage.has(&payment(1)).await);
}

#[tokio::test]
async fn terms_nobody_published_are_not_taken_and_make_no_call() {
    let stage = Stage::open().await;
    let other_wallet = payment_call(1000, 1, "0x2222222222222222222222222222222222222222");
    // Signed for less than its requirement asks.
    let mut less = payment_call(999, 1, SHOP);
    less["paymentRequirements"] = payment(1)["paymentRequirements"].clone();
    let other_offer = By { offer: tuple("ns", "c", 0), ..By::holder(1) };
    let dear_for_the_price_of_a = By::dear(1);
    for (by, body) in [
        (By::holder(1), other_wallet),
        (By::holder(1), payment_call(999, 1, SHOP)),
        (By::holder(1), less),
        (other_offer, payment(1)),
        (dear_for_the_price_of_a, payment(1)),
    ] {
        let reply = ask(&stage.relay, "/verify", &by, &body).await;
        assert!(matches!(reply, RelayReply::NotTaken { .. }), "{reply:?}");
        let known = By { known: true, ..by };
        assert!(matches!(
            ask(&stage.relay, "/verify", &known, &body).await,
            RelayReply::New { now: Some(_) }
        ));
    }
    let record = stage.dev.record().await;
    assert_eq!(record["calls"], json!([]));
}

/// After a restart with a file that cannot be read, say.
#[tokio::test]
async fn a_known_payment_is_answered_by_its_life_though_nothing_is_published() {
    let stage = Stage::open().await;
    let (owed, open) = (payment(1), payment(2));
    stage.verify(1, &owed).await;
    assert!(is_settled(&stage.settle(1, &owed).await));
    stage.over(1, End::Unsent, &owed).await;
    stage.verify(2, &open).await;
    stage.dev.fail("settle", "http_500").await;
    assert!(is_open(&stage.settle(2, &open).await));
    let stage = stage.restart().await;
    stage.relay.state.rules.lock().offered = Offered::default();
    assert!(is_open(&stage.verify(3, &open).await));
    assert!(matches!(stage.verify(4, &owed).await, RelayReply::Redeem { .. }));
    assert!(matches!(stage.verify(5, &payment(3)).await, RelayReply::NotTaken { .. }));
}

/// The row says what was agreed.
#[tokio::test]
async fn a_payment_verified_under_an_earlier_price_is_settled_by_a_companion_that_never_knew_it() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    let stage = stage.restart().await;
    stage.relay.state.rules.lock().offered = Offered::default();
    publish(&stage.relay, 2, &pricing(stage.dev.url(), &["a"]).replace("0.001", "0.002"));
    assert!(matches!(stage.verify(2, &payment(2)).await, RelayReply::NotTaken { .. }), "a new one");
    assert!(is_settled(&stage.settle(1, &payment(1)).await));
    assert_eq!(stage.charges().await, (1, 1));
}

async fn a_payment_whose_proxy_hangs_up_while_it_is_verified_is_free_for_another(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    stage.dev.fail_next("verify", "slow:2000", 1).await;
    let call = payment(1);
    let gone = tokio::time::timeout(Duration::from_millis(400), stage.verify(1, &call)).await;
    assert!(gone.is_err(), "the proxy stops waiting");
    for _ in 0..40 {
        if !stage.has(&call).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(stage.verify(2, &call).await, RelayReply::Valid);
}

/// A proxy may go on with a call nobody waits for: it says so, in the middle of the call or after it.
async fn a_settlement_whose_client_has_left_its_proxy_buys_an_answer_at_another(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    for (nonce, in_the_middle) in [(1, true), (2, false)] {
        let call = payment(nonce);
        stage.verify(1, &call).await;
        stage.dev.fail_next("settle", "slow:400", 1).await;
        let (relay, body) = (stage.relay.clone(), call.clone());
        let settling = tokio::spawn(async move { ask(&relay, "/settle", &By::holder(1), &body).await });
        if in_the_middle {
            tokio::time::sleep(Duration::from_millis(200)).await;
            stage.over(1, End::Unsent, &call).await;
        }
        let told = settling.await.unwrap();
        if in_the_middle {
            // It is nobody's any more.
            assert!(matches!(told, RelayReply::Open { transaction: Some(_) }), "{told:?}");
        } else {
            assert!(is_settled(&told), "{told:?}");
            stage.over(1, End::Unsent, &call).await;
        }
        let charges = u64::from(nonce);
        let redeemed = stage.verify(2, &call).await;
        assert!(redeems(&redeemed), "{redeemed:?}");
        stage.over(2, End::Whole, &call).await;
        assert_eq!(stage.verify(3, &call).await, RelayReply::Used);
        assert_eq!(stage.charges().await, (charges, usize::from(nonce)));
    }
    assert_eq!(stage.counted(TupleCounter::ResolvedLate(LateResult::Settled)).await, 1, "of the first");
}

async fn a_settlement_is_finished_when_nobody_waits_and_buys_one_answer_later(database: Database) {
    let stage = Stage::on(database, PATIENT).await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "slow:600", 1).await;
    let call = payment(1);
    let gone = tokio::time::timeout(Duration::from_millis(300), stage.settle(1, &call)).await;
    assert!(gone.is_err(), "the proxy stops waiting");
    assert_eq!(stage.verify(2, &call).await, RelayReply::InFlight);
    while stage.charged().await == 0 {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    // The buyer comes back at another proxy.
    assert!(redeems(&stage.verify_when_free(2, &call).await));
    assert_eq!(stage.verify(3, &call).await, RelayReply::InFlight);
    stage.over(2, End::Whole, &call).await;
    assert_eq!(stage.verify(3, &call).await, RelayReply::Used);
    assert_eq!(stage.charges().await, (1, 1));
}

async fn an_open_payment_that_is_sent_again_is_settled_as_it_is_on_record_and_serves_once(
    database: Database,
) {
    let stage = Stage::on(database, Deadlines { settle: Duration::from_millis(500), ..PATIENT }).await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "hang", 1).await;
    assert!(is_open(&stage.settle(1, &payment(1)).await));
    assert_eq!(stage.counted(TupleCounter::UnresolvedOpened).await, 1);
    // The same payment in other bytes: the call on record is made, not that of this request.
    let mut again = payment(1);
    again["paymentPayload"]["resource"] = json!({ "url": "https://elsewhere.example" });
    let served = stage.verify(2, &again).await;
    assert!(is_settled(&served), "{served:?}");
    assert_eq!(stage.counted(TupleCounter::UnresolvedClosed).await, 1);
    let bodies = stage.dev.bodies("settle").await;
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(stage.settle(2, &again).await, served);
    stage.over(2, End::Whole, &again).await;
    assert_eq!(stage.verify(3, &payment(1)).await, RelayReply::Used);
    assert_eq!(stage.charges().await, (1, 1));
}

#[tokio::test]
async fn an_open_payment_whose_call_takes_too_long_stays_open_for_its_buyer_and_is_owed_later() {
    let deadlines = Deadlines { verify: Duration::from_millis(300), settle: Duration::from_secs(1) };
    let stage = Stage::on(Database::sqlite().await, deadlines).await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "http_500", 1).await;
    assert!(is_open(&stage.settle(1, &payment(1)).await));
    stage.dev.fail_next("settle", "slow:700", 1).await;
    assert!(is_open(&stage.verify(2, &payment(1)).await));
    while stage.charged().await == 0 {
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(redeems(&stage.verify(3, &payment(1)).await));
    assert_eq!((stage.charges().await, stage.settle_calls().await), ((1, 1), 2));
}

#[tokio::test]
async fn a_request_that_asks_twice_waits_for_the_one_settlement() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "slow:300", 1).await;
    let call = payment(1);
    let (first, second) = tokio::join!(stage.settle(1, &call), stage.settle(1, &call));
    assert!(is_settled(&first), "{first:?}");
    assert_eq!(first, second);
    assert_eq!(stage.settle_calls().await, 1);
}

#[tokio::test]
async fn a_facilitator_that_cannot_be_reached_charges_nothing_and_keeps_nothing() {
    let stage = Stage::open().await;
    publish(&stage.relay, 2, &pricing("http://127.0.0.1:1", &["a"]));
    assert_eq!(stage.verify(1, &payment(1)).await, RelayReply::Unreachable);
    assert!(!stage.has(&payment(1)).await);
}

/// It may have executed the call itself.
#[tokio::test]
async fn a_facilitator_that_redirects_a_settlement_elsewhere_leaves_it_open() {
    let stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "redirect_308:http://127.0.0.1:1", 1).await;
    assert!(is_open(&stage.settle(1, &payment(1)).await));
    assert!(stage.has(&payment(1)).await);
}

#[tokio::test]
async fn a_ledger_that_fails_closes_the_gate_and_says_so() {
    let stage = Stage::open().await;
    stage.relay.ledger.close().await;
    assert_eq!(stage.verify(1, &payment(1)).await, RelayReply::Unavailable);
    assert_eq!(stage.settle(1, &payment(1)).await, RelayReply::NotBegun, "nothing can have been begun");
    assert_eq!(stage.settle_calls().await, 0);
    assert!(not_ready(&stage.relay).unwrap().contains("ledger"));
}

#[tokio::test]
async fn settlements_under_way_are_waited_for_at_the_end() {
    let mut stage = Stage::open().await;
    stage.verify(1, &payment(1)).await;
    stage.dev.fail_next("settle", "slow:300", 1).await;
    let (relay, call) = (stage.relay.clone(), payment(1));
    let asked = tokio::spawn(async move { ask(&relay, "/settle", &By::holder(1), &call).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.relay.under_way = UnderWay::new(MOST).0;
    stage.over.recv().await;
    assert_eq!(stage.charges().await, (1, 1));
    assert!(is_settled(&asked.await.unwrap()));
}
