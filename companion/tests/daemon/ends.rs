//! Starts, reloads and the end.

use std::time::{Duration, Instant};

use farebox::ledger::{Ledger, LedgerOptions};
use rustix::process::Signal;
use serde_json::json;
use sqlx::{AnyConnection, Connection, Executor};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::Port;

use crate::shop::{Program, Shop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_told_before_it_comes_and_no_slow_client_holds_it_up() {
    let mut shop = Shop::start(json!({ "shutdown": { "delay": "2s" } })).await;
    let mut slow = Vec::new();
    for (address, says) in [
        (shop.ports.metrics, "GET /metrics HTTP/1.1\r\nhost: a\r\n"),
        (shop.ports.gateway, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"),
        (shop.ports.relay, "POST /verify HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    shop.companion.signal(Signal::TERM);
    let began = Instant::now();
    shop.until("it says so", async |shop| {
        shop.readyz().await.unwrap() == (503, "the companion is stopping\n".to_owned())
    })
    .await;
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(shop.buy().await.unwrap(), (200, "sold".to_owned()));
    }
    assert!(shop.companion.end().await.success());
    let took = began.elapsed();
    // The delay, what the gateway grants a request, and a little.
    assert!((Duration::from_secs(2)..Duration::from_secs(9)).contains(&took), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_of_fifteen_seconds_is_finished_answered_and_written_down_before_the_end() {
    let settings = json!({
        "shutdown": { "delay": "1s" }, "facilitator": { "settleTimeout": "20s" }, "gateway": { "grace": "20s" },
    });
    let mut shop = Shop::start(settings).await;
    shop.facilitator().fail("settle", "slow:15000").await;
    let began = Instant::now();
    let buying = shop.begin_to_buy();
    shop.until("the facilitator settles", async |shop| shop.facilitator().calls("settle").await == 1).await;
    // One that never reads its answer, and one that is never answered.
    let mut slow = Vec::new();
    for says in ["GET /free HTTP/1.1\r\nhost: a\r\n\r\n", "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(shop.ports.gateway).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    shop.companion.signal(Signal::TERM);
    shop.until("it says so", async |shop| shop.readyz().await.is_ok_and(|(status, _)| status == 503)).await;
    assert!(shop.companion.end().await.success());
    let took = began.elapsed();
    assert!((Duration::from_secs(15)..Duration::from_secs(27)).contains(&took), "{took:?}");
    assert_eq!(buying.await.unwrap().unwrap(), (200, "sold".to_owned()));
    assert!(shop.ledger_is_closed());
    let ledger = shop.ledger();
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!(ledger[0]["state"], "delivered", "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_stops_if_its_payments_are_settled_otherwise_from_now_on() {
    let mut shop = Shop::start(json!({ "shutdown": { "delay": "10m" } })).await;
    assert_eq!(shop.buy().await.unwrap(), (200, "sold".to_owned()));
    shop.settle_by("direct");
    assert!(!shop.companion.end().await.success());
    assert!(shop.ledger_is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_without_the_delay() {
    let mut shop = Shop::start(json!({ "shutdown": { "delay": "10m" } })).await;
    shop.companion.signal(Signal::INT);
    assert!(shop.companion.end().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_loads_the_pricing_file_also_where_it_is_not_watched() {
    let shop = Shop::start(json!({ "watch": false })).await;
    shop.price("0.002");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(shop.terms().await["amount"], "1000");
    shop.companion.signal(Signal::HUP);
    shop.until("the new price is asked", async |shop| shop.terms().await["amount"] == "2000").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_cannot_be_opened_closes_payments_and_nothing_else_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    // A folder stands where the file belongs.
    let place = folder.path().join("ledger.db");
    std::fs::create_dir(&place).unwrap();
    let ledger = format!("sqlite:{}", place.display());
    let mut shop = Shop::begin(json!({}), Some(&ledger), "").await;
    shop.until("the terms are told", async |shop| shop.status("/paid").await == Some(402)).await;
    assert_eq!(shop.status("/free").await, Some(200));
    shop.learn_terms().await;
    let (status, _) = shop.buy().await.unwrap();
    assert_eq!(status, 503);
    let (status, cause) = shop.readyz().await.unwrap();
    assert!(status == 503 && cause.contains("cannot be opened"), "{status} {cause}");

    std::fs::remove_dir(&place).unwrap();
    shop.until("it is ready", async |shop| shop.readyz().await.is_ok_and(|(status, _)| status == 200)).await;
    assert_eq!(shop.buy().await.unwrap(), (200, "sold".to_owned()));
    shop.until("the sale is counted", async |shop| {
        let (_, page) = shop.metrics().await.unwrap();
        page.lines().any(|line| line.contains("charged_requests_total{") && line.ends_with(" 1"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_locked_at_the_start_closes_payments_and_nothing_else_until_it_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = format!("sqlite:{}", folder.path().join("ledger.db").display());
    Ledger::open(&ledger, "farebox", LedgerOptions::default()).await.unwrap().close().await;
    let mut other = AnyConnection::connect(&ledger).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let shop = Shop::begin(json!({}), Some(&ledger), "").await;
    shop.until("the terms are told", async |shop| shop.status("/paid").await == Some(402)).await;
    assert_eq!(shop.status("/free").await, Some(200));
    let (status, cause) = shop.readyz().await.unwrap();
    assert!(status == 503 && cause.contains("locked"), "{status} {cause}");
    other.execute("ROLLBACK").await.unwrap();
    shop.until("it is ready", async |shop| shop.readyz().await.is_ok_and(|(status, _)| status == 200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_whose_facilitator_fails_from_the_first_second_is_closed_alone_and_opens_when_it_returns() {
    let port = Port::take().unwrap();
    let failing = port.address();
    let _failing = Program::facilitator_that_fails(failing);
    let settings = json!({ "facilitator": {
        "settleTimeout": "2s", "chains": { "base": { "urls": [format!("http://{failing}")] } },
    } });
    let route = "- {pattern: /base, price: '0.001', network: base, offerNamespace: ns, offerName: b}\n";
    let mut shop = Shop::begin(settings, None, route).await;
    shop.until("the other chain sells", async |shop| shop.status("/paid").await == Some(402)).await;
    shop.learn_terms().await;
    shop.until("its facilitator is known", async |shop| {
        let closed = shop.page_of_status().await["facilitator"]["closed"].clone();
        closed.as_array().is_some_and(|closed| closed.len() == 1)
    })
    .await;
    assert_eq!(shop.buy().await.unwrap(), (200, "sold".to_owned()));
    // Terms are told, and a payment by them is not taken and not asked for anew.
    let terms = shop.terms_of("/base").await;
    let (status, body) = shop.buy_at("/base", &terms).await.unwrap();
    assert!(status == 503 && body.contains("facilitator_unreachable"), "{status} {body}");
    let (status, cause) = shop.readyz().await.unwrap();
    assert!(
        status == 503 && cause.contains("eip155:8453") && cause.contains(&failing.to_string()),
        "{cause}"
    );
    assert_eq!(shop.page_of_status().await["facilitator"]["closed"][0]["offers"], json!(["ns/b"]));

    let returned = Instant::now();
    DevFacilitator::at(format!("http://{failing}"), &shop.client).fail("supported", "none").await;
    shop.until("it is ready", async |shop| shop.readyz().await.unwrap().0 == 200).await;
    assert!(returned.elapsed() < Duration::from_millis(1_500), "{:?}", returned.elapsed());
    assert_eq!(shop.buy_at("/base", &terms).await.unwrap(), (200, "sold".to_owned()));
}
