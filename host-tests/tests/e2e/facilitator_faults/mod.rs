//! Every way a facilitator can fail, in the real Envoy with two workers: the buyer's answer, the counts,
//! the money, and whether the same payment can be used again.

mod boot;
mod chains;
mod settle;
mod verify;

use std::time::Duration;

use crate::common::{Answer, Settlement, Tally};
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Part, Stack};
use serde_json::Value;

const VERIFY_TIMEOUT: Duration = Duration::from_millis(1000);
const SETTLE_TIMEOUT: Duration = Duration::from_millis(1500);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(4);
/// The price of everything here, atomic units.
const PRICE: u128 = 1000;

/// A way to fail, with its effects on buyer, metrics and money.
struct Fault {
    /// Name of the offer and first segment of its path.
    offer: &'static str,
    /// Mode of the development facilitator. `{origin}` is the upstream's address.
    mode: &'static str,
    /// The effects with `settlement: direct`.
    direct: Seen,
    /// The effects with the relay.
    relay: Seen,
}

/// The effects of a fault for a proxy and its buyer.
#[derive(Clone, Copy)]
struct Seen {
    /// `outcome` of each call of the failing endpoint.
    calls: &'static [&'static str],
    end: End,
}

/// The end of a request whose facilitator fails.
#[derive(Clone, Copy)]
enum End {
    /// Served normally.
    Served,
    /// 402 or 412 with new terms, and the facilitator's reason. The payment is free again.
    Refused(u16, &'static str),
    /// 503 with this reason; `true` if a new attempt is worth it. The payment is free again.
    Unavailable(&'static str, bool),
    /// 503 without terms; the payment is kept, and counted as open.
    Unknown {
        /// Whether the buyer gets a transaction.
        transaction: bool,
        /// Whether money moved.
        moved: bool,
    },
}

const fn fault(offer: &'static str, mode: &'static str, calls: &'static [&'static str], end: End) -> Fault {
    Fault { offer, mode, direct: Seen { calls, end }, relay: Seen { calls, end } }
}

// === impl Fault ===

impl Fault {
    /// Sets other effects for the relay.
    const fn relayed(self, calls: &'static [&'static str], end: End) -> Self {
        Self { relay: Seen { calls, end }, ..self }
    }
}

fn options(settlement: Settlement, offers: impl IntoIterator<Item = &'static str>) -> Options {
    let mut pricing = String::from(
        "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
         - { pattern: /free, gate: free }\n",
    );
    for offer in offers {
        pricing.push_str(&format!(
            "- {{ pattern: /{offer}/*, price: 0.001, offerNamespace: faults, offerName: {offer} }}\n"
        ));
    }
    Options {
        settings: settlement.settings(VERIFY_TIMEOUT.as_millis(), SETTLE_TIMEOUT.as_millis()),
        ..Options::priced(pricing)
    }
}

/// The setup of these tests.
struct Scene {
    settlement: Settlement,
    stack: Stack,
    facilitator: DevFacilitator,
}

impl Scene {
    async fn of(settlement: Settlement, faults: &[Fault], more: &[&'static str]) -> Self {
        let offers = faults.iter().map(|fault| fault.offer).chain(more.iter().copied());
        let stack = Stack::start(options(settlement, offers)).await.unwrap();
        let facilitator = DevFacilitator::of(&stack);
        Self { settlement, stack, facilitator }
    }

    fn seen(&self, fault: &Fault) -> Seen {
        self.settlement.pick(fault.relay, fault.direct)
    }

    fn hits(&self, path: &str) -> u64 {
        self.stack.origin().unwrap().hits().of(path)
    }

    async fn break_down(&self, endpoint: &str, fault: &Fault) {
        let mode = fault.mode.replace("{origin}", &self.stack.upstream_url());
        self.facilitator.fail(endpoint, &mode).await;
    }
}

/// A normal purchase: one challenge and one payment.
fn one_sale() -> Tally {
    Tally { requests: 2, required: 1, verified: 1, charged: 1, amount: PRICE, ..Tally::default() }
}

/// The same with a failed attempt before it.
fn sale_after(reason: &str) -> Tally {
    Tally { requests: 3, ..one_sale() }.failed(reason)
}

/// One challenge and one attempt that failed.
fn failure(reason: &str) -> Tally {
    Tally { requests: 2, required: 1, ..Tally::default() }.failed(reason)
}

/// 200 with the receipt of a settlement.
fn assert_served(answer: &Answer, fault: &str) {
    assert_eq!(answer.status, 200, "{fault}: {}", answer.summary());
    let receipt = answer.receipt();
    assert_eq!(receipt["success"], true, "{fault}: {receipt}");
    assert_eq!(receipt["network"], "eip155:84532", "{fault}");
    assert_eq!(receipt["transaction"].as_str().map(str::len), Some(66), "{fault}: {receipt}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("private"), "{fault}");
    assert_eq!(answer.json()["method"], "GET", "{fault}: the upstream's own body");
}

/// An error without terms, made by the filter.
fn assert_error(answer: &Answer, reason: &str, error: &str, retriable: bool, fault: &str) -> Value {
    assert_eq!(answer.status, 503, "{fault}: {}", answer.summary());
    assert!(!answer.challenges(), "{fault}: an error must not ask for another payment");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{fault}");
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{fault}");
    let body = answer.json();
    assert_eq!(body["reason"], reason, "{fault}");
    assert_eq!(body["retriable"], retriable, "{fault}");
    assert!(body["error"].as_str().unwrap().starts_with(error), "{fault}: {body}");
    body
}

/// New terms, with what was wrong.
fn assert_new_terms(answer: &Answer, status: u16, reason: &str, code: &str, fault: &str) {
    assert_eq!(answer.status, status, "{fault}: {}", answer.summary());
    assert!(answer.challenges(), "{fault}");
    assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{fault}");
    let failure = &answer.decoded("payment-required")["extensions"]["paymentFailure"];
    assert_eq!(failure["reason"], reason, "{fault}: {failure}");
    assert_eq!(failure["detail"], code, "{fault}: {failure}");
}

fn labelled(operation: &str, outcomes: &[&str]) -> Vec<String> {
    outcomes.iter().map(|outcome| format!("{operation} {outcome}")).collect()
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

async fn restart_facilitator(scene: &mut Scene) {
    scene.stack.start_part(Part::Facilitator).unwrap();
    let url = format!("{}/supported", scene.stack.facilitator_url());
    let answers = async |stack: &Stack| stack.client().get(&url).send().await.is_ok();
    scene.stack.until("the facilitator answers again", answers).await.unwrap();
}
