//! The development facilitator, in this process or at an address, and calls that it accepts. An error of it fails
//! the test that uses it.

use std::time::Duration;

use farebox_core::evm::{Amount, Network, asset_by_symbol};
use farebox_dev_facilitator::{Connection, CuttableListener, Facilitator, router};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::http::client_builder;
use crate::stack::Stack;
use crate::wallet::{Wallet, Window};

/// What every payer owns of every asset in a facilitator of this process, in atomic units.
const BALANCE: u64 = 1_000_000;
/// The longest a call to it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Unix seconds of the year 2100.
const FAR: u64 = 4_102_444_800;

/// A development facilitator, by its `/dev` endpoints.
#[derive(Debug, Clone)]
pub struct DevFacilitator {
    url: String,
    client: Client,
}

// === impl DevFacilitator ===

impl DevFacilitator {
    /// Starts one in this process, which ends with the runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let app = router(Facilitator::new(Amount::from_u64(BALANCE), []));
        let app = app.into_make_service_with_connect_info::<Connection>();
        tokio::spawn(async move { axum::serve(CuttableListener(listener), app).await });
        let client = client_builder().timeout(PATIENCE).build().expect("a client needs nothing");
        Self { url: format!("http://{address}"), client }
    }

    /// The development facilitator of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self::at(stack.facilitator_url(), stack.client())
    }

    /// The development facilitator at an address.
    pub fn at(url: String, client: &Client) -> Self {
        Self { url, client: client.clone() }
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes one endpoint (`verify`, `settle`, `supported`) fail in a named way; `none` ends that.
    pub async fn fail(&self, endpoint: &str, mode: &str) {
        self.order(&json!({ endpoint: mode })).await;
    }

    /// Makes the next calls of one endpoint fail in a named way.
    pub async fn fail_next(&self, endpoint: &str, mode: &str, count: u64) {
        self.order(&json!({ endpoint: mode, "count": count })).await;
    }

    /// Makes the next calls of one endpoint fail in a named way, and all after them in another.
    pub async fn fail_then(&self, endpoint: &str, mode: &str, count: u64, then: &str) {
        self.order(&json!({ endpoint: mode, "count": count, "then": then })).await;
    }

    /// How often a nonce was settled: the truth about money.
    pub async fn settled(&self, nonce: &str) -> usize {
        self.settled_payments().await.iter().filter(|payment| payment["nonce"] == nonce).count()
    }

    /// Every settled payment.
    pub async fn settled_payments(&self) -> Vec<Value> {
        self.record().await["settled"].as_array().expect("a list").clone()
    }

    /// The operations of every call about a payment since the start, in their order.
    pub async fn operations(&self) -> Vec<String> {
        let record = self.record().await;
        let calls = record["calls"].as_array().expect("a list");
        let payments = calls.iter().filter(|call| call["operation"] != "supported");
        payments.map(|call| call["operation"].as_str().expect("a text").to_owned()).collect()
    }

    /// How many calls of an endpoint there were.
    pub async fn calls(&self, operation: &str) -> u64 {
        self.bodies(operation).await.len() as u64
    }

    /// The bodies of every call of an endpoint, byte for byte.
    pub async fn bodies(&self, operation: &str) -> Vec<String> {
        let record = self.record().await;
        let calls = record["calls"].as_array().expect("a list");
        let calls = calls.iter().filter(|call| call["operation"] == operation);
        calls.map(|call| call["body"].as_str().expect("a text").to_owned()).collect()
    }

    /// Every call so far, and every settled payment.
    pub async fn record(&self) -> Value {
        let answer = self.client.get(format!("{}/dev/record", self.url)).send().await;
        let bytes = answer.expect("the facilitator answers").bytes().await.expect("a body");
        serde_json::from_slice(&bytes).expect("the record is JSON")
    }

    /// Posts to an endpoint. Returns the status and the body.
    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Result<(u16, String)> {
        let response = self.client.post(format!("{}{path}", self.url)).body(body.to_string()).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// Makes endpoints fail, by the members of a call to `/dev/fail`.
    pub async fn order(&self, what: &Value) {
        let (status, answer) = self.post("/dev/fail", what).await.expect("the facilitator answers");
        assert_eq!(status, 200, "{what}: {answer}");
    }
}

/// The body of a call for a v2 payment of `amount` atomic USDC on Base Sepolia.
pub fn payment_call(amount: u64, nonce: u8, pay_to: &str) -> Value {
    let window = Window { valid_after: 0, valid_before: FAR, nonce: [nonce; 32] };
    call(amount, pay_to, window, json!({ "name": "USDC", "version": "2" }))
}

/// The same for an `upfront` route, which refuses payments with a long window.
pub fn upfront_call(amount: u64, nonce: u8, pay_to: &str) -> Value {
    let window = Window { nonce: [nonce; 32], ..Window::fresh(600) };
    call(amount, pay_to, window, json!({ "name": "USDC", "version": "2", "paymentFlow": "upfront" }))
}

fn call(amount: u64, pay_to: &str, window: Window, extra: Value) -> Value {
    let network = Network::from_caip2("eip155:84532").expect("a chain");
    let requirements = json!({
        "scheme": "exact",
        "network": network,
        "amount": amount.to_string(),
        "asset": asset_by_symbol(&network, "USDC").expect("the chain has USDC").address,
        "payTo": pay_to,
        "maxTimeoutSeconds": 60,
        "extra": extra,
    });
    let payment = Wallet::development().pay_v2(&requirements, window).expect("the offer can be paid");
    json!({ "x402Version": 2, "paymentPayload": payment, "paymentRequirements": requirements })
}
