//! Loads, reloads, credentials and the shutdown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farebox_core::metrics::{MetricSeries, TupleCounter};
use farebox_core::rules::RuleSet;
use farebox_core::terms::{Settings as Filter, Tuple};
use farebox_pricing::load;
use tokio::net::TcpStream;

use super::world::{World, payment, settings};
use crate::counts::{Gatherer, TupleTotals};
use crate::gateway::Deployments;
use crate::settings::GatewaySettings;
use crate::testing::eventually;

#[tokio::test]
async fn reloads_under_load_fail_no_request_and_serve_none_unpaid() {
    let mut world = World::start().await;
    let (text, url, client) = (world.pricing(), world.url(""), world.client.clone());
    let asking = tokio::spawn(async move {
        let mut served = 0;
        for round in 0..60_u8 {
            let (paid, unpaid, free) = tokio::join!(
                client.get(format!("{url}/paid/x")).header("payment-signature", payment(round + 1)).send(),
                client.get(format!("{url}/paid/x")).send(),
                client.get(format!("{url}/free/x")).send(),
            );
            let statuses = [paid, unpaid, free].map(|response| response.unwrap().status().as_u16());
            assert_eq!(statuses, [200, 402, 200]);
            served += 1;
        }
        served
    });
    let mut loads = 0;
    while !asking.is_finished() {
        // Another description makes other rules.
        let text = format!("{text}- {{pattern: /other/*, gate: free, description: \"{loads}\"}}\n");
        world.load(&text);
        loads += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(asking.await.unwrap(), 60);
    assert!(loads > 20, "{loads}");
    assert_eq!((world.dev.settled_payments().await.len(), world.charged().await), (60, 60));
}

#[tokio::test]
async fn a_request_ends_under_the_rules_it_began_with() {
    let mut world = World::start().await;
    let mut response = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    let text = world.pricing().replace("offerName: a", "offerName: c");
    world.load(&text);
    assert_eq!(world.deployments.generation(), Some(2));
    assert_eq!(world.deployments.oldest_generation(), 1);
    world.upstream.send.send(Ok(Bytes::from("still"))).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Bytes::from("still")));
    drop(response);
    let _ = world.upstream.send.send(Ok(Bytes::from("more"))).await;
    eventually("the old rules are let go", || world.deployments.oldest_generation() == 2).await;
}

#[tokio::test]
async fn behind_a_proxy_what_was_asked_for_a_moment_ago_still_buys_and_alone_it_does_not() {
    for is_behind in [true, false] {
        let mut world = World::with(GatewaySettings { is_behind, ..settings() }, Filter::default()).await;
        let asked = world.pricing();
        let dearer = |price: &str| asked.replacen("\"0.001\"", &format!("\"{price}\""), 1);
        for price in ["0.002", "0.003"] {
            world.load(&dearer(price));
        }
        let got = world.pay("/paid/x", &payment(1)).await;
        assert_eq!(got.status, if is_behind { 200 } else { 402 });
        // A payment for terms that were never asked for buys nothing, and an offer that is not sold any more
        // cannot be bought.
        assert_eq!(world.pay("/upfront/x", &payment(2)).await.status, 402);
        world.load(&asked.replacen("price: \"0.001\"", "price: \"0\"", 1));
        assert_eq!(world.pay("/paid/x", &payment(3)).await.status, 403);
        assert_eq!(world.dev.settled_payments().await.len(), usize::from(is_behind));
        assert_eq!(world.upstream.seen().len(), usize::from(is_behind));
    }
}

#[tokio::test]
async fn what_was_asked_for_is_forgotten_in_time() {
    let world = World::start().await;
    let deployments = Deployments::new(None, Duration::from_millis(200));
    let before = |deployments: &Deployments| -> Vec<u64> {
        deployments.asked_before().iter().map(|before| before.rules.generation).collect()
    };
    for generation in 1..=20 {
        let (pushed, snapshot) = world.push(&world.pricing(), generation);
        deployments.apply(Arc::new(RuleSet::compile(pushed).unwrap()), &snapshot);
    }
    assert_eq!(before(&deployments), (12..20).rev().collect::<Vec<_>>());
    deployments.reroute(&world.push(&world.pricing(), 20).1);
    assert_eq!(before(&deployments)[0], 19);
    eventually("they are forgotten", || deployments.oldest_generation() == 20).await;
    assert_eq!(before(&deployments), [0; 0]);
}

#[tokio::test]
async fn what_it_counts_is_in_the_companions_totals_and_goes_with_its_offer() {
    let mut world = World::start().await;
    let state = world.state.clone();
    let gatherer =
        Gatherer::new(world.ledger.clone(), state.for_counts()).with_gateway(Some(world.meters.clone()));
    let gatherer = Arc::new(gatherer);
    let offers = || {
        let totals = state.counted.lock().totals();
        let of = |tuple: &Tuple, totals: &TupleTotals| {
            (tuple.offer_name.clone(), totals.get(TupleCounter::PaymentPresented), totals.charged)
        };
        totals.tuples.iter().map(|(tuple, totals)| of(tuple, totals)).collect::<Vec<_>>()
    };
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
    assert_eq!(world.pay("/paid/500", &payment(2)).await.status, 500);
    for _ in 0..2 {
        gatherer.show().await;
        assert!(offers().contains(&("a".to_owned(), 2, 1)), "{:?}", offers());
    }
    let text = world.pricing().replace("offerName: a", "offerName: c");
    world.load(&text);
    gatherer.tidy().await.unwrap();
    assert!(!offers().iter().any(|(offer, ..)| offer == "a"), "{:?}", offers());
    let known = world.ledger.counters().await.unwrap();
    let is_gone = |series: &MetricSeries| matches!(series, MetricSeries::Tuple(t, _) if t.offer_name == "a");
    assert!(!known.iter().any(|(series, _)| is_gone(series)), "{known:?}");
}

#[tokio::test]
async fn a_drain_ends_what_is_idle_and_waits_for_what_is_not() {
    let mut world = World::start().await;
    let idle = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(world.get("/free/x").await.status, 200);
    let mut response = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    drop(world.stop.take());
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::timeout(Duration::from_secs(2), idle.readable()).await.unwrap().unwrap();
    for event in ["one", "two"] {
        world.upstream.send.send(Ok(Bytes::from(event))).await.unwrap();
        assert_eq!(response.chunk().await.unwrap(), Some(Bytes::from(event)));
    }
    assert!(!world.serving.is_finished());
    drop(response);
    let _ = world.upstream.send.send(Ok(Bytes::from("more"))).await;
    tokio::time::timeout(Duration::from_secs(2), &mut world.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_with_its_grace() {
    let mut own = settings();
    own.grace = Duration::from_millis(100);
    let mut world = World::with(own, Filter::default()).await;
    let mut response = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    drop(world.stop.take());
    tokio::time::timeout(Duration::from_secs(2), &mut world.serving).await.unwrap().unwrap();
    assert!(response.chunk().await.is_err());
}

#[tokio::test]
async fn a_credential_of_a_file_is_read_again_and_the_last_good_one_stays() {
    let mut world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let text = world.pricing().replace("Bearer hush", &format!("\"file:{}\"", path.display()));
    let findings = world.deployments.findings(&load(&text).snapshot.unwrap()).await;
    assert!(findings.iter().any(|found| found.key.contains("upstreamAuth")), "{findings:?}");
    assert!(findings.iter().any(|found| found.key == "/lost/*: upstreamURL"), "{findings:?}");
    world.load(&text);
    // The request is refused before the payment.
    assert_eq!(world.pay("/paid/x", &payment(1)).await.reason(), "upstream_missing");
    for (nonce, secret) in [(1, "Bearer one\n"), (2, "Bearer two")] {
        std::fs::write(&path, secret).unwrap();
        assert_eq!(world.pay("/paid/x", &payment(nonce)).await.status, 200);
        assert_eq!(world.upstream.seen().pop().unwrap().headers["authorization"], secret.trim());
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.pay("/paid/x", &payment(3)).await.status, 200);
    assert_eq!(world.upstream.seen().pop().unwrap().headers["authorization"], "Bearer two");
    assert!(!format!("{:?}", world.deployments).contains("hush"));
}
