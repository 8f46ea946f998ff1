//! A running stack with the test's own rules, and common questions to it.

use std::time::{Duration, Instant};

use farebox_testkit::stack::{Options, Scrape, Stack};

use crate::reload::buyer::Buyer;

/// The promise of a reload: from the change of the file to the last trace of what it removed.
pub(crate) const BOUND: Duration = Duration::from_secs(2);
/// How long anything else may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is checked.
const LOOK: Duration = Duration::from_millis(20);

/// A stack, and the generation it enforces.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) stack: Stack,
    pub(crate) generation: u64,
}

// === impl Stage ===

impl Stage {
    /// Starts a stack with these prices.
    pub(crate) async fn start(pricing: &str) -> Self {
        Self::with(Options::priced(pricing)).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let stack = Stack::start(options).await.unwrap();
        let generation = stack.enforced().await.unwrap().unwrap();
        Self { stack, generation }
    }

    pub(crate) fn buyer(&self) -> Buyer {
        Buyer::new(self.stack.proxy_url())
    }

    /// Changes the pricing file and waits until Envoy enforces it.
    pub(crate) async fn reload(&mut self, pricing: &str) {
        self.stack.rewrite_pricing(pricing).unwrap();
        self.reloaded().await;
    }

    /// Waits until both workers enforce newer rules than before.
    pub(crate) async fn reloaded(&mut self) {
        let later = self.stack.later_generation(self.generation).await;
        self.generation = later.map_err(|error| self.stack.explain(error)).unwrap();
    }

    pub(crate) async fn page(&self) -> Scrape {
        self.stack.metrics().await.unwrap()
    }

    /// The metrics once the proxy has reported what it has counted by now.
    pub(crate) async fn counted(&self) -> Scrape {
        self.stack.counted().await.unwrap()
    }

    /// How often the origin was asked for a path.
    pub(crate) fn hits(&self, path: &str) -> u64 {
        self.stack.origin().unwrap().hits().of(path)
    }

    /// Waits for a condition.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        self.within(PATIENCE, what, holds).await;
    }

    /// Waits for a condition that must come true within a limit.
    pub(crate) async fn within(&self, limit: Duration, what: &str, holds: impl AsyncFn() -> bool) {
        let started = Instant::now();
        loop {
            if holds().await {
                return;
            }
            assert!(started.elapsed() < limit, "waited {limit:?} in vain until {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A counter of Envoy's own.
    pub(crate) async fn envoy_counter(&self, name: &str) -> u64 {
        self.stack.envoy_stats(&format!("^{name}$")).await.unwrap().into_values().sum()
    }
}
