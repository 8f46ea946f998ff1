//! Payments for the routes of a stack.

use anyhow::Result;
use farebox_testkit::stack::Stack;
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::Value;

use super::raw::{Answer, Request};

/// A signed payment of one route's first offer.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    /// The payment as JSON, which a test may change.
    pub(crate) json: Value,
    /// Its nonce, 0x-hex, which is its key in the facilitator's ledger.
    pub(crate) nonce: String,
}

// === impl Payment ===

impl Payment {
    /// Asks for the challenge of a path (one request to it) and signs its first offer with a fresh nonce.
    pub(crate) async fn of(stack: &Stack, path: &str) -> Result<Self> {
        let offer = stack.challenge(path).await?["accepts"][0].take();
        Ok(Self::sign(&offer))
    }

    /// Signs an offer with a fresh nonce.
    pub(crate) fn sign(offer: &Value) -> Self {
        let json = Wallet::development().pay_v2(offer, Window::fresh(300)).expect("a usable offer");
        let nonce = json["payload"]["authorization"]["nonce"].as_str().expect("a text").to_owned();
        Self { json, nonce }
    }

    /// The header value.
    pub(crate) fn header(&self) -> String {
        header_value(&self.json)
    }

    /// A GET that carries it.
    pub(crate) fn request(&self, path: &str) -> Request {
        Request::get(path).header("payment-signature", self.header())
    }

    /// Sends it for a path of a stack, without blocking the test's other tasks.
    pub(crate) async fn send(&self, stack: &Stack, path: &str) -> Answer {
        let (request, to) = (self.request(path), stack.proxy_address());
        tokio::task::spawn_blocking(move || request.send(to)).await.expect("the request came to an end")
    }
}
