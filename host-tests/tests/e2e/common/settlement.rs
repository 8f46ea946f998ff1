//! Which program settles in a test.

use serde_json::{Value, json};

/// Which program settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The companion, which then counts the money.
    Relay,
    /// The proxy, which then counts the money.
    Direct,
}

// === impl Settlement ===

impl Settlement {
    /// Of two expectations, the one for this settlement.
    pub(crate) fn pick<T>(self, relay: T, direct: T) -> T {
        match self {
            Self::Relay => relay,
            Self::Direct => direct,
        }
    }

    /// `facilitator:` settings with deadlines in milliseconds.
    pub(crate) fn settings(self, verify_ms: u128, settle_ms: u128) -> Value {
        json!({ "facilitator": {
            "settlement": self.pick("relay", "direct"),
            "verifyTimeout": format!("{verify_ms}ms"),
            "settleTimeout": format!("{settle_ms}ms"),
        } })
    }
}
