//! Publishing rules to the proxies. For Envoy the rules are rendered, written atomically, served over gRPC if
//! that is set, and confirmed by the reports of each Envoy. A refused resource is not sent to the same Envoy
//! again. For Traefik see [`traefik`].

pub mod discovery;
mod ecds;
mod file;
mod proxies;
mod state;
mod traefik;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::rules::PushedRules;
use farebox_pricing::RouteUpstream;
use tokio::sync::watch;
use tracing::{error, info};

use crate::clock::unix_seconds;
use crate::handle::Handle;
use crate::settings::{EnvoySettings, Settings};

use discovery::Resource;
use ecds::Filter;

pub use ecds::Published;
pub use proxies::{Proxies, ProxyState};
pub use state::PublishState;
#[cfg(test)]
pub use traefik::Loaded;
pub use traefik::{Endpoint, TraefikPublisher, TraefikState};

/// Rules ready to be pushed.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// The rules for the proxies.
    pub rules: Arc<PushedRules>,
    /// The upstream of each route, for a proxy whose routers are published, too.
    pub upstreams: Arc<[RouteUpstream]>,
}

/// Writes publications for Envoy, and offers them over gRPC.
#[derive(Debug)]
pub struct Publisher {
    wasm: String,
    path: PathBuf,
    resource: watch::Sender<Option<Arc<Resource>>>,
    state: Handle<PublishState>,
}

/// Pause before a failed write is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The last publication of an earlier run, from any readable file of the settings.
pub fn last_published(settings: &Settings) -> Option<Published> {
    let envoy = settings.envoy.as_ref().and_then(|envoy| ecds::last_published(&envoy.publish));
    let file = settings.traefik.as_ref().and_then(|traefik| traefik.publish.as_ref());
    let traefik = file.and_then(|file| traefik::last_published(file));
    // Of two files, the one with the higher generation was written last.
    [envoy, traefik].into_iter().flatten().max_by_key(|published| published.generation)
}

// === impl Publisher ===

impl Publisher {
    /// A publisher for these Envoys.
    pub fn new(envoy: &EnvoySettings, state: Handle<PublishState>) -> Self {
        let (resource, _) = watch::channel(None);
        Self { wasm: envoy.wasm.clone(), path: envoy.publish.clone(), resource, state }
    }

    /// Serves the publications over gRPC. Never returns.
    pub fn serve(
        &self,
        server: discovery::Server,
        finished: watch::Receiver<()>,
    ) -> impl Future<Output = ()> + use<> {
        server.run(self.resource.subscribe(), finished)
    }

    /// Writes a filter without rules if there is no file yet, because Envoy does not start without its file.
    pub fn ensure_file(&self) -> std::io::Result<()> {
        if self.path.exists() {
            return Ok(());
        }
        file::replace(&self.path, Filter::closed(&self.wasm).file().as_bytes())
    }

    /// Publishes the newest publication, again and again. Never returns.
    pub async fn run(self, mut publications: watch::Receiver<Option<Publication>>) {
        loop {
            let publication = publications.borrow_and_update().clone();
            let done = publication.is_none_or(|publication| self.publish(&publication));
            let next = async {
                if done {
                    return publications.changed().await;
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
                Ok(())
            };
            if next.await.is_err() {
                return;
            }
        }
    }

    /// Publishes rules. Returns whether the file was written.
    fn publish(&self, publication: &Publication) -> bool {
        let generation = publication.rules.generation;
        let filter = Filter::new(&self.wasm, publication);
        self.state.lock().proxies.pushing(generation, unix_seconds());
        self.offer(generation, &filter);
        match file::replace(&self.path, filter.file().as_bytes()) {
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

    /// Makes this filter the current resource of the streams, unless it is already.
    fn offer(&self, generation: u64, filter: &Filter<'_>) {
        let version = filter.version(generation);
        self.resource.send_if_modified(|current| {
            let is_new = current.as_ref().is_none_or(|current| current.version != version);
            if is_new {
                *current = Some(Arc::new(Resource { version, message: filter.message() }));
            }
            is_new
        });
    }
}

#[cfg(test)]
mod tests;
