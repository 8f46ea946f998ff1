//! The rows of the contract's flow in which a shell takes part.

use std::time::Duration;

use farebox_core::metrics::{
    BlockedReason, FailureReason, MetricSeries, ReplayState, TupleCounter, UnchargedReason,
};
use farebox_core::protocol::decode_base64;
use farebox_core::terms::{Cors, Settings as Filter, Unmatched};
use http::Method;
use serde_json::Value;

use super::world::{Got, World, payment, settings, upfront};
use crate::testing::eventually;

fn receipt(got: &Got) -> Value {
    let header = got.header("payment-response").unwrap();
    assert_eq!(got.header("x-payment-response"), Some(header));
    serde_json::from_slice(&decode_base64(header.as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_request_without_payment_is_challenged_and_goes_nowhere() {
    let world = World::start().await;
    let got = world.get("/paid/x").await;
    assert_eq!((got.status, got.header("cache-control")), (402, Some("no-store")));
    assert!(got.header("payment-required").is_some());
    assert_eq!(got.json()["accepts"][0]["maxAmountRequired"], "1000");
    let head = world.client.head(world.url("/paid/x")).send().await.unwrap();
    assert_eq!(head.status(), 402);
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.counted(TupleCounter::PaymentRequired), 2);
}

#[tokio::test]
async fn a_paid_request_is_served_once_settled_with_both_receipts_and_the_payer() {
    let world = World::start().await;
    let paid = world.client.get(world.url("/paid/v1/x?q=1"));
    let got = paid
        .header("payment-signature", payment(1))
        .header("x-payment-payer", "0xforged")
        .header("X_Obol_Offer", "forged")
        .header("authorization", "Bearer client")
        .header("origin", "https://page.example")
        .header("x-forwarded-for", "6.6.6.6")
        .send()
        .await
        .unwrap();
    let got = Got::of(got).await;
    assert_eq!((got.status, got.body.as_str()), (200, "served"));
    assert_eq!(receipt(&got)["success"], true);
    assert_eq!(got.header("cache-control"), Some("private, max-age=9"));
    assert_eq!((got.header("x-hop"), got.header("x-kept")), (None, Some("1")));
    let asked = world.upstream.seen().remove(0);
    assert_eq!(asked.line, "GET /v1/x?q=1");
    assert!(asked.headers["x-payment-payer"].to_str().unwrap().starts_with("0x"));
    assert_ne!(asked.headers["x-payment-payer"], "0xforged");
    assert_eq!(asked.headers["authorization"], "Bearer hush");
    assert_eq!(asked.headers["host"], world.address.to_string().as_str());
    assert_eq!(asked.headers["x-forwarded-for"], "127.0.0.1");
    for gone in ["payment-signature", "x_obol_offer", "origin"] {
        assert!(!asked.headers.contains_key(gone), "{gone}");
    }
    assert_eq!((world.dev.settled_payments().await.len(), world.charged().await), (1, 1));
    assert_eq!(world.counted(TupleCounter::PaymentVerified), 1);
    // The ledger counts money.
    assert!(!world.counters().keys().any(|series| matches!(series, MetricSeries::Charged(..))));
}

#[tokio::test]
async fn a_trace_carries_nothing_to_the_upstream_that_its_client_may_not_see() {
    let world = World::start().await;
    let trace = |path: &str| {
        let request = world.client.request(reqwest::Method::TRACE, world.url(path));
        request.header("payment-signature", payment(1)).header("authorization", "Bearer own")
    };
    assert_eq!(trace("/paid/v1").send().await.unwrap().status(), 200);
    assert_eq!(trace("/free/x").send().await.unwrap().status(), 200);
    let [paid, free] = &world.upstream.seen()[..] else { panic!("two requests") };
    assert_eq!((&*paid.line, &*free.line), ("TRACE /v1", "TRACE /free/x"));
    for seen in [paid, free] {
        for gone in ["payment-signature", "authorization"] {
            assert!(!seen.headers.contains_key(gone), "{}: {gone}", seen.line);
        }
    }
    assert_eq!(world.charged().await, 1, "it is priced like a GET");
}

#[tokio::test]
async fn a_page_is_told_that_it_may_buy_and_reads_what_it_bought() {
    let page = "https://app.example";
    let cors = Cors { origins: vec![page.to_owned()], credentials: false, max_age: 60 };
    let world = World::with(settings(), Filter { cors: Some(cors), ..Filter::default() }).await;
    let preflight = |world: &World, body: &'static str| {
        let asked = world.client.request(Method::OPTIONS, world.url("/paid/x")).header("origin", page);
        asked.header("access-control-request-method", "POST").body(body).send()
    };
    let got = Got::of(preflight(&world, "").await.unwrap()).await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (204, Some(page)));
    assert!(got.header("access-control-allow-headers").unwrap().contains("PAYMENT-SIGNATURE"));
    let priced = Got::of(preflight(&world, "my prompt").await.unwrap()).await;
    assert_eq!((priced.status, priced.header("access-control-allow-origin")), (402, Some(page)));
    assert!(world.upstream.seen().is_empty());
    let paid = world.client.get(world.url("/paid/x")).header("origin", page);
    let got = Got::of(paid.header("payment-signature", payment(1)).send().await.unwrap()).await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (200, Some(page)));
    assert!(got.header("access-control-expose-headers").unwrap().contains("PAYMENT-RESPONSE"));
    let closed = World::start().await;
    let got = Got::of(preflight(&closed, "").await.unwrap()).await;
    assert_eq!((got.status, got.header("access-control-allow-origin")), (204, None));
    assert!(closed.upstream.seen().is_empty());
}

#[tokio::test]
async fn what_is_said_of_proxies_in_front_is_believed_only_where_they_are_trusted() {
    for (trust_forwarded, url) in
        [(false, "http://10.0.0.5:8080/paid/x"), (true, "https://shop.example/store/paid/x")]
    {
        let world = World::with(settings(), Filter { trust_forwarded, ..Filter::default() }).await;
        let asked = world.client.get(world.url("/paid/x")).header("host", "10.0.0.5:8080");
        let asked = asked.header("x-forwarded-proto", "https").header("x-forwarded-host", "shop.example");
        let got = Got::of(asked.header("x-forwarded-prefix", "/store/").send().await.unwrap()).await;
        assert_eq!(got.json()["resource"]["url"], url);
    }
}

#[tokio::test]
async fn a_free_request_passes_without_its_payment_headers() {
    let world = World::start().await;
    let got =
        world.client.get(world.url("/free/x")).header("x-payment", "secret").header("x-payment-payer", "0x");
    let got = Got::of(got.send().await.unwrap()).await;
    assert_eq!((got.status, got.header("payment-response")), (200, Some("forged")));
    let asked = world.upstream.seen().remove(0);
    assert_eq!(asked.line, "GET /free/x");
    assert!(!asked.headers.contains_key("x-payment") && !asked.headers.contains_key("x-payment-payer"));
    assert!(!asked.headers.contains_key("authorization"));
}

#[tokio::test]
async fn what_no_rule_covers_is_refused_unless_the_operator_lets_it_pass() {
    let world = World::start().await;
    assert_eq!(world.get("/elsewhere").await.status, 404);
    assert_eq!(world.get("/PAID/x").await.status, 403);
    assert_eq!(world.get("/free%2fx").await.status, 400);
    assert!(world.upstream.seen().is_empty());

    let pass = Filter { unmatched: Unmatched::Pass, ..Filter::default() };
    let lost = World::with(settings(), pass.clone()).await;
    assert_eq!(lost.get("/elsewhere").await.reason(), "upstream_missing");
    let mut own = settings();
    own.upstream = farebox_pricing::HttpUrl::parse(&format!("http://{}", world.upstream.address)).ok();
    let passing = World::with(own, pass).await;
    assert_eq!(passing.get("/elsewhere").await.status, 200);
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_route_that_leads_nowhere_is_refused_before_anybody_pays() {
    let world = World::start().await;
    let got = world.pay("/lost/x", &payment(1)).await;
    assert_eq!((got.status, got.reason().as_str()), (502, "upstream_missing"));
    assert!(world.ledger.list(&Default::default(), 10).await.unwrap().is_empty());
    let blocked = MetricSeries::Blocked(String::new(), String::new(), BlockedReason::Other);
    assert_eq!(world.counters()[&blocked], 1);
    assert_eq!(world.deployments.without_upstream(), ["/lost/*"]);
}

#[tokio::test]
async fn of_fifty_uses_of_one_payment_one_is_served() {
    let world = World::start().await;
    let payment = payment(1);
    let all = futures_util::future::join_all((0..50).map(|_| world.pay("/paid/x", &payment))).await;
    assert_eq!(all.iter().filter(|got| got.status == 200).count(), 1);
    assert!(all.iter().all(|got| matches!(got.status, 200 | 402 | 409)), "other answers");
    assert_eq!((world.upstream.seen().len(), world.dev.settled_payments().await.len()), (1, 1));
    assert_eq!(world.pay("/paid/x", &payment).await.status, 402);
    let refused = world.counted(TupleCounter::ReplayRejected(ReplayState::InFlight))
        + world.counted(TupleCounter::ReplayRejected(ReplayState::Settled));
    assert_eq!(refused, 50);
}

#[tokio::test]
async fn a_payment_of_one_route_buys_nothing_at_another() {
    let mut world = World::start().await;
    let text = world.pricing();
    let more = format!(
        "{text}- {{pattern: /paid2/*, price: \"0.001\", upstreamURL: \"http://{}\"}}\n",
        world.upstream.address
    );
    world.load(&more);
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
    let got = world.pay("/paid2/x", &payment(1)).await;
    assert_eq!(got.status, 402);
    assert_eq!(world.upstream.seen().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_fails_costs_nothing_and_the_payment_can_be_used_again() {
    let world = World::start().await;
    let got = world.pay("/paid/500", &payment(1)).await;
    assert_eq!((got.status, got.body.as_str(), got.header("payment-response")), (500, "broken", None));
    let got = world.pay("/paid/redirect", &payment(1)).await;
    assert_eq!((got.status, got.header("location")), (302, Some("/elsewhere")));
    assert_eq!(world.pay("/paid/304", &payment(1)).await.status, 304);
    let got = world.pay("/dead/x", &payment(2)).await;
    assert_eq!((got.status, got.reason().as_str()), (502, "upstream_unavailable"));
    assert_eq!(world.dev.settled_payments().await.len(), 0);
    assert_eq!(world.counted(TupleCounter::UpstreamFailedAfterVerify), 2);
    assert_eq!(world.counted(TupleCounter::VerifiedUncharged(UnchargedReason::Redirect)), 2);
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
    assert_eq!(world.get("/deadfree/x").await.status, 502);
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_a_504() {
    let mut own = settings();
    own.response_timeout = Duration::from_millis(300);
    let world = World::with(own, Filter::default()).await;
    let got = world.pay("/paid/hang", &payment(1)).await;
    assert_eq!((got.status, got.reason().as_str()), (504, "upstream_unavailable"));
    assert_eq!(world.get("/free/hang").await.status, 504);
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
}

#[tokio::test]
async fn an_upfront_route_settles_first_and_keeps_the_money() {
    let world = World::start().await;
    let got = world.pay("/upfront/x", &upfront(1)).await;
    assert_eq!((got.status, receipt(&got)["success"].as_bool()), (200, Some(true)));
    assert_eq!(world.upstream.seen().remove(0).line, "GET /base/upfront/x");
    let got = world.pay("/upfront/500", &upfront(2)).await;
    assert_eq!((got.status, receipt(&got)["success"].as_bool()), (500, Some(true)));
    assert_eq!(world.charged().await, 2);
    assert_eq!(world.counted(TupleCounter::UpstreamFailedAfterCharge), 1);
    world.dev.fail_next("settle", "invalid:insufficient_funds", 1).await;
    assert_eq!(world.pay("/upfront/x", &upfront(3)).await.status, 402);
    assert_eq!(world.upstream.seen().len(), 2);
}

#[tokio::test]
async fn a_refused_settlement_hides_the_response_and_an_unknown_one_is_no_challenge() {
    let world = World::start().await;
    world.dev.fail_next("settle", "invalid:insufficient_funds", 1).await;
    let got = world.pay("/paid/x", &payment(1)).await;
    assert_eq!((got.status, receipt(&got)["success"].as_bool()), (402, Some(false)));
    assert!(!got.body.contains("served") && got.header("x-kept").is_none());
    assert_eq!(world.counted(TupleCounter::PaymentFailed(FailureReason::SettlementRejected)), 1);

    world.dev.fail("settle", "pending").await;
    let got = world.pay("/paid/x", &payment(2)).await;
    assert_eq!((got.status, got.reason().as_str()), (503, "settlement_failed"));
    assert!(got.header("payment-required").is_none() && got.header("x-kept").is_none());
    world.dev.fail("settle", "none").await;
    // The same payment again repeats the settlement and is served.
    let got = world.pay("/paid/x", &payment(2)).await;
    assert_eq!((got.status, receipt(&got)["success"].as_bool()), (200, Some(true)));
    assert_eq!(world.charged().await, 1);
}

#[tokio::test]
async fn a_facilitator_that_is_away_is_a_503_and_nothing_is_asked_of_the_upstream() {
    let world = World::start().await;
    world.dev.fail_next("verify", "reset", 1).await;
    let got = world.pay("/paid/x", &payment(1)).await;
    assert_eq!(got.status, 503);
    world.dev.fail_next("verify", "invalid:insufficient_funds", 1).await;
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 402);
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_upstream_answered_pays_nothing() {
    let world = World::start().await;
    let payment = payment(1);
    let mut leaving = Box::pin(world.send_paid("/paid/hang", &payment));
    while world.upstream.seen().is_empty() {
        let waited = tokio::time::timeout(Duration::from_millis(10), &mut leaving).await;
        assert!(waited.is_err(), "answered");
    }
    drop(leaving);
    let gone = TupleCounter::PaymentFailed(FailureReason::ClientDisconnected);
    eventually("the exchange is abandoned", || world.counted(gone) == 1).await;
    assert_eq!(world.dev.settled_payments().await.len(), 0);
    assert_eq!(world.pay("/paid/x", &payment).await.status, 200);
    assert_eq!((world.dev.settled_payments().await.len(), world.charged().await), (1, 1));
}

#[tokio::test]
async fn a_settlement_goes_on_without_its_client_and_is_served_to_the_next_attempt_once() {
    let world = World::start().await;
    world.dev.fail_next("settle", "slow:500", 1).await;
    let payment = payment(1);
    let mut leaving = Box::pin(world.send_paid("/paid/x", &payment));
    while world.upstream.seen().is_empty() {
        let waited = tokio::time::timeout(Duration::from_millis(10), &mut leaving).await;
        assert!(waited.is_err(), "answered");
    }
    let settling = async {
        while world.dev.record().await["calls"].to_string().matches("settle").count() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! { _ = &mut leaving => panic!("answered"), () = settling => {} }
    drop(leaving);
    let gone = TupleCounter::PaymentFailed(FailureReason::ClientDisconnected);
    eventually("the exchange is abandoned", || world.counted(gone) == 1).await;
    while world.charged().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let got = world.pay("/paid/x", &payment).await;
    assert_eq!((got.status, receipt(&got)["success"].as_bool()), (200, Some(true)));
    assert_eq!((world.dev.settled_payments().await.len(), world.charged().await), (1, 1));
    assert_eq!(world.pay("/paid/x", &payment).await.status, 402);
}

#[tokio::test]
async fn a_payment_in_plaintext_from_a_public_address_is_refused() {
    let filter = Filter { require_secure_transport: true, ..Filter::default() };
    let world = World::with(settings(), filter).await;
    for peer in ["203.0.113.7:40000", "[2001:db8::1]:40000"] {
        let got = world.pay_from(peer.parse().unwrap(), "/paid/x", &payment(1)).await;
        assert_eq!((got.status, got.reason().as_str()), (400, "insecure_transport"), "{peer}");
    }
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.counted(TupleCounter::PaymentFailed(FailureReason::InsecureTransport)), 2);
    assert_eq!(world.pay_from("10.0.0.9:40000".parse().unwrap(), "/paid/x", &payment(1)).await.status, 200);
}
