//! The plugin in a real Traefik, and the companion's gateway behind it.

mod bodies;
mod counting;
mod in_flight;
mod memory;
mod reloads;

use std::time::Duration;

use crate::common::{Answer, Payment, Request, Settlement, in_ledger};
use farebox_core::metrics::Family;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Part, Shell, Stack};
use serde_json::{Value, json};

const PRICING: &str = "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
    - { pattern: /free/*, gate: free }\n- { pattern: /goods/*, price: 0.001, offerName: goods }\n";

/// A stack that sells `/goods/*`.
pub(crate) fn options(shell: Shell) -> Options {
    let settings = Settlement::Relay.settings(2_000, 5_000);
    Options { settings, shell, ..Options::priced(PRICING) }
}

async fn open() -> (Stack, DevFacilitator) {
    let stack = Stack::start(options(Shell::Traefik)).await.unwrap();
    let facilitator = DevFacilitator::of(&stack);
    (stack, facilitator)
}

fn ask(stack: &Stack, path: &str) -> Answer {
    Request::get(path).send(stack.proxy_address())
}

/// Why a payment was refused, from the new challenge.
fn refusal(answer: &Answer) -> Value {
    answer.decoded("payment-required")["extensions"]["paymentFailure"].clone()
}

/// Waits until a family adds up to this over the offer.
pub(crate) async fn counted(stack: &Stack, family: Family, expected: u128) {
    let adds_up = async |stack: &Stack| {
        let page = stack.metrics().await.unwrap();
        page.sum(family.name(), &[("offer_name", "goods")]).unwrap() == expected
    };
    stack.until(&format!("{} is {expected}", family.name()), adds_up).await.unwrap();
}

/// Asserts that the answer of a paid path is not the upstream's.
fn assert_unpaid(answer: &Answer, what: &str) {
    assert!(
        matches!(answer.status, 402 | 403 | 404 | 500..=503) || answer.status == 0,
        "{what}: {}",
        answer.summary()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_screened_by_the_plugin_and_settled_and_served_once_by_the_gateway() {
    for shell in [Shell::Traefik, Shell::Gateway] {
        let stack = Stack::start(options(shell)).await.unwrap();
        let facilitator = DevFacilitator::of(&stack);
        assert_eq!(ask(&stack, "/free/a").status, 200);
        assert_eq!(ask(&stack, "/elsewhere").status, 404);
        let payment = Payment::of(&stack, "/goods/a").await.unwrap();
        let mut forged = payment.json.clone();
        forged["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "07".repeat(32)));
        let header = farebox_testkit::wallet::header_value(&forged);
        let refused =
            Request::get("/goods/a").header("payment-signature", header).send(stack.proxy_address());
        assert_eq!((refused.status, refusal(&refused)["reason"].as_str()), (402, Some("payment_invalid")));
        assert_eq!(facilitator.operations().await, [""; 0]);

        let served = payment.send(&stack, "/goods/a").await;
        assert_eq!(served.status, 200, "{}", served.summary());
        assert_eq!(served.receipt()["success"], true);
        let seen = served.json()["headers"].to_string();
        assert!(seen.contains("x-payment-payer") && !seen.contains("payment-signature"), "{seen}");
        in_ledger(&stack, &payment.nonce, "delivered").await;
        let again = payment.send(&stack, "/goods/a").await;
        assert_eq!((again.status, refusal(&again)["reason"].as_str()), (402, Some("payment_replayed")));
        assert_eq!(facilitator.operations().await, ["verify", "settle"]);
        assert_eq!(stack.origin().unwrap().hits().of("/goods/a"), 1);

        // One challenge, one forgery, one sale, one replay.
        counted(&stack, Family::RequestsTotal, 4).await;
        counted(&stack, Family::PaymentRequiredTotal, 1).await;
        counted(&stack, Family::PaymentFailedTotal, 2).await;
        counted(&stack, Family::PaymentVerifiedTotal, 1).await;
        counted(&stack, Family::ChargedRequestsTotal, 1).await;
        counted(&stack, Family::SettledAmountAtomicTotal, 1000).await;
        assert_eq!(stack.ledger().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reaches_the_gateway_without_traefik_pays_all_the_same() {
    let (stack, _) = open().await;
    let address = stack.gateway_url().trim_start_matches("http://").parse().unwrap();
    let answer = Request::get("/goods/a").header("x-payment-payer", "0x1").send(address);
    assert_eq!(answer.status, 402);
    assert_eq!(stack.origin().unwrap().hits().of("/goods/a"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_is_broken_or_gone_lets_nothing_through_unpaid() {
    let (stack, _) = open().await;
    let whole = std::fs::read(stack.plugin()).unwrap();
    let mut price = 1;
    // After a change of the rules Traefik loads the plugin again.
    for broken in [Some(&whole[..whole.len() / 2]), Some(b"\0asm garbage".as_slice()), None, Some(&whole)] {
        std::fs::remove_file(stack.plugin()).ok();
        if let Some(bytes) = broken {
            std::fs::write(stack.plugin(), bytes).unwrap();
        }
        price += 1;
        stack.rewrite_pricing(&PRICING.replace("0.001", &format!("0.00{price}"))).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(6);
        while std::time::Instant::now() < deadline {
            assert_unpaid(&ask(&stack, "/goods/a"), "while the plugin changes");
            assert_unpaid(&ask(&stack, "/goods/%61"), "while the plugin changes");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stack.ready().await.unwrap();
    let payment = Payment::of(&stack, "/goods/a").await.unwrap();
    assert_eq!(payment.send(&stack, "/goods/a").await.status, 200, "whole again, it sells again");
    assert_eq!(stack.origin().unwrap().hits().of("/goods/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_values_of_every_length_pass_the_plugin_byte_for_byte() {
    let (stack, _) = open().await;
    for length in [1, 100, 2_047, 2_048, 3_000, 8_191, 20_000, 60_000] {
        let value: String = (0..length).map(|place| char::from(b'a' + (place % 26) as u8)).collect();
        let answer = Request::get("/free/echo").header("x-long", &value).send(stack.proxy_address());
        assert_eq!(answer.status, 200, "{length}: {}", answer.summary());
        let seen = answer.json()["headers"].as_array().unwrap().clone();
        assert!(seen.contains(&json!(["x-long", value])), "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_paid_stream_arrive_one_by_one() {
    let (stack, _) = open().await;
    let payment = Payment::of(&stack, "/goods/events/4").await.unwrap();
    let request = stack.get("/goods/events/4").header("payment-signature", payment.header());
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("payment-response"));
    let mut arrivals = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        if !chunk.is_empty() {
            arrivals.push(std::time::Instant::now());
        }
    }
    assert!(arrivals.len() >= 4, "{} pieces", arrivals.len());
    // They are 300 ms apart.
    assert!(arrivals[arrivals.len() - 1] - arrivals[0] > Duration::from_millis(600));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_uses_of_one_payment_at_once_one_is_served_and_every_request_is_counted_over_a_crash() {
    let (mut stack, facilitator) = open().await;
    let payment = Payment::of(&stack, "/goods/a").await.unwrap();
    let uses: Vec<_> = (0..64)
        .map(|_| {
            let (request, to) = (payment.request("/goods/a"), stack.proxy_address());
            tokio::task::spawn_blocking(move || request.send(to).status)
        })
        .collect();
    let mut statuses = Vec::new();
    for one in uses {
        statuses.push(one.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 402 | 409)), "{statuses:?}");
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
    counted(&stack, Family::RequestsTotal, 65).await;

    // Counts of the plugin while the companion is unreachable wait in the spool.
    stack.kill_part(Part::Companion);
    for _ in 0..20 {
        assert_eq!(ask(&stack, "/goods/a").status, 402);
    }
    stack.start_part(Part::Companion).unwrap();
    stack.ready().await.unwrap();
    counted(&stack, Family::PaymentRequiredTotal, 21).await;
    counted(&stack, Family::ChargedRequestsTotal, 1).await;
}
