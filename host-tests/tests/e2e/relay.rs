//! The companion's relay between the real Envoy and the facilitator: every settlement is in the ledger. It
//! is made once, counted once, and buys one answer, even if any program dies meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{Answer, Payment, Request, Settlement, Tally, assert_workers_live, in_ledger};
use farebox_core::metrics::tuple_text;
use farebox_core::payment::Holder;
use farebox_core::protocol::{RELAY_HOLDER, RELAY_OFFER, RELAY_ROUTE, RelayReply};
use farebox_core::terms::Tuple;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Part, Stack};
use serde_json::Value;

const PRICE: u128 = 1000;
const PRICING: &str = "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
    - { pattern: /free, gate: free }\n- { pattern: /goods/*, price: 0.001, offerName: goods }\n";

struct Scene {
    stack: Stack,
    facilitator: DevFacilitator,
}

impl Scene {
    async fn open() -> Self {
        let settings = Settlement::Relay.settings(2_000, 2_000);
        let stack = Stack::start(Options { settings, ..Options::priced(PRICING) }).await.unwrap();
        let facilitator = DevFacilitator::of(&stack);
        Self { stack, facilitator }
    }

    async fn payment(&self) -> Payment {
        Payment::of(&self.stack, "/goods/a").await.unwrap()
    }

    /// The ledger's entry of a payment, once it is in a state.
    async fn entry(&self, payment: &Payment, state: &str) -> Value {
        in_ledger(&self.stack, &payment.nonce, state).await
    }

    /// The ledger has the charge as answered, and its transaction, which is the receipt's.
    async fn assert_in_ledger(&self, payment: &Payment, answer: &Answer) {
        let entry = self.entry(payment, "delivered").await;
        assert_eq!(entry["transaction"], answer.receipt()["transaction"]);
    }

    async fn pay(&self, payment: &Payment) -> Answer {
        payment.send(&self.stack, "/goods/a").await
    }

    /// Sends a payment and waits until the facilitator is settling it.
    async fn begin_until_settle(&self, payment: &Payment) -> std::net::TcpStream {
        let stream = payment.request("/goods/a").begin(self.stack.proxy_address());
        let called =
            async |_: &Stack| self.facilitator.operations().await.iter().any(|made| made == "settle");
        self.stack.until("the facilitator settles", called).await.unwrap();
        stream
    }

    /// Sends a payment until it is served or definitely refused.
    async fn pay_until_known(&self, payment: &Payment) -> Answer {
        for _ in 0..100 {
            let answer = self.pay(payment).await;
            if !matches!(answer.status, 409 | 503) {
                return answer;
            }
            assert!(!answer.challenges(), "no second charge is invited: {}", answer.summary());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the payment stays open");
    }
}

fn one_sale() -> Tally {
    Tally { requests: 2, required: 1, verified: 1, charged: 1, amount: PRICE, ..Tally::default() }
}

fn assert_served(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.summary());
    assert_eq!(answer.receipt()["success"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_is_counted_by_the_ledger_and_not_by_the_proxy() {
    let scene = Scene::open().await;
    let payment = scene.payment().await;
    assert_served(&scene.pay(&payment).await);
    assert_eq!(scene.facilitator.operations().await, ["verify", "settle"]);
    assert_eq!(scene.entry(&payment, "delivered").await["source"], "envoy-0");
    one_sale().assert(&scene.stack, "goods").await;
    let used = scene.pay(&payment).await;
    assert_eq!(used.status, 402, "{}", used.summary());
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    assert_workers_live(&scene.stack, "/free", "/goods/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_killed_while_it_settles_leaves_one_charge_that_still_buys_its_answer() {
    let mut scene = Scene::open().await;
    let payment = scene.payment().await;
    scene.facilitator.fail("settle", "slow:1000").await;
    let stream = scene.begin_until_settle(&payment).await;
    scene.stack.kill_part(Part::Proxy);
    drop(stream);
    scene.stack.start_part(Part::Proxy).unwrap();
    let up = async |stack: &Stack| stack.get("/free").send().await.is_ok_and(|a| a.status() == 200);
    scene.stack.until("Envoy serves again", up).await.unwrap();
    scene.facilitator.fail("settle", "none").await;
    let served = scene.pay_until_known(&payment).await;
    assert_served(&served);
    scene.assert_in_ledger(&payment, &served).await;
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    let page = scene.stack.metrics().await.unwrap();
    let seen = Tally::of(&page, "goods");
    assert_eq!((seen.charged, seen.amount, seen.unresolved), (1, PRICE, 0));
    assert_eq!(scene.pay(&payment).await.status, 402, "one payment buys one answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_the_facilitator_made_and_never_told_of_is_found_out_in_the_background() {
    an_answer_that_does_not_come_in_time("success_but_hang").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_told_of_after_the_deadline_is_found_out_in_the_background() {
    an_answer_that_does_not_come_in_time("slow:3500").await;
}

/// The buyer gets what is known, and no new price. The companion finds out the charge and counts it once,
/// and the same payment fetches the answer.
async fn an_answer_that_does_not_come_in_time(mode: &str) {
    let scene = Scene::open().await;
    let payment = scene.payment().await;
    scene.facilitator.fail("settle", mode).await;
    let answer = scene.pay(&payment).await;
    assert_eq!(answer.status, 503, "{}", answer.summary());
    assert!(!answer.challenges());
    assert_eq!(answer.json()["nonce"], payment.nonce, "what a buyer can look it up by");
    assert_eq!(Tally::of(&scene.stack.metrics().await.unwrap(), "goods").unresolved, 1);
    scene.entry(&payment, "unknown").await;
    scene.facilitator.fail("settle", "none").await;
    let known = async |stack: &Stack| Tally::of(&stack.metrics().await.unwrap(), "goods").unresolved == 0;
    scene.stack.until("the outcome is known", known).await.unwrap();
    let seen = Tally::of(&scene.stack.metrics().await.unwrap(), "goods");
    assert_eq!((seen.charged, seen.amount, seen.verified), (1, PRICE, 0));
    let served = scene.pay_until_known(&payment).await;
    assert_served(&served);
    scene.assert_in_ledger(&payment, &served).await;
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    assert_eq!(Tally::of(&scene.stack.metrics().await.unwrap(), "goods").charged, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_one_proxy_did_not_use_after_all_is_free_for_another_at_once() {
    let scene = Scene::open().await;
    let another = async |payment: &Payment| {
        let mut calls = scene.facilitator.bodies("verify").await;
        calls.retain(|body| body.contains(&payment.nonce));
        let goods = Tuple {
            offer_namespace: String::new(),
            offer_name: "goods".to_owned(),
            chain: "eip155:84532".to_owned(),
            asset_symbol: "USDC".to_owned(),
            born: 0,
        };
        let request = scene.stack.client().post(format!("{}/verify", scene.stack.relay_url()));
        let request = request.header(RELAY_HOLDER, Holder([7; 16]).to_string());
        let request = request.header(RELAY_OFFER, tuple_text(&goods)).header(RELAY_ROUTE, "/goods/*");
        let reply = request.body(calls.remove(0)).send().await.unwrap().bytes().await.unwrap();
        RelayReply::read(&reply).unwrap_or_else(|| panic!("no word of a relay: {reply:?}"))
    };
    let released = async |payment: &Payment| {
        let gone = async |stack: &Stack| {
            !stack.ledger().unwrap().iter().any(|entry| entry["nonce"] == payment.nonce)
        };
        scene.stack.until("the payment is given back", gone).await.unwrap();
        assert_eq!(another(payment).await, RelayReply::Valid);
        let answer = scene.pay(payment).await;
        assert_eq!(answer.status, 409, "now it is the other's: {}", answer.summary());
    };

    // A payment in use cannot be used by another request.
    let payment = scene.payment().await;
    let stream = payment.request("/goods/hang").begin(scene.stack.proxy_address());
    let asked = async |stack: &Stack| stack.origin().unwrap().hits().of("/goods/hang") == 1;
    scene.stack.until("the upstream is asked", asked).await.unwrap();
    assert_eq!(another(&payment).await, RelayReply::InFlight);
    // The buyer leaves.
    drop(stream);
    released(&payment).await;

    // The upstream fails.
    let payment = scene.payment().await;
    assert_eq!(payment.send(&scene.stack, "/goods/status/500").await.status, 500);
    released(&payment).await;
    assert_eq!(scene.facilitator.operations().await, ["verify"; 4]);
    assert_workers_live(&scene.stack, "/free", "/goods/x").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_broke_off_at_one_proxy_is_fetched_once_at_another() {
    let settings = Settlement::Relay.settings(2_000, 2_000);
    let stack = Stack::start(Options { settings, siblings: 1, ..Options::priced(PRICING) }).await.unwrap();
    let facilitator = DevFacilitator::of(&stack);
    let [first, second]: [SocketAddr; 2] = stack
        .proxy_urls()
        .iter()
        .map(|url| url.trim_start_matches("http://").parse().unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let payment = Payment::of(&stack, "/goods/cut").await.unwrap();
    let send = async |to: SocketAddr, path: &str| {
        let request = payment.request(path);
        tokio::task::spawn_blocking(move || request.send(to)).await.unwrap()
    };
    let broken = send(first, "/goods/cut").await;
    assert_served(&broken);
    assert!(!broken.complete);
    in_ledger(&stack, &payment.nonce, "owed").await;

    let whole = send(second, "/goods/a").await;
    assert_served(&whole);
    assert!(whole.complete);
    assert_eq!(whole.receipt(), broken.receipt());
    in_ledger(&stack, &payment.nonce, "delivered").await;
    for proxy in [first, second] {
        let used = send(proxy, "/goods/a").await;
        assert_eq!(used.status, 402, "{}", used.summary());
    }
    assert_eq!(facilitator.operations().await, ["verify", "settle"]);
    assert_eq!(stack.origin().unwrap().hits().of("/goods/a"), 1);
    Tally {
        requests: 5,
        required: 1,
        verified: 2,
        charged: 1,
        amount: PRICE,
        failed_after_charge: 1,
        ..Tally::default()
    }
    .uncharged("redeemed")
    .failed("payment_replayed")
    .failed("payment_replayed")
    .replayed("settled")
    .replayed("settled")
    .assert(&stack, "goods")
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_that_is_gone_closes_what_is_paid_and_nothing_else() {
    let mut scene = Scene::open().await;
    let payment = scene.payment().await;
    scene.stack.kill_part(Part::Companion);
    let answer = scene.pay(&payment).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &"companion_unreachable".into()));
    assert!(!answer.challenges());
    assert_eq!(Request::get("/free").send(scene.stack.proxy_address()).status, 200);
    assert_eq!(scene.facilitator.operations().await, [""; 0]);
    scene.stack.start_part(Part::Companion).unwrap();
    scene.stack.ready().await.unwrap();
    let served = scene.pay(&payment).await;
    assert_served(&served);
    scene.assert_in_ledger(&payment, &served).await;
    Tally { requests: 3, ..one_sale() }.failed("companion_unreachable").assert(&scene.stack, "goods").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_companion_killed_while_it_settles_finds_out_in_its_next_life_and_forgets_no_charge() {
    let mut scene = Scene::open().await;
    assert_served(&scene.pay(&scene.payment().await).await);
    let before = scene.facilitator.operations().await.len();
    let payment = scene.payment().await;
    scene.facilitator.fail("settle", "slow:1000").await;
    let stream = payment.request("/goods/a").begin(scene.stack.proxy_address());
    let called =
        async |_: &Stack| scene.facilitator.operations().await[before..].contains(&"settle".to_owned());
    scene.stack.until("the facilitator settles", called).await.unwrap();
    scene.stack.kill_part(Part::Companion);
    drop(stream);
    scene.facilitator.fail("settle", "none").await;
    scene.stack.start_part(Part::Companion).unwrap();
    scene.stack.ready().await.unwrap();
    let counted = async |stack: &Stack| {
        let seen = Tally::of(&stack.metrics().await.unwrap(), "goods");
        seen.charged == 2 && seen.unresolved == 0
    };
    scene.stack.until("both charges are counted", counted).await.unwrap();
    assert_served(&scene.pay_until_known(&payment).await);
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    let seen = Tally::of(&scene.stack.metrics().await.unwrap(), "goods");
    assert_eq!((seen.charged, seen.amount), (2, 2 * PRICE));
}
