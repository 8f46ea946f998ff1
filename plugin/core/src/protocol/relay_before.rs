//! The words of the relay before [`super::RelayReply`], until the exchange speaks those.

/// Header: one use of a payment by that proxy, so that news of its end cannot be taken for that of the next.
pub const RELAY_ATTEMPT: &str = "x-farebox-attempt";

/// Why a relay refuses to verify, as `invalidReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayRefusal {
    /// Another proxy is using the payment.
    InFlight,
    /// It has bought its answer at another proxy.
    Used,
    /// It may have been settled; nobody knows yet.
    Unknown,
    /// The ledger cannot be written.
    Unavailable,
}

// === impl RelayRefusal ===

impl RelayRefusal {
    const ALL: [Self; 4] = [Self::InFlight, Self::Used, Self::Unknown, Self::Unavailable];

    /// The code on the wire.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InFlight => "farebox_payment_in_flight",
            Self::Used => "farebox_payment_used",
            Self::Unknown => "farebox_settlement_unknown",
            Self::Unavailable => "farebox_ledger_unavailable",
        }
    }
    /// The refusal with this code.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}
