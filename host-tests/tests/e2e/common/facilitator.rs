//! The controls of the development facilitator.

use farebox_testkit::stack::Stack;
use reqwest::Client;
use serde_json::{Value, json};

/// A development facilitator, by its `/dev` endpoints.
#[derive(Debug, Clone)]
pub(crate) struct DevFacilitator {
    url: String,
    client: Client,
}

// === impl DevFacilitator ===

impl DevFacilitator {
    /// That of a stack.
    pub(crate) fn of(stack: &Stack) -> Self {
        Self::at(stack.facilitator_url(), stack.client())
    }

    /// Another one.
    pub(crate) fn at(url: String, client: &Client) -> Self {
        Self { url, client: client.clone() }
    }

    /// Makes one endpoint (`verify`, `settle`, `supported`) fail in a named way; `none` ends that.
    pub(crate) async fn fail(&self, endpoint: &str, mode: &str) {
        self.order(&json!({ endpoint: mode })).await;
    }

    /// Makes the next calls of one endpoint fail in a named way.
    pub(crate) async fn fail_next(&self, endpoint: &str, mode: &str, count: u64) {
        self.order(&json!({ endpoint: mode, "count": count })).await;
    }

    /// Makes the next calls of one endpoint fail in a named way, and all after them in another.
    pub(crate) async fn fail_then(&self, endpoint: &str, mode: &str, count: u64, then: &str) {
        self.order(&json!({ endpoint: mode, "count": count, "then": then })).await;
    }

    /// How often a nonce was settled: the truth about money.
    pub(crate) async fn settled(&self, nonce: &str) -> usize {
        self.settled_payments().await.iter().filter(|payment| payment["nonce"] == nonce).count()
    }

    /// Every settled payment.
    pub(crate) async fn settled_payments(&self) -> Vec<Value> {
        self.record().await["settled"].as_array().expect("a list").clone()
    }

    /// The operations of every call since the start, in their order.
    pub(crate) async fn operations(&self) -> Vec<String> {
        let record = self.record().await;
        let calls = record["calls"].as_array().expect("a list");
        let payments = calls.iter().filter(|call| call["operation"] != "supported");
        payments.map(|call| call["operation"].as_str().expect("a text").to_owned()).collect()
    }

    /// How many calls of an endpoint there were.
    pub(crate) async fn calls(&self, operation: &str) -> u64 {
        self.operations().await.iter().filter(|made| *made == operation).count() as u64
    }

    /// The bodies of every settle call, byte for byte.
    pub(crate) async fn settle_bodies(&self) -> Vec<String> {
        self.bodies("settle").await
    }

    /// The bodies of every call of an endpoint, byte for byte.
    pub(crate) async fn bodies(&self, operation: &str) -> Vec<String> {
        let record = self.record().await;
        let calls = record["calls"].as_array().expect("a list");
        let calls = calls.iter().filter(|call| call["operation"] == operation);
        calls.map(|call| call["body"].as_str().expect("a text").to_owned()).collect()
    }

    async fn order(&self, what: &Value) {
        let request = self.client.post(format!("{}/dev/fail", self.url)).body(what.to_string());
        let answer = request.send().await.expect("the facilitator answers");
        assert!(answer.status().is_success(), "{what}");
    }

    /// Every call so far, and every settled payment.
    pub(crate) async fn record(&self) -> Value {
        let answer = self.client.get(format!("{}/dev/record", self.url)).send().await;
        let bytes = answer.expect("the facilitator answers").bytes().await.expect("a body");
        serde_json::from_slice(&bytes).expect("the record is JSON")
    }
}
