//! One line in the log for everything that happens to money.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farebox_core::payment::{Claim, Holder, PaymentKey};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Relay;
use super::order::Order;

/// What a line says beside what happened.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    offer: String,
    payer: String,
    nonce: String,
    amount: String,
    proxy: String,
    holder: String,
    began: Instant,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    /// Money moved, and its buyer is told.
    Settled,
    /// Money moved, and nobody waited for it: the answer is owed.
    Late,
    /// No money moved.
    Refused,
    /// Nobody knows yet.
    Open,
    /// An owed answer is fetched.
    Redeemed,
}

/// Lines about one facilitator that strangers can bring about, so many in a window.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<HashMap<String, Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    lines: u32,
    left_out: u64,
}

const WINDOW: Duration = Duration::from_secs(60);
const LINES: u32 = 10;

// === impl Entry ===

impl Entry {
    pub(super) fn of(order: &Order, began: Instant) -> Self {
        let entry = Self::of_key(&order.key, order.claim.holder, began).of_claim(&order.claim);
        Self { proxy: order.sale.proxy.clone(), ..entry }
    }

    /// For a payment no request brings.
    pub(super) fn of_key(key: &PaymentKey, holder: Holder, began: Instant) -> Self {
        Self {
            offer: String::new(),
            payer: key.payer.to_string(),
            nonce: key.nonce.to_string(),
            amount: String::new(),
            proxy: "the reconciliation".to_owned(),
            holder: holder.to_string(),
            began,
        }
    }

    pub(super) fn of_claim(self, claim: &Claim) -> Self {
        Self { offer: claim.terms.offer.clone(), amount: claim.terms.amount.to_string(), ..self }
    }

    /// Writes the line.
    pub(super) fn write(&self, happening: Happening, transaction: Option<&str>, reason: &str) {
        let Self { offer, payer, nonce, amount, proxy, holder, began } = self;
        let ms = began.elapsed().as_millis();
        let transaction = transaction.unwrap_or_default();
        let what = happening.as_str();
        if happening == Happening::Open {
            return warn!(offer, payer, nonce, amount, transaction, proxy, holder, ms, reason, "{what}");
        }
        info!(offer, payer, nonce, amount, transaction, proxy, holder, ms, reason, "{what}");
    }
}

// === impl Happening ===

impl Happening {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Late => "settled, and nobody waited for it: the same payment fetches its answer",
            Self::Refused => "not settled, and nothing was charged",
            Self::Open => "it is not known yet whether money moved",
            Self::Redeemed => "an answer that was paid for is fetched",
        }
    }
}

// === impl Relay ===

impl Relay {
    /// Writes a line about a facilitator, unless there were many of late. `line` gets what to add about those that
    /// were left out.
    pub(super) fn quietly(&self, about: &str, line: impl FnOnce(&str)) {
        let Some(left_out) = self.quiet.admit(about, Instant::now()) else { return };
        if left_out == 0 {
            line("");
        } else {
            line(&format!(" ({left_out} such lines were left out before)"));
        }
    }
}

// === impl Quiet ===

impl Quiet {
    /// How many lines were left out before this one; `None` if this one is to be left out.
    fn admit(&self, about: &str, now: Instant) -> Option<u64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Window { began: now, lines: 0, left_out: 0 };
        let window = windows.entry(about.to_owned()).or_insert_with(fresh);
        if now.saturating_duration_since(window.began) >= WINDOW {
            *window = Window { left_out: window.left_out, ..fresh() };
        }
        if window.lines >= LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_ten_lines_a_minute_and_a_count() {
        let (quiet, start) = (Quiet::default(), Instant::now());
        let admitted = (0..100).filter(|_| quiet.admit("a", start).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(quiet.admit("b", start), Some(0), "another facilitator has its own lines");
        assert_eq!(quiet.admit("a", start + WINDOW), Some(90));
        assert_eq!(quiet.admit("a", start + WINDOW), Some(0));
    }
}
