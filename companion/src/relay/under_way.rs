//! The settle calls this companion is making, so that the reconciliation does not ask about one of them, and the
//! end of the companion waits for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farebox_core::payment::PaymentKey;
use tokio::sync::mpsc;

/// The register.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    calls: Arc<Mutex<HashMap<PaymentKey, usize>>>,
    /// Held by every call: all of them are over when the receiver closes.
    open: mpsc::Sender<()>,
}

/// One call, until this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    key: PaymentKey,
    of: UnderWay,
}

// === impl UnderWay ===

impl UnderWay {
    /// An empty register, and what tells when its calls are over after it is dropped.
    pub(super) fn new() -> (Self, mpsc::Receiver<()>) {
        let (open, over) = mpsc::channel(1);
        (Self { calls: Arc::default(), open }, over)
    }

    pub(super) fn begin(&self, key: &PaymentKey) -> Call {
        *self.calls().entry(key.clone()).or_default() += 1;
        Call { key: key.clone(), of: self.clone() }
    }

    pub(super) fn holds(&self, key: &PaymentKey) -> bool {
        self.calls().contains_key(key)
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<PaymentKey, usize>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Call ===

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = self.of.calls();
        if let Some(count) = calls.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.key);
            }
        }
    }
}
