//! A buyer that writes its own payments.

use std::time::{Duration, Instant};

use farebox_core::protocol::decode_base64;
use farebox_testkit::http::client_builder;
use farebox_testkit::stack::Stack;
use farebox_testkit::wallet::{Wallet, Window, header_value};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

/// How long a payment is good for, seconds.
const LIFETIME: u64 = 300;
/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is checked.
const LOOK: Duration = Duration::from_millis(20);

/// The header of version 2 payments.
pub(crate) const PAYMENT: &str = "PAYMENT-SIGNATURE";
/// The header of version 1 payments.
pub(crate) const X_PAYMENT: &str = "X-PAYMENT";

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(crate) whole: bool,
}

/// Buys through the proxy. Every request has a connection of its own, so that the kernel spreads them over
/// the workers.
#[derive(Debug, Clone)]
pub(crate) struct Buyer {
    client: Client,
    url: String,
    payer: Wallet,
}

// === impl Answer ===

impl Answer {
    /// Sends a request and reads the whole answer.
    pub(crate) async fn to(request: RequestBuilder) -> Self {
        let mut response = request.send().await.expect("the proxy answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Self { status, headers, body, whole: true },
                Err(_) => return Self { status, headers, body, whole: false },
            }
        }
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers here are ASCII"))
    }

    /// A header that holds base64 of JSON.
    pub(crate) fn decoded(&self, name: &str) -> Option<Value> {
        self.header(name).map(decode)
    }

    /// The body as JSON, `null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `success` of the receipt; both receipt headers say the same.
    pub(crate) fn receipt(&self) -> Option<bool> {
        assert_eq!(self.header("payment-response"), self.header("x-payment-response"));
        self.decoded("payment-response").map(|receipt| receipt["success"].as_bool().expect("a receipt"))
    }
}

// === impl Buyer ===

impl Buyer {
    pub(crate) fn new(stack: &Stack, payer: Wallet) -> Self {
        let client = client_builder().pool_max_idle_per_host(0).build().expect("a client needs nothing");
        Self { client, url: stack.proxy_url(), payer }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.request(Method::GET, path)
    }

    /// The entries of `accepts` of the challenge of a path. Counts as an unpaid request.
    pub(crate) async fn offers(&self, path: &str) -> Vec<Value> {
        let answer = Answer::to(self.get(path)).await;
        assert_eq!(answer.status, 402, "{path}");
        let challenge = answer.decoded("payment-required").expect("a 402 has a challenge");
        challenge["accepts"].as_array().expect("a challenge has offers").clone()
    }

    /// A new version 2 payment of an offer.
    pub(crate) fn payment(&self, offer: &Value) -> Value {
        self.payer.pay_v2(offer, Window::fresh(LIFETIME)).expect("the offer can be paid")
    }

    /// A payment of other terms than those of the offer it names.
    pub(crate) fn payment_of(&self, offer: &Value, signed: &Value) -> Value {
        let mut payment = self.payment(signed);
        payment["accepted"] = offer.clone();
        payment
    }

    /// Asks for a path with a payment.
    pub(crate) async fn pay(&self, path: &str, payment: &Value) -> Answer {
        Answer::to(self.get(path).header(PAYMENT, header_value(payment))).await
    }
}

/// How many client connections each of the two workers has had.
pub(crate) async fn connections_by_worker(stack: &Stack) -> [u64; 2] {
    let listener = stack.proxy_address().to_string().replace(':', "_");
    let counters = stack.envoy_stats("worker_.*downstream_cx_total").await.expect("Envoy answers");
    ["worker_0", "worker_1"].map(|worker| {
        let mut found = counters.iter().filter(|(name, _)| name.contains(&listener) && name.contains(worker));
        *found.next().unwrap_or_else(|| panic!("no connections of {worker} in {counters:?}")).1
    })
}

/// Base64 of JSON.
pub(crate) fn decode(value: &str) -> Value {
    let json = decode_base64(value.as_bytes()).expect("the value is base64");
    serde_json::from_slice(&json).expect("the value holds JSON")
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is after 1970").as_secs()
}
