//! Renewals of a reservation: a request that takes longer than a lease keeps its payment by them.

use std::time::Duration;

use tokio::task::AbortHandle;

/// Renews a reservation at intervals, until this is dropped.
#[derive(Debug)]
pub(super) struct Going(AbortHandle);

// === impl Going ===

impl Going {
    pub(super) fn start<F: Future<Output = ()> + Send>(
        every: Duration,
        mut tell: impl FnMut() -> F + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                tell().await;
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_sign_of_life_comes_again_and_again_and_none_after_the_end() {
        let told = Arc::new(AtomicU32::new(0));
        let count = told.clone();
        let going = Going::start(Duration::from_millis(20), move || {
            let count = count.clone();
            async move { _ = count.fetch_add(1, Ordering::Relaxed) }
        });
        crate::testing::eventually("it came thrice", || told.load(Ordering::Relaxed) >= 3).await;
        drop(going);
        let last = told.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
        // One renewal may have been under way.
        assert!(told.load(Ordering::Relaxed) <= last + 1);
    }
}
