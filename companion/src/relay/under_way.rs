//! The settle calls this companion is making, so that the reconciliation does not ask about one of them, and the
//! end of the companion waits for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farebox_core::payment::PaymentKey;
use tokio::sync::mpsc;

/// The register.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    calls: Calls,
    open: mpsc::Sender<()>,
}

/// One call, until this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    key: PaymentKey,
    calls: Calls,
    /// All calls are over when the receiver closes.
    _open: mpsc::Sender<()>,
}

type Calls = Arc<Mutex<HashMap<PaymentKey, usize>>>;

// === impl UnderWay ===

impl UnderWay {
    /// An empty register, and what tells when its calls are over after it is dropped.
    pub(super) fn new() -> (Self, mpsc::Receiver<()>) {
        let (open, over) = mpsc::channel(1);
        (Self { calls: Arc::default(), open }, over)
    }

    pub(super) fn begin(&self, key: &PaymentKey) -> Call {
        *lock(&self.calls).entry(key.clone()).or_default() += 1;
        Call { key: key.clone(), calls: self.calls.clone(), _open: self.open.clone() }
    }

    pub(super) fn holds(&self, key: &PaymentKey) -> bool {
        lock(&self.calls).contains_key(key)
    }
}

fn lock(calls: &Calls) -> MutexGuard<'_, HashMap<PaymentKey, usize>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Call ===

impl Drop for Call {
    fn drop(&mut self) {
        let mut calls = lock(&self.calls);
        if let Some(count) = calls.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.key);
            }
        }
    }
}
