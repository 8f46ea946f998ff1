//! The payments requests come with.

use anyhow::{Context, Result};
use farebox_testkit::stack::Stack;
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::{Value, json};

/// Longer than any measurement takes, in seconds.
const VALID: u64 = 86_400;

/// Payments for one offer.
pub(super) struct Purse {
    payer: Wallet,
    offer: Value,
}

// === impl Purse ===

impl Purse {
    /// For what a path asks.
    pub(super) async fn of(stack: &Stack, path: &str) -> Result<Self> {
        let challenge = stack.challenge(path).await?;
        Ok(Self { payer: Wallet::development(), offer: challenge["accepts"][0].clone() })
    }

    /// Payments as good as any, each another one.
    pub(super) fn good(&self, count: usize) -> Result<Vec<String>> {
        (0..count).map(|_| Ok(header_value(&self.payment()?))).collect()
    }

    /// One whose signature is somebody's, but not the payer's. Nothing else is wrong with it.
    pub(super) fn forged(&self) -> Result<String> {
        self.spoiled("nonce", json!(format!("0x{}", "07".repeat(32))))
    }

    /// One refused at the last of the checks that come before the signature.
    pub(super) fn underpaid(&self) -> Result<String> {
        self.spoiled("value", json!("1"))
    }

    fn payment(&self) -> Result<Value> {
        Ok(self.payer.pay_v2(&self.offer, Window::fresh(VALID))?)
    }

    fn spoiled(&self, member: &str, value: Value) -> Result<String> {
        let mut payment = self.payment()?;
        let place = format!("/payload/authorization/{member}");
        *payment.pointer_mut(&place).with_context(|| format!("a payment has no {place}"))? = value;
        Ok(header_value(&payment))
    }
}
