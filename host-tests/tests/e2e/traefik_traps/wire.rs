//! Requests that pass the plugin, on the wire.

use farebox_testkit::stack::Stack;
use serde_json::Value;

use super::options;
use crate::common::{Payment, Request};

/// The entry point as shipped, and as Traefik has it by default.
const ENTRY_POINTS: [bool; 2] = [true, false];

async fn open(shipped: bool) -> Stack {
    let options = options(move |traefik| {
        if !shipped {
            traefik["entryPoints"]["web"].as_object_mut().unwrap().remove("http");
        }
    });
    Stack::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_paid_path_reaches_the_upstream_unpaid() {
    for shipped in ENTRY_POINTS {
        let stack = open(shipped).await;
        for path in [
            "/goods/a",
            "//goods/a",
            "/goods//a",
            "/./goods/a",
            "/free/../goods/a",
            "/free/%2e%2e/goods/a",
            "/free/..%2fgoods/a",
            "/free/..%5cgoods/a",
            "/free%2f..%2fgoods/a",
            "/%67oods/a",
            "/goods%2Fa",
            "/goods%252Fa",
            "/goods;x=1/a",
            "/goods%3bx/a",
            "/GOODS/a",
            "/goods/a%00",
            "/goods/a?/free/",
            "http://shop.example/goods/a",
        ] {
            let answer = Request::get(path).send(stack.proxy_address());
            assert!(matches!(answer.status, 400..=404), "{path}, shipped {shipped}: {}", answer.summary());
        }
        assert_eq!(stack.origin().unwrap().hits().total(), 0, "shipped {shipped}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_names_a_payer_to_the_upstream_in_any_spelling_of_the_header() {
    for shipped in ENTRY_POINTS {
        let stack = open(shipped).await;
        let payment = Payment::of(&stack, "/goods/a").await.unwrap();
        let forged = |request: Request| {
            ["X-Payment-Payer", "X_Payment_Payer", "X.Payment.Payer", "x-PAYMENT_payer"]
                .into_iter()
                .fold(request, |request, name| request.header(name, "0xForged"))
        };
        for (request, payers) in [(Request::get("/free/a"), 0), (payment.request("/goods/a"), 1)] {
            let answer = forged(request).send(stack.proxy_address());
            assert_eq!(answer.status, 200, "shipped {shipped}: {}", answer.summary());
            let seen = answer.json()["headers"].clone();
            assert!(!seen.to_string().contains("0xForged"), "shipped {shipped}: {seen}");
            let named =
                |line: &&Value| line[0].as_str().unwrap().replace(['_', '.'], "-") == "x-payment-payer";
            let lines = seen.as_array().unwrap().iter().filter(named).count();
            assert_eq!(lines, payers, "shipped {shipped}: {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_cannot_count_serves_all_the_same() {
    let stack = open(true).await;
    let spool = stack.spool().join("farebox");
    std::fs::remove_file(&spool).unwrap();
    std::fs::create_dir(&spool).unwrap();
    for _ in 0..3 {
        assert_eq!(Request::get("/goods/a").send(stack.proxy_address()).status, 402);
        assert_eq!(Request::get("/free/a").send(stack.proxy_address()).status, 200);
    }
    let payment = Payment::of(&stack, "/goods/a").await.unwrap();
    assert_eq!(payment.send(&stack, "/goods/a").await.status, 200);
}
