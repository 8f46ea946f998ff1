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

/// The longest settle call that is made if nothing else is said.
const SETTLE: Duration = Duration::from_secs(60);
const RETENTION: Duration = Duration::from_secs(90 * 86_400);

// === impl LedgerOptions ===

impl LedgerOptions {
    /// Those for settle calls of this length at most, each of which may be repeated once.
    pub fn settling(deadline: Duration) -> Self {
        let leases = Leases::of_timeout(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        Self { leases, retention: RETENTION, clock: Clock::Own }
    }
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self::settling(SETTLE)
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
