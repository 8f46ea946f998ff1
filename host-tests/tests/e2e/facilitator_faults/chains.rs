//! Chains with their own facilitator, which is unreachable: offers on other chains are sold.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::paths;
use farebox_testkit::stack::{Options, Port, Process, Shell, Stack};
use serde_json::{Value, json};

use super::assert_served;
use crate::common::{Payment, Request, Settlement};

const PRICING: &str = "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
    - { pattern: /free, gate: free }\n- { pattern: /goods/*, price: 0.001, offerNamespace: ns, offerName: goods }\n\
    - { pattern: /base/*, price: 0.001, network: base, offerNamespace: ns, offerName: base }\n";
const ON_POLYGON: &str =
    "- { pattern: /polygon/*, price: 0.001, network: polygon, offerNamespace: ns, offerName: polygon }\n";
const BASE: &str = "eip155:8453";
const POLYGON: &str = "eip155:137";
/// Longest time from the return of a facilitator to the first sale, with some time for a slow machine.
const RETURN: Duration = Duration::from_millis(1_000);

/// The closed chains of `/status`, by network.
async fn closed(stack: &Stack) -> Vec<(String, Value)> {
    let status = stack.status().await.unwrap();
    let closed = status["facilitator"]["closed"].as_array().unwrap().clone();
    assert_eq!(status["facilitator"]["ready"], closed.is_empty(), "{status:#}");
    closed
        .iter()
        .map(|chain| (chain["network"].as_str().unwrap().to_owned(), chain["offers"].clone()))
        .collect()
}

async fn readyz(stack: &Stack) -> (u16, String) {
    let answer = stack.client().get(format!("{}/readyz", stack.companion_url())).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Checks that terms are sent, and that a payment is neither taken nor answered with a new price.
async fn assert_closed(stack: &Stack, path: &str) -> Payment {
    let payment = Payment::of(stack, path).await.unwrap();
    let answer = payment.send(stack, path).await;
    assert_eq!(answer.status, 503, "{}", answer.summary());
    assert_eq!(answer.json()["reason"], "facilitator_unreachable");
    assert!(!answer.challenges());
    payment
}

async fn sell(stack: &Stack, path: &str) {
    let payment = Payment::of(stack, path).await.unwrap();
    let answer = payment.send(stack, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.summary());
}

async fn story(shell: Shell) {
    let (port, nowhere) = (Port::take().unwrap(), Port::take().unwrap());
    let mut settings = Settlement::Relay.settings(2_000, 2_000);
    settings["facilitator"]["chains"] = json!({
        "base": { "urls": [format!("http://{}", port.address())] },
        "polygon": { "urls": [format!("http://{}", nowhere.address())] },
    });
    let stack = Stack::prepare(Options { settings, shell, ..Options::priced(PRICING) }).unwrap();
    let mut command = Command::new(paths::dev_farebox().unwrap());
    command.args(["facilitator", "--fail", "supported=http_500", "--listen", &port.address().to_string()]);
    let _failing = Process::spawn("failing", command, &stack.folder().join("failing.log")).unwrap();
    let stack = stack.start_all().await.unwrap();

    // Everything but one chain is for sale, and the companion names what is not.
    let payment = assert_closed(&stack, "/base/a").await;
    sell(&stack, "/goods/a").await;
    assert_eq!(Request::get("/free").send(stack.proxy_address()).status, 200);
    assert_eq!(closed(&stack).await, [(BASE.to_owned(), json!(["ns/base"]))]);
    let (status, cause) = readyz(&stack).await;
    assert_eq!(status, 503);
    assert!(cause.contains(BASE) && cause.contains(&port.address().to_string()), "{cause}");

    // Its facilitator returns: the payment that was refused buys.
    let failing = DevFacilitator::at(format!("http://{}", port.address()), stack.client());
    failing.fail("supported", "none").await;
    let returned = Instant::now();
    let answer = loop {
        let answer = payment.send(&stack, "/base/a").await;
        if answer.status != 503 {
            break answer;
        }
        assert!(
            returned.elapsed() < RETURN,
            "still closed after {:?}: {}",
            returned.elapsed(),
            answer.summary()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(answer.status, 200, "{}", answer.summary());
    assert_eq!(answer.receipt()["network"], BASE);
    assert_eq!(failing.settled(&payment.nonce).await, 1);
    let is_ready = async |stack: &Stack| readyz(stack).await.0 == 200;
    stack.until("the companion is ready", is_ready).await.unwrap();

    // A file that adds a chain with an unknown facilitator closes no other chain, not even for a moment.
    let over = Arc::new(AtomicBool::new(false));
    let stack = Arc::new(stack);
    let seller = tokio::spawn({
        let (stack, over) = (stack.clone(), over.clone());
        async move {
            let mut sold = 0;
            while !over.load(Ordering::Relaxed) {
                sell(&stack, "/goods/a").await;
                sell(&stack, "/base/a").await;
                assert_eq!(Request::get("/free").send(stack.proxy_address()).status, 200);
                sold += 1;
            }
            sold
        }
    });
    stack.rewrite_pricing(&format!("{PRICING}{ON_POLYGON}")).unwrap();
    let is_offered =
        async |stack: &Stack| Request::get("/polygon/a").send(stack.proxy_address()).status == 402;
    stack.until("the new route is offered", is_offered).await.unwrap();
    assert_closed(&stack, "/polygon/a").await;
    assert_eq!(closed(&stack).await, [(POLYGON.to_owned(), json!(["ns/polygon"]))]);
    // The companion stays ready for the other chains, and /readyz and /status name the closed one.
    let (status, text) = readyz(&stack).await;
    assert!(status == 200 && text.contains(POLYGON), "{status} {text}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    over.store(true, Ordering::Relaxed);
    assert!(seller.await.unwrap() > 0);
    let payment = Payment::of(&stack, "/goods/a").await.unwrap();
    assert_served(&payment.send(&stack, "/goods/a").await, "after the reload");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_envoy_a_chain_without_its_facilitator_is_closed_alone_and_opens_within_a_second() {
    story(Shell::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_gateway_a_chain_without_its_facilitator_is_closed_alone_and_opens_within_a_second() {
    story(Shell::Gateway).await;
}
