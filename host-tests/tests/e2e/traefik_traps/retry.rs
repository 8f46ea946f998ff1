//! Traefik's `retry`, on both sides of the plugin.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farebox_core::metrics::Family;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Port, Stack};
use serde_json::json;

use super::options;
use crate::common::{Answer, Payment, in_ledger};
use crate::traefik::counted;

/// An upstream that answers 503 to the first request and 200 to all others.
struct Flaky {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Flaky {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                }
                if head.is_empty() {
                    continue;
                }
                let status = if count.fetch_add(1, Ordering::SeqCst) == 0 { 503 } else { 200 };
                let answer =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A file for Traefik's file provider: the middleware, and a router of the entry point `inner` that carries it.
fn write(folder: &Path, upstream: SocketAddr) {
    let retry = json!({ "attempts": 3, "initialInterval": "10ms", "status": ["500-599"] });
    let router = json!({ "entryPoints": ["inner"], "rule": "PathPrefix(`/`)", "middlewares": ["again"], "service": "flaky" });
    let config = json!({ "http": {
        "routers": { "inner": router },
        "middlewares": { "again": { "retry": retry } },
        "services": { "flaky": { "loadBalancer": { "servers": [{ "url": format!("http://{upstream}") }] } } },
    }});
    std::fs::write(folder.join("retry.yaml"), config.to_string()).unwrap();
}

/// One purchase in a stack of its own.
async fn buy(options: Options) -> (Stack, Payment, Answer) {
    let stack = Stack::start(options).await.unwrap();
    let payment = Payment::of(&stack, "/goods/a").await.unwrap();
    let answer = payment.send(&stack, "/goods/a").await;
    (stack, payment, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_upstream_is_counted_once_and_charged_once() {
    let (flaky, folder, inner) = (Flaky::start(), tempfile::tempdir().unwrap(), Port::take().unwrap());
    write(folder.path(), flaky.address);
    let (watched, address) = (folder.path().to_owned(), inner.address());
    let (stack, _, served) = buy(Options {
        upstream: Some(format!("http://{address}")),
        ..options(move |traefik| {
            traefik["entryPoints"]["inner"] = json!({ "address": address.to_string() });
            traefik["providers"]["file"] = json!({ "directory": watched });
        })
    })
    .await;
    let facilitator = DevFacilitator::of(&stack);
    assert_eq!((served.status, flaky.asked()), (200, 2), "{}", served.summary());
    assert_eq!(served.receipt()["success"], true);
    assert_eq!(facilitator.operations().await, ["verify", "settle"]);
    assert_eq!(stack.ledger().unwrap().len(), 1);
    // The challenge and the sale.
    counted(&stack, Family::RequestsTotal, 2).await;
    counted(&stack, Family::PaymentVerifiedTotal, 1).await;
    counted(&stack, Family::ChargedRequestsTotal, 1).await;
    counted(&stack, Family::SettledAmountAtomicTotal, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_around_the_plugin_counts_each_attempt_and_charges_once() {
    let (flaky, folder) = (Flaky::start(), tempfile::tempdir().unwrap());
    write(folder.path(), flaky.address);
    let watched = folder.path().to_owned();
    let (stack, payment, served) = buy(Options {
        upstream: Some(format!("http://{}", flaky.address)),
        ..options(move |traefik| {
            traefik["entryPoints"]["web"]["http"]["middlewares"] = json!(["again@file"]);
            // Without its entry point the router of the file is not used.
            traefik["providers"]["file"] = json!({ "directory": watched });
        })
    })
    .await;
    let facilitator = DevFacilitator::of(&stack);
    assert_eq!((served.status, flaky.asked()), (200, 2), "{}", served.summary());
    assert_eq!(facilitator.operations().await, ["verify", "verify", "settle"]);
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
    in_ledger(&stack, &payment.nonce, "delivered").await;
    assert_eq!(stack.ledger().unwrap().len(), 1);
    // The challenge, the attempt that failed and was not charged, and the one that was served.
    counted(&stack, Family::RequestsTotal, 3).await;
    counted(&stack, Family::ChargedRequestsTotal, 1).await;
    counted(&stack, Family::SettledAmountAtomicTotal, 1000).await;
}
