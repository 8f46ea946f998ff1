//! Starts, reloads and the end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::shop::Shop;

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
