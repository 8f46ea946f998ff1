//! Whether the ledger works, for readiness and log.

use tracing::{error, info};

use super::LedgerError;

/// How the ledger is. Whoever uses it notes that here.
#[derive(Debug, Default)]
pub struct LedgerHealth {
    /// Proxies call the facilitator themselves, and each keeps its payments.
    pub settles_direct: bool,
    /// Why the ledger cannot be used; `None` while it can, or if there is none.
    pub error: Option<String>,
    /// That the ledger's database was seen to go back, if it was.
    pub went_back: Option<String>,
}

// === impl LedgerHealth ===

impl LedgerHealth {
    /// The ledger failed: for readiness, and once for the log, where `so` says what follows from it.
    pub fn fails(&mut self, error: &LedgerError, so: &str) {
        let error = error.to_string();
        if self.error.as_ref() != Some(&error) {
            error!("{error}{so}");
            self.error = Some(error);
        }
    }

    /// The ledger was written. What could only be read says nothing of that.
    pub fn works(&mut self) {
        if self.error.take().is_some() {
            info!("the ledger works again");
        }
    }

    /// The ledger could be opened at last.
    pub fn is_open(&mut self) {
        if self.error.take().is_some() {
            info!("the ledger is open");
        }
    }
}
