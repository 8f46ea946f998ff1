//! What a ledger is opened with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farebox_core::payment::Leases;

/// How long a ledger keeps what.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// How long requests may hold payments.
    pub leases: Leases,
    /// How long payments that are over are kept, and those whose outcome cannot be found out.
    pub retention: Duration,
    /// Whose time counts.
    pub clock: Clock,
}

/// The clock of leases and records.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// A server's own, since several companions share it; for a file the machine's.
    #[default]
    Own,
    /// Unix milliseconds that somebody else sets: for tests and simulations.
    Set(Arc<AtomicU64>),
}

/// A proxy holds a payment at most this long before it settles it, and again until its answer is out.
const HOLD_MS: u64 = 600_000;
/// A settle call of 60 s with its repeat, and some slack.
const SETTLE_MS: u64 = 130_000;
const RETENTION: Duration = Duration::from_secs(90 * 86_400);

// === impl LedgerOptions ===

impl Default for LedgerOptions {
    fn default() -> Self {
        let leases = Leases { hold_ms: HOLD_MS, settle_ms: SETTLE_MS };
        Self { leases, retention: RETENTION, clock: Clock::Own }
    }
}

// === impl Clock ===

impl Clock {
    /// What it was set to, if it is one that is.
    pub(super) fn set_to(&self) -> Option<u64> {
        match self {
            Self::Own => None,
            Self::Set(unix_ms) => Some(unix_ms.load(Ordering::Relaxed)),
        }
    }
}
