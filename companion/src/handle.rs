//! What a part of the companion hands out to those that start after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of one part.
///
/// Who holds several locks at once takes them in the order in which the parts start, and that of what is counted, which
/// pages of metrics and reports hold for long, before all others.
#[derive(Debug, Default)]
pub struct Handle<T>(Arc<Mutex<T>>);

// === impl Handle ===

impl<T> Handle<T> {
    /// A handle of this state.
    pub fn new(state: T) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// Locks it. Never held across an await or a write to a file.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
