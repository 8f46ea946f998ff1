//! Stepping payments.

use farebox_core::payment::{Event, PaymentKey, Resolution};

use super::{Ledger, LedgerError, Sale, Stepped};

// === impl Ledger ===

impl Ledger {
    /// Steps a payment; returns once the step is on disk. `sale` is for claims, and for the end of a settle call,
    /// which may have to make a record. `facilitator` is written down if there is none yet and the step changes
    /// the record: who vouched, or the first candidate of a call. The ledger finds the twin of a claim itself.
    pub async fn step(
        &self,
        _key: &PaymentKey,
        _event: Event,
        _sale: Option<&Sale>,
        _facilitator: Option<&str>,
    ) -> Result<Stepped, LedgerError> {
        Err(LedgerError::Closed)
    }

    /// Steps a payment without waiting. The order per key is kept; a failure is logged, and the step tried again.
    pub fn note(&self, _key: &PaymentKey, _event: Event, _facilitator: Option<&str>) {}

    /// Keys the reconciliation has to look at now, oldest first: see [`farebox_core::payment::due`].
    pub async fn due(&self, _limit: u32) -> Result<Vec<PaymentKey>, LedgerError> {
        Err(LedgerError::Closed)
    }

    /// Removes what is over, in bounded batches. Returns how many rows.
    pub async fn sweep(&self) -> Result<u64, LedgerError> {
        Err(LedgerError::Closed)
    }

    /// What an operator found out about a payment.
    pub async fn resolve(&self, key: &PaymentKey, resolution: Resolution) -> Result<Stepped, LedgerError> {
        self.step(key, Event::Resolve(resolution), None, None).await
    }
}
