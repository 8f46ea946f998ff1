//! Published facilitators of other projects, with a chain that applies a transfer and loses its answer. In every
//! case money moves once, and no buyer is asked for more.

use farebox_testkit::stack::{Facilitator, Implementation, Options, Reference, Shell, Stack};
use serde_json::json;

use crate::common::{Answer, Payment, Settlement, Tally, in_ledger};

const PRICE: u128 = 1000;
const PRICING: &str = "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
    - { pattern: /goods/*, price: 0.001, offerName: goods }\n\
    - { pattern: /first/*, price: 0.001, paymentFlow: upfront, offerName: first }\n";

/// A shop with a facilitator of another project.
struct Scene {
    stack: Stack,
    reference: Reference,
    settlement: Settlement,
}

impl Scene {
    async fn open(implementation: Implementation, shell: Shell, settlement: Settlement) -> Self {
        let reference = Reference::start(implementation).await.unwrap();
        let stack = Stack::start(Options {
            shell,
            settings: settlement.settings(8_000, 8_000),
            facilitator: Facilitator::At(reference.url()),
            ..Options::priced(PRICING)
        })
        .await
        .unwrap();
        Self { stack, reference, settlement }
    }

    async fn moved(&self, payment: &Payment) -> usize {
        self.reference.transfers(&payment.nonce).await.unwrap().len()
    }

    /// Makes a normal sale.
    async fn sell(&self, path: &str) {
        let payment = Payment::of(&self.stack, path).await.unwrap();
        let answer = payment.send(&self.stack, path).await;
        assert_eq!(answer.status, 200, "{}\n{}", answer.summary(), self.reference.tails());
        let transfers = self.reference.transfers(&payment.nonce).await.unwrap();
        assert_eq!(transfers.len(), 1);
        assert_eq!(answer.receipt()["transaction"], transfers[0]["transaction"]);
    }

    /// Checks that the answer says that the outcome is unknown, and asks for no payment.
    async fn assert_open(&self, payment: &Payment, answer: &Answer) {
        let told = || format!("{}\n{}", answer.summary(), self.reference.tails());
        assert_eq!(answer.status, 503, "{}", told());
        assert!(!answer.challenges(), "{}", told());
        assert_eq!(answer.json()["reason"], "settlement_failed", "{}", told());
        assert_eq!(answer.json()["nonce"], payment.nonce, "{}", told());
        assert_eq!(self.moved(payment).await, 1, "{}", told());
        if self.settlement == Settlement::Relay {
            in_ledger(&self.stack, &payment.nonce, "unknown").await;
        }
    }

    /// The transfer succeeds, and its answer is lost. Later the facilitator says about the same payment that the
    /// nonce is used, or that the signature is bad if the node does not answer.
    async fn lose(&self, offer: &str) {
        let path = format!("/{offer}/a");
        let payment = Payment::of(&self.stack, &path).await.unwrap();
        self.reference.lose_sent(1).await.unwrap();
        self.assert_open(&payment, &payment.send(&self.stack, &path).await).await;
        self.assert_open(&payment, &payment.send(&self.stack, &path).await).await;
        self.reference.lose_code(1_000).await.unwrap();
        self.assert_open(&payment, &payment.send(&self.stack, &path).await).await;
        self.reference.lose_code(0).await.unwrap();
        self.assert_open(&payment, &payment.send(&self.stack, &path).await).await;
        let served = self.stack.origin().unwrap().hits().of(&path);
        // The sale, and the answer that was held back.
        assert_eq!(served, if offer == "first" { 1 } else { 2 });
        let failed = (0..4).fold(Tally::default(), |tally, _| tally.failed("settlement_failed"));
        let open = Tally {
            requests: 7,
            required: 2,
            verified: 1,
            charged: 1,
            amount: PRICE,
            unresolved: 1,
            ..failed
        };
        open.clone().assert(&self.stack, offer).await;
        if self.settlement == Settlement::Relay {
            self.look_it_up(&payment, &path, offer, open).await;
        }
    }

    /// An operator finds the transfer on the chain, and the payment buys the answer it is owed.
    async fn look_it_up(&self, payment: &Payment, path: &str, offer: &str, open: Tally) {
        let transfers = self.reference.transfers(&payment.nonce).await.unwrap();
        let transaction = transfers[0]["transaction"].as_str().unwrap();
        // The companion may be making a call now.
        let resolved = async |stack: &Stack| {
            stack.ledger_says(&["resolve", &payment.nonce, "--settled", transaction]).is_ok()
        };
        self.stack.until("the operator has told of the transfer", resolved).await.unwrap();
        let served = payment.send(&self.stack, path).await;
        assert_eq!(served.status, 200, "{}", served.summary());
        assert_eq!(served.receipt()["transaction"], transaction);
        in_ledger(&self.stack, &payment.nonce, "delivered").await;
        assert_eq!(payment.send(&self.stack, path).await.status, 402);
        assert_eq!(self.moved(payment).await, 1);
        let sold = Tally { requests: 9, verified: 2, charged: 2, amount: 2 * PRICE, unresolved: 0, ..open };
        let sold = sold.uncharged("redeemed").failed("payment_replayed").replayed("settled");
        sold.assert(&self.stack, offer).await;
    }
}

async fn a_transfer_without_an_answer(implementation: Implementation, shell: Shell, settlement: Settlement) {
    let scene = Scene::open(implementation, shell, settlement).await;
    for offer in ["goods", "first"] {
        scene.sell(&format!("/{offer}/a")).await;
        scene.lose(offer).await;
    }
    let status = scene.stack.status().await.unwrap();
    assert_eq!(status["facilitator"]["ready"], json!(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_in_typescript_loses_a_transfer_and_nobody_pays_twice() {
    a_transfer_without_an_answer(Implementation::TypeScript, Shell::Envoy, Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_in_typescript_loses_a_transfer_at_the_gateway_and_nobody_pays_twice() {
    a_transfer_without_an_answer(Implementation::TypeScript, Shell::Gateway, Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_the_reference_in_typescript_loses_a_transfer_and_nobody_pays_twice() {
    a_transfer_without_an_answer(Implementation::TypeScript, Shell::Envoy, Settlement::Direct).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_in_python_loses_a_transfer_and_nobody_pays_twice() {
    a_transfer_without_an_answer(Implementation::Python, Shell::Envoy, Settlement::Relay).await;
}
