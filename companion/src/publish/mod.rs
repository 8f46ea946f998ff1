//! Rules on their way to the proxies: rendered for Envoy, written atomically, and confirmed by each Envoy's own
//! counters. A resource is written once: what an Envoy refused is not offered to it again.

mod confirm;
mod ecds;
mod file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::rules::PushedRules;
use tokio::sync::watch;
use tracing::{error, info};

use crate::collect::Collector;
use crate::settings::EnvoySettings;
use crate::state::Shared;

pub use confirm::{ProxyState, PushState};
pub use ecds::{Published, last_published};

/// Rules ready to be pushed.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// What the filter reads.
    pub rules: Arc<PushedRules>,
    /// See [`crate::state::Active::swept`].
    pub swept: u64,
}

/// Writes publications for Envoy and waits for their confirmation.
#[derive(Debug)]
pub struct Publisher {
    wasm: String,
    path: PathBuf,
    state: Shared,
    collector: Arc<Collector>,
}

/// How often an Envoy is asked while a push is under way, and for how long. After that the collector's
/// ordinary readings confirm it.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(100);
const CONFIRM_ROUNDS: u32 = 50;
/// Pause before a failed write is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

// === impl Publication ===

impl Publication {
    /// Whether proxies replace their VMs for this push and drop metrics with them.
    fn sweeps(&self) -> bool {
        self.swept == self.rules.generation
    }
}

// === impl Publisher ===

impl Publisher {
    /// A publisher for these Envoys.
    pub fn new(envoy: &EnvoySettings, state: Shared, collector: Arc<Collector>) -> Self {
        Self { wasm: envoy.wasm.clone(), path: envoy.publish.clone(), state, collector }
    }

    /// Envoy refuses to start without its file, so a filter that refuses everything stands in until the first
    /// rules are there.
    pub fn ensure_file(&self) -> std::io::Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        file::replace(&self.path, ecds::closed(&self.wasm).as_bytes())
    }

    /// Publishes whatever is newest, for ever.
    pub async fn run(self, mut publications: watch::Receiver<Option<Publication>>) {
        loop {
            let publication = publications.borrow_and_update().clone();
            let done = match publication {
                Some(publication) => {
                    if publication.sweeps() {
                        // The time of a charge is a gauge that fresh VMs do not know.
                        self.collector.collect_on_demand().await;
                    }
                    self.publish(&publication)
                }
                None => true,
            };
            let next = async {
                if !done {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    return Ok(());
                }
                tokio::select! {
                    changed = publications.changed() => changed,
                    () = self.confirm() => publications.changed().await,
                }
            };
            if next.await.is_err() {
                return;
            }
        }
    }

    /// Whether the file was written.
    fn publish(&self, publication: &Publication) -> bool {
        let generation = publication.rules.generation;
        let text = ecds::resource(&self.wasm, publication);
        self.state.lock().proxies.iter_mut().for_each(|proxy| proxy.pushing(generation));
        match file::replace(&self.path, text.as_bytes()) {
            Ok(()) => {
                info!(generation, path = %self.path.display(), "rules published");
                self.state.lock().publish_error = None;
                true
            }
            Err(cause) => {
                let message = format!("{} cannot be written: {cause}", self.path.display());
                let mut state = self.state.lock();
                if state.publish_error.as_ref() != Some(&message) {
                    error!(generation, "{message}");
                }
                state.publish_error = Some(message);
                false
            }
        }
    }

    /// Asks often until every proxy has answered for the push.
    async fn confirm(&self) {
        for _ in 0..CONFIRM_ROUNDS {
            self.collector.collect().await;
            if self.state.lock().proxies.iter().all(ProxyState::has_answered) {
                return;
            }
            tokio::time::sleep(CONFIRM_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests;
