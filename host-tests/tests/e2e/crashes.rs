//! Programs that die and clients that leave at the worst moment, in the real Envoy with two workers. A
//! payment is charged once at most, and a charged payment is served or accounted for.

use std::io::Read;
use std::net::TcpStream;

use crate::common::{Answer, Payment, Settlement, Tally, assert_workers_live, in_ledger};
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Part, Stack};
use serde_json::{Value, json};

const PRICE: u128 = 1000;

struct Scene {
    stack: Stack,
    facilitator: DevFacilitator,
}

impl Scene {
    async fn of(settlement: Settlement, offers: &[&str]) -> Self {
        let mut pricing = String::from(
            "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
             - { pattern: /free, gate: free }\n",
        );
        for offer in offers {
            pricing.push_str(&format!("- {{ pattern: /{offer}/*, price: 0.001, offerName: {offer} }}\n"));
        }
        let settings = settlement.settings(5_000, 60_000);
        let stack = Stack::start(Options { settings, ..Options::priced(pricing) }).await.unwrap();
        let facilitator = DevFacilitator::of(&stack);
        Self { stack, facilitator }
    }

    fn hits(&self, path: &str) -> u64 {
        self.stack.origin().unwrap().hits().of(path)
    }

    /// Sends a payment, and returns the open connection once the upstream was asked.
    async fn begin_until_upstream(&self, payment: &Payment, path: &str) -> TcpStream {
        let hits = self.hits(path);
        let stream = payment.request(path).begin(self.stack.proxy_address());
        let asked = async |stack: &Stack| stack.origin().unwrap().hits().of(path) == hits + 1;
        self.stack.until("the upstream is asked", asked).await.unwrap();
        stream
    }

    /// Sends a payment, and returns the open connection once the facilitator got this call.
    async fn begin_until_call(&self, payment: &Payment, path: &str, operation: &str) -> TcpStream {
        let before = self.facilitator.operations().await.len();
        let stream = payment.request(path).begin(self.stack.proxy_address());
        let called = async |_: &Stack| {
            self.facilitator.operations().await[before..].iter().any(|made| made == operation)
        };
        self.stack.until("the facilitator is called", called).await.unwrap();
        stream
    }

    async fn restart_envoy(&mut self) {
        self.stack.start_part(Part::Proxy).unwrap();
        let up = async |stack: &Stack| stack.get("/free").send().await.is_ok_and(|a| a.status() == 200);
        self.stack.until("Envoy serves again", up).await.unwrap();
    }

    /// Waits for numbers of an offer, of which one request had no end.
    async fn assert_numbers(&self, offer: &str, expected: &Tally) {
        let mut seen = Tally::default();
        for _ in 0..60 {
            seen = Tally::of(&self.stack.metrics().await.unwrap(), offer);
            if seen == *expected {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(seen, *expected, "the numbers of {offer}");
    }
}

fn one_sale() -> Tally {
    Tally { requests: 2, required: 1, verified: 1, charged: 1, amount: PRICE, ..Tally::default() }
}

fn assert_served(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.summary());
    let receipt = answer.receipt();
    assert_eq!(receipt["success"], true, "{receipt}");
    receipt
}

/// Sends a used payment until its last use is over, and returns how often it was still in use.
async fn assert_used(scene: &Scene, payment: &Payment, path: &str) -> u128 {
    for in_use in 0..50 {
        let answer = payment.send(&scene.stack, path).await;
        if answer.status != 409 {
            assert_eq!(answer.status, 402, "{}", answer.summary());
            let failure = &answer.decoded("payment-required")["extensions"]["paymentFailure"];
            assert_eq!(failure["reason"], "payment_replayed", "{failure}");
            return in_use;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the payment stays in use");
}

/// Adds the rejections of [`assert_used`].
fn with_rejections(mut tally: Tally, in_use: u128) -> Tally {
    tally = tally.failed("payment_replayed").replayed("settled");
    tally.requests += 1;
    for _ in 0..in_use {
        tally = tally.failed("payment_replayed").replayed("in_flight");
        tally.requests += 1;
    }
    tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_the_upstream_broke_off_is_owed_and_served_once_without_another_charge() {
    let scene = Scene::of(Settlement::Relay, &["books", "absent"]).await;
    let (stack, facilitator) = (&scene.stack, &scene.facilitator);
    let payment = Payment::of(stack, "/books/cut").await.unwrap();
    let answer = payment.send(stack, "/books/cut").await;
    let receipt = assert_served(&answer);
    assert!(!answer.complete, "the upstream died in the middle of its body");
    assert_eq!(facilitator.operations().await, ["verify", "settle"]);
    Tally { failed_after_charge: 1, ..one_sale() }.assert(stack, "books").await;
    in_ledger(stack, &payment.nonce, "owed").await;

    // A later good answer of the same route is served, with the stored receipt and without a further
    // call.
    let answer = payment.send(stack, "/books/whole").await;
    assert_eq!(assert_served(&answer), receipt);
    assert!(answer.complete);
    assert_eq!(facilitator.operations().await, ["verify", "settle"]);
    let in_use = assert_used(&scene, &payment, "/books/whole").await;
    assert_eq!(scene.hits("/books/whole"), 1);
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
    let served = Tally { requests: 3, verified: 2, failed_after_charge: 1, ..one_sale() };
    with_rejections(served.uncharged("redeemed"), in_use).assert(stack, "books").await;

    // An upstream that dies before it answers costs nothing.
    let payment = Payment::of(stack, "/absent/close").await.unwrap();
    let answer = payment.send(stack, "/absent/close").await;
    assert_eq!((answer.status, answer.json()["reason"].clone()), (502, json!("upstream_unavailable")));
    assert!(answer.receipt().is_null());
    assert!(!answer.challenges());
    assert_eq!(facilitator.settled(&payment.nonce).await, 0);
    assert_served(&payment.send(stack, "/absent/goods").await);
    Tally { requests: 3, upstream_failed: 1, ..one_sale() }.assert(stack, "absent").await;
    assert_workers_live(stack, "/free", "/books/x").await;
}

/// The end of a request can reach the relay before its claim.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buyers_that_leave_at_once_keep_no_payment_held() {
    let scene = Scene::of(Settlement::Relay, &["books"]).await;
    let stack = &scene.stack;
    for _ in 0..60 {
        let payment = Payment::of(stack, "/books/goods").await.unwrap();
        let left = payment.request("/books/goods").begin(stack.proxy_address());
        left.shutdown(std::net::Shutdown::Both).unwrap();
    }
    let is_free = async |stack: &Stack| {
        let held = |row: &Value| matches!(row["state"].as_str(), Some("claimed" | "reserved" | "verified"));
        !stack.ledger().unwrap().iter().any(held)
    };
    stack.until("no payment is held", is_free).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_breaks_off_during_settlement_leaves_a_buyer_that_knows_what_to_do() {
    let scene = Scene::of(Settlement::Relay, &["books"]).await;
    let (stack, facilitator) = (&scene.stack, &scene.facilitator);
    let payment = Payment::of(stack, "/books/cut").await.unwrap();
    facilitator.fail("settle", "slow:2500").await;
    let answer = payment.send(stack, "/books/cut").await;
    facilitator.fail("settle", "none").await;
    assert!(matches!(answer.status, 502 | 503), "{}", answer.summary());
    assert_eq!(answer.json()["code"], "answer_broke_off", "{}", answer.summary());
    assert_eq!(answer.header("x-should-retry").as_deref(), Some("false"));
    assert!(!answer.challenges());
    in_ledger(stack, &payment.nonce, "owed").await;

    assert_served(&payment.send(stack, "/books/whole").await);
    assert_eq!((scene.hits("/books/whole"), facilitator.settled(&payment.nonce).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_settlement_pays_nothing_and_can_come_back() {
    let scene = Scene::of(Settlement::Relay, &["upstream", "verify"]).await;
    let (stack, facilitator) = (&scene.stack, &scene.facilitator);
    let gone = || Tally { requests: 2, required: 1, ..Tally::default() }.failed("client_disconnected");
    let back = || Tally { requests: 3, ..one_sale() }.failed("client_disconnected");

    // While the upstream works.
    let payment = Payment::of(stack, "/upstream/hang").await.unwrap();
    drop(scene.begin_until_upstream(&payment, "/upstream/hang").await);
    gone().assert(stack, "upstream").await;
    assert_eq!(facilitator.operations().await, ["verify"]);
    assert_served(&payment.send(stack, "/upstream/goods").await);
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
    back().assert(stack, "upstream").await;

    // While the facilitator verifies.
    let payment = Payment::of(stack, "/verify/goods").await.unwrap();
    facilitator.fail("verify", "slow:600").await;
    drop(scene.begin_until_call(&payment, "/verify/goods", "verify").await);
    facilitator.fail("verify", "none").await;
    gone().assert(stack, "verify").await;
    assert_eq!(scene.hits("/verify/goods"), 0);
    assert_served(&payment.send(stack, "/verify/goods").await);
    assert_eq!((scene.hits("/verify/goods"), facilitator.settled(&payment.nonce).await), (1, 1));
    back().assert(stack, "verify").await;
    assert_workers_live(stack, "/free", "/upstream/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_during_settlement_is_charged_once_and_served_when_it_comes_back() {
    leaving_during_settlement(Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_a_client_that_leaves_during_settlement_is_charged_once_too() {
    leaving_during_settlement(Settlement::Direct).await;
}

async fn leaving_during_settlement(settlement: Settlement) {
    let scene = Scene::of(settlement, &["settle", "body"]).await;
    let (stack, facilitator) = (&scene.stack, &scene.facilitator);
    let payment = Payment::of(stack, "/settle/goods").await.unwrap();
    facilitator.fail("settle", "slow:600").await;
    drop(scene.begin_until_call(&payment, "/settle/goods", "settle").await);
    // The relay gets the end of the call and records it; without a relay the filter does.
    let charge = Tally { charged: 1, amount: PRICE, ..Tally::default() };
    Tally { requests: 2, required: 1, ..charge }.failed("client_disconnected").assert(stack, "settle").await;
    assert_eq!(facilitator.settled(&payment.nonce).await, 1, "the call went on without its client");
    facilitator.fail("settle", "none").await;
    assert_served(&payment.send(stack, "/settle/goods").await);
    assert_eq!(facilitator.operations().await, ["verify", "settle"]);
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
    // The charge was counted before, and the answer is still owed.
    let back = Tally { requests: 3, ..one_sale() }.failed("client_disconnected");
    back.uncharged("redeemed").assert(stack, "settle").await;

    // A client that leaves during a paid body has used its payment; otherwise it could have itself served
    // again and again.
    let payment = Payment::of(stack, "/body/events/8").await.unwrap();
    let mut stream = payment.request("/body/events/8").begin(stack.proxy_address());
    let mut first = [0; 64];
    assert!(stream.read(&mut first).unwrap() > 0);
    assert!(first.starts_with(b"HTTP/1.1 200"));
    drop(stream);
    let in_use = assert_used(&scene, &payment, "/body/events/8").await;
    assert_eq!((scene.hits("/body/events/8"), facilitator.settled(&payment.nonce).await), (1, 1));
    with_rejections(one_sale(), in_use).assert(stack, "body").await;
    assert_workers_live(stack, "/free", "/settle/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_while_the_companion_is_away_is_not_served_again() {
    let mut scene = Scene::of(Settlement::Relay, &["body"]).await;
    let payment = Payment::of(&scene.stack, "/body/events/8").await.unwrap();
    let mut stream = payment.request("/body/events/8").begin(scene.stack.proxy_address());
    let mut first = [0; 64];
    assert!(stream.read(&mut first).unwrap() > 0);
    assert!(first.starts_with(b"HTTP/1.1 200"));
    in_ledger(&scene.stack, &payment.nonce, "owed").await;
    scene.stack.kill_part(Part::Companion);
    drop(stream);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    scene.stack.start_part(Part::Companion).unwrap();
    scene.stack.ready().await.unwrap();
    in_ledger(&scene.stack, &payment.nonce, "delivered").await;
    assert_used(&scene, &payment, "/body/events/8").await;
    assert_eq!((scene.hits("/body/events/8"), scene.facilitator.settled(&payment.nonce).await), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_a_proxy_killed_in_the_middle_of_a_payment_never_charges_or_serves_twice() {
    let mut scene = Scene::of(Settlement::Direct, &["early", "late"]).await;

    // While the upstream works: nothing was settled, so the payment can be used again.
    let payment = Payment::of(&scene.stack, "/early/hang").await.unwrap();
    let stream = scene.begin_until_upstream(&payment, "/early/hang").await;
    let begun = Tally { requests: 2, required: 1, ..Tally::default() };
    scene.assert_numbers("early", &begun).await;
    scene.stack.kill_part(Part::Proxy);
    drop(stream);
    scene.restart_envoy().await;
    assert_served(&payment.send(&scene.stack, "/early/goods").await);
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    // Totals survive the death of the process that counted them.
    scene.assert_numbers("early", &Tally { requests: 3, ..one_sale() }).await;

    // While the facilitator settles: the reservations are lost with the proxy, but the token's nonce is
    // used. The buyer is refused and not charged again, and the upstream gets no request.
    let payment = Payment::of(&scene.stack, "/late/goods").await.unwrap();
    scene.facilitator.fail("settle", "slow:5000").await;
    let stream = scene.begin_until_call(&payment, "/late/goods", "settle").await;
    scene.stack.kill_part(Part::Proxy);
    drop(stream);
    scene.facilitator.fail("settle", "none").await;
    scene.restart_envoy().await;
    let answer = payment.send(&scene.stack, "/late/goods").await;
    assert_eq!(answer.status, 402, "{}", answer.summary());
    let failure = &answer.decoded("payment-required")["extensions"]["paymentFailure"];
    assert_eq!(failure["detail"], "invalid_exact_evm_nonce_already_used", "{failure}");
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    assert_eq!(scene.hits("/late/goods"), 1);
    assert_workers_live(&scene.stack, "/free", "/late/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_a_killed_companion_stops_no_payment_and_loses_no_number() {
    let mut scene = Scene::of(Settlement::Direct, &["goods"]).await;
    let payment = Payment::of(&scene.stack, "/goods/a").await.unwrap();
    scene.stack.kill_part(Part::Companion);
    assert_served(&payment.send(&scene.stack, "/goods/a").await);
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    scene.stack.start_part(Part::Companion).unwrap();
    scene.stack.ready().await.unwrap();
    one_sale().assert(&scene.stack, "goods").await;
    assert_served(&Payment::of(&scene.stack, "/goods/a").await.unwrap().send(&scene.stack, "/goods/a").await);
    Tally { requests: 4, required: 2, verified: 2, charged: 2, amount: 2 * PRICE, ..Tally::default() }
        .assert(&scene.stack, "goods")
        .await;
}
