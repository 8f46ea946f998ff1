//! A shop with paid, free and refused routes, and a buyer: the setup of every test.

use farebox_core::metrics::{FailureReason, MetricSeries, TupleCounter};
use farebox_core::terms::Tuple;
use farebox_host_tests::envoy::{Callout, Envoy, Request, Response, Stream};
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Recipient of every payment.
pub(crate) const PAY_TO: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
/// The transaction of a settled payment.
pub(crate) const TRANSACTION: &str = "0x00000000000000000000000000000000000000000000000000000000000000aa";
/// Generation of the first push.
pub(crate) const GENERATION: u64 = 1_790_000_000_001;
/// Seconds for which a payment is valid.
pub(crate) const VALIDITY: u64 = 600;

/// Prefix of the shared-data keys of payments.
pub(crate) const PAYMENTS: &str = "farebox.payments.";

/// A proxy with the shop's rules.
pub(crate) struct Shop {
    pub(crate) envoy: Envoy,
    pub(crate) buyer: Wallet,
}

/// A paid route's option as it is pushed.
pub(crate) fn option(tuple: usize, amount: &str, flow: &str) -> Value {
    json!({
        "tuple": tuple,
        "network": "eip155:84532",
        "v1Network": "base-sepolia",
        "v1Kind": true,
        "amount": amount,
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "decimals": 6,
        "payTo": PAY_TO,
        "maxTimeoutSeconds": VALIDITY,
        "flow": flow,
        "transferMethod": "eip3009",
        "eip712Name": "USDC",
        "eip712Version": "2",
    })
}

/// The shop's rules. `/paid/*` and `/other/*` cost 1000, `/upfront/*` 2500 before service, `/free/*`
/// nothing; `/broken/*` was skipped at load.
pub(crate) fn rules(generation: u64) -> Value {
    let route = |pattern: &str, gate: &str, offer: &str, options: Vec<Value>| {
        json!({
            "pattern": pattern, "gate": gate, "offerNamespace": "shop", "offerName": offer, "options": options,
        })
    };
    let tuple = |offer: &str| {
        json!({
            "offerNamespace": "shop", "offerName": offer, "chain": "eip155:84532",
            "assetSymbol": "USDC", "born": 0,
        })
    };
    json!({
        "format": 1,
        "generation": generation,
        "hash": "0x00",
        "settings": {},
        "facilitator": {
            "cluster": "facilitator", "authority": "facilitator.test", "pathPrefix": "",
            "verifyTimeoutMs": 5000, "settleTimeoutMs": 60000, "ready": true, "relay": false,
        },
        "tuples": [tuple("paid"), tuple("other"), tuple("upfront")],
        "routes": [
            route("/paid/*", "paid", "paid", vec![option(0, "1000", "authorization")]),
            route("/other/*", "paid", "other", vec![option(1, "1000", "authorization")]),
            route("/upfront/*", "paid", "upfront", vec![option(2, "2500", "upfront")]),
            route("/free/*", "free", "", vec![]),
            route("/broken/*", "blocked", "broken", vec![]),
        ],
        "protected": ["/paid", "/other", "/upfront", "/broken"],
    })
}

/// The tuple of an offer.
pub(crate) fn tuple(offer: &str) -> Tuple {
    Tuple {
        offer_namespace: "shop".to_owned(),
        offer_name: offer.to_owned(),
        chain: "eip155:84532".to_owned(),
        asset_symbol: "USDC".to_owned(),
        born: 0,
    }
}

/// A settle reply that says yes.
pub(crate) fn settled() -> Value {
    json!({ "success": true, "transaction": TRANSACTION, "network": "eip155:84532" })
}

/// A settle reply that says that nothing moved, with a reason; as a first reply it ends the payment.
pub(crate) fn refused() -> Value {
    json!({
        "success": false, "errorReason": "insufficient_funds", "transaction": "", "network": "eip155:84532",
    })
}

/// The JSON of a base64 header.
pub(crate) fn decode(value: &str) -> Value {
    let bytes = farebox_core::protocol::decode_base64(value.as_bytes()).expect("the header is base64");
    serde_json::from_slice(&bytes).expect("the header holds JSON")
}

/// The body of a response as JSON.
pub(crate) fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("the body is JSON")
}

// === impl Shop ===

impl Shop {
    /// A shop on two workers.
    pub(crate) fn open() -> Self {
        Self::with_rules(&rules(GENERATION), 2)
    }

    pub(crate) fn with_rules(rules: &Value, workers: usize) -> Self {
        Self::with_push(&rules.to_string(), workers)
    }

    pub(crate) fn with_push(push: &str, workers: usize) -> Self {
        let envoy = Envoy::new(workers);
        envoy.configure(push).expect_taken();
        Self { envoy, buyer: Wallet::numbered(1) }
    }

    /// The terms of a path.
    pub(crate) fn offer(&self, path: &str) -> Value {
        let response = self.envoy.send(0, Request::get(path)).expect_response(402);
        let challenge = response.headers.get("payment-required").expect("a 402 carries a challenge");
        decode(&challenge)["accepts"][0].clone()
    }

    /// A payment with the terms of a path; equal numbers make equal payments.
    pub(crate) fn payment(&self, path: &str, number: u64) -> Value {
        let window = Window::numbered(number, self.envoy.now(), VALIDITY);
        self.buyer.pay_v2(&self.offer(path), window).expect("the offer can be paid")
    }

    /// The header of [`Shop::payment`].
    pub(crate) fn header(&self, path: &str, number: u64) -> String {
        header_value(&self.payment(path, number))
    }

    /// Sends a request with a payment header.
    pub(crate) fn send_paid(&self, worker: usize, path: &str, header: &str) -> Stream<'_> {
        self.envoy.send(worker, Request::get(path).header("payment-signature", header))
    }

    /// A paid request that is verified and at the upstream.
    pub(crate) fn at_upstream(&self, worker: usize, path: &str, header: &str) -> Stream<'_> {
        let stream = self.send_paid(worker, path, header);
        stream.expect_callout("/verify").replies(200, verified().to_string());
        stream.expect_forwarded();
        stream
    }

    /// A request paid upfront that is verified, settled and at the upstream.
    pub(crate) fn settled_first(&self, worker: usize, path: &str, header: &str) -> Stream<'_> {
        let stream = self.send_paid(worker, path, header);
        settle_first(&stream);
        stream.expect_forwarded();
        stream
    }

    /// A request whose payment is charged and owed: its answer is served without a call.
    pub(crate) fn redeemed(&self, worker: usize, path: &str, header: &str) -> Stream<'_> {
        let stream = self.send_paid(worker, path, header);
        stream.expect_forwarded();
        stream
    }

    /// A paid request from head to the last byte of its body.
    pub(crate) fn serve(&self, worker: usize, path: &str, header: &str) -> Response {
        let stream = self.at_upstream(worker, path, header);
        stream.upstream_answers(200, &[]);
        stream.expect_callout("/settle").replies(200, settled().to_string());
        stream.body_ends();
        stream.expect_response(200)
    }

    /// The payments in shared data: every bucket that holds one.
    pub(crate) fn payments(&self) -> BTreeMap<String, Vec<u8>> {
        let mut buckets = self.envoy.shared_data(PAYMENTS);
        // An empty bucket still has its version byte.
        buckets.retain(|_, bucket| bucket.len() > 1);
        buckets
    }

    /// A counter of an offer.
    #[track_caller]
    pub(crate) fn count(&self, offer: &str, counter: TupleCounter) -> u64 {
        self.of(&MetricSeries::Tuple(tuple(offer), counter))
    }

    /// Refused payments of an offer by reason.
    #[track_caller]
    pub(crate) fn failed(&self, offer: &str, reason: FailureReason) -> u64 {
        self.count(offer, TupleCounter::PaymentFailed(reason))
    }

    /// Charges of an offer at an amount.
    #[track_caller]
    pub(crate) fn charged(&self, offer: &str, amount: u64) -> u64 {
        self.of(&MetricSeries::Charged(tuple(offer), farebox_core::evm::Amount::from_u64(amount)))
    }

    /// The companion's count of a series.
    #[track_caller]
    pub(crate) fn of(&self, series: &MetricSeries) -> u64 {
        self.envoy.counted().get(series).copied().unwrap_or(0)
    }

    /// Every counter of an offer above zero, as short text, so that a test compares all of them.
    pub(crate) fn counted(&self, offer: &str) -> Vec<(String, u64)> {
        let counted = self.envoy.counted();
        let count = |counter| counted.get(&MetricSeries::Tuple(tuple(offer), counter)).copied().unwrap_or(0);
        let mut all: Vec<_> =
            TupleCounter::all().map(|c| (format!("{c:?}"), count(c))).filter(|(_, n)| *n > 0).collect();
        all.sort();
        all
    }
}

/// Has a request verified and settled before the upstream sees it.
pub(crate) fn settle_first(stream: &Stream<'_>) {
    say(stream.expect_callout("/verify"), &verified());
    say(stream.expect_callout("/settle"), &settled());
}

/// A verify reply that says yes.
pub(crate) fn verified() -> Value {
    json!({ "isValid": true })
}

/// Answers a callout with JSON and 200.
pub(crate) fn say(callout: Callout<'_>, reply: &Value) {
    callout.replies(200, reply.to_string());
}

/// The counters given, sorted as [`Shop::counted`] has them.
pub(crate) fn counters(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    let mut all: Vec<_> = expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    all.sort();
    all
}
