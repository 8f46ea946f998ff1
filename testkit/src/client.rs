//! The public x402 client, `@x402/fetch`, run by Node: an independent implementation that has to be able
//! to pay. Its script is `testkit/node/pay.mjs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::node;

/// A purchase takes a start of Node, two requests and a settlement.
const DEADLINE: Duration = Duration::from_secs(90);

/// How the client pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Dialect {
    /// By version number: 2 is the library's default, 1 an older client that reads the 402 body and sends
    /// `X-PAYMENT`.
    Version(u8),
    /// See [`Dialect::V2_IN_X_PAYMENT`] and [`Dialect::X402_FETCH`].
    Named(&'static str),
}

/// What to buy, and how.
#[derive(Debug, Clone, Serialize)]
pub struct Purchase {
    /// What to buy.
    pub url: String,
    /// 0x-hex private key of the buyer; without one nothing is paid.
    pub key: Option<String>,
    /// How to pay.
    #[serde(rename = "version")]
    pub dialect: Dialect,
    /// HTTP method.
    pub method: String,
    /// More request headers.
    pub headers: BTreeMap<String, String>,
}

/// The result of a purchase.
#[derive(Debug, Clone, Deserialize)]
pub struct Bought {
    /// Status of the last answer.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The decoded receipt, `null` without one.
    pub receipt: Value,
    /// The body as text.
    pub body: String,
    /// Its parts as they arrived.
    pub chunks: Vec<Chunk>,
    /// The decoded challenge of the first answer, `null` if that was no 402 or had no header.
    pub challenge: Value,
    /// The payment header that was sent.
    pub payment: Option<PaymentHeader>,
}

/// One part of a body.
#[derive(Debug, Clone, Deserialize)]
pub struct Chunk {
    /// Milliseconds since the head of the answer.
    pub ms: u64,
    /// The text of it.
    pub text: String,
}

/// A header that carried a payment.
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentHeader {
    /// `PAYMENT-SIGNATURE` or `X-PAYMENT`.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The installed client.
#[derive(Debug, Clone)]
pub struct Client {
    script: PathBuf,
}

// === impl Dialect ===

impl Dialect {
    /// Protocol version 1, as in older clients.
    pub const V1: Self = Self::Version(1);
    /// Protocol version 2.
    pub const V2: Self = Self::Version(2);
    /// A version 2 payment in the `X-PAYMENT` header, as some buyers send it.
    pub const V2_IN_X_PAYMENT: Self = Self::Named("2-in-x-payment");
    /// The published library of version 1, npm `x402-fetch` 1.x.
    pub const X402_FETCH: Self = Self::Named("x402-fetch");
}

// === impl Purchase ===

impl Purchase {
    /// A GET of a URL, paid by version 2 with the publicly known development key.
    pub fn of(url: impl Into<String>) -> Self {
        let key: String = crate::wallet::DEVELOPMENT_KEY.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            url: url.into(),
            key: Some(format!("0x{key}")),
            dialect: Dialect::V2,
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
        }
    }

    /// The same in another dialect.
    pub fn speaking(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }
}

// === impl Client ===

impl Client {
    /// Installs its missing packages.
    pub fn install() -> Result<Self> {
        Ok(Self { script: node::script("pay")? })
    }

    /// Buys.
    pub async fn buy(&self, purchase: &Purchase) -> Result<Bought> {
        node::run(&self.script, &serde_json::to_string(purchase)?, DEADLINE, "the client").await
    }
}
