//! The handle by which a part of the companion shares its state with later parts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The state of one part.
///
/// A task that holds several locks takes them in the order in which the parts start. The lock of the counts comes
/// before all others, because metrics and reports hold it for long.
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
