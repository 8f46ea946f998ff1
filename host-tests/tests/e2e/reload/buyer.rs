//! A buyer that sends requests and pays, over one connection.

use std::time::Duration;

use anyhow::{Context, Result};
use farebox_core::protocol::decode_base64;
use farebox_testkit::wallet::{Wallet, Window, header_value};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Longest time of a request in these tests.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a payment is valid.
const VALID_SECONDS: u64 = 300;

/// A buyer with a connection of its own.
#[derive(Debug, Clone)]
pub(crate) struct Buyer {
    client: reqwest::Client,
    proxy: String,
    payer: Wallet,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

// === impl Buyer ===

impl Buyer {
    /// A buyer at this proxy.
    pub(crate) fn new(proxy: String) -> Self {
        let client = farebox_testkit::http::client_builder()
            .pool_max_idle_per_host(1)
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { client, proxy, payer: Wallet::development() }
    }

    /// Sends a request without a payment.
    pub(crate) async fn ask(&self, path: &str) -> Result<Reply> {
        Reply::read(self.client.get(format!("{}{path}", self.proxy)).send().await?).await
    }

    /// The terms of a path: the first entry of its challenge.
    pub(crate) async fn terms(&self, path: &str) -> Result<Value> {
        let reply = self.ask(path).await?;
        reply.terms().with_context(|| format!("{path}: {} without terms", reply.status))
    }

    /// A payment for these terms, never made before, as a header value.
    pub(crate) fn sign(&self, terms: &Value) -> String {
        header_value(&self.payer.pay_v2(terms, Window::fresh(VALID_SECONDS)).unwrap())
    }

    /// Sends a request with a new payment for these terms.
    pub(crate) async fn pay(&self, path: &str, terms: &Value) -> Result<Reply> {
        Reply::read(self.send_paid(path, &self.sign(terms)).await?).await
    }

    /// Sends a request with a payment and returns when the response has begun.
    pub(crate) async fn send_paid(&self, path: &str, payment: &str) -> Result<reqwest::Response> {
        let request = self.client.get(format!("{}{path}", self.proxy));
        Ok(request.header("payment-signature", payment).send().await?)
    }
}

// === impl Reply ===

impl Reply {
    /// Reads a response to its end.
    pub(crate) async fn read(response: reqwest::Response) -> Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("the body of a {status} breaks off"))?;
        Ok(Self { status, headers, body: body.to_vec() })
    }

    /// The first offered option of a challenge.
    pub(crate) fn terms(&self) -> Option<Value> {
        Some(decoded(&self.headers, "payment-required")?["accepts"][0].clone())
            .filter(|terms| !terms.is_null())
    }

    /// Why a buyer with a payment got a challenge.
    pub(crate) fn failure(&self) -> Option<String> {
        let challenge = decoded(&self.headers, "payment-required")?;
        challenge["extensions"]["paymentFailure"]["reason"].as_str().map(str::to_owned)
    }

    /// Whether the response proves a settlement.
    pub(crate) fn is_settled(&self) -> bool {
        decoded(&self.headers, "payment-response").is_some_and(|receipt| receipt["success"] == true)
    }

    /// `reason` of an error body.
    pub(crate) fn reason(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body["reason"].as_str().map(str::to_owned)
    }
}

fn decoded(headers: &HeaderMap, name: &str) -> Option<Value> {
    serde_json::from_slice(&decode_base64(headers.get(name)?.as_bytes()).ok()?).ok()
}
