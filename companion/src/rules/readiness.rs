//! Whether the facilitators' kinds are known. Payments on a chain are answered 503 until the kinds of one of its
//! facilitators are known; other chains are not affected. Known kinds stay, because a facilitator that is unreachable
//! for a while still supports them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use crate::clock::unix_seconds;
use crate::facilitator::{FacilitatorClient, Supported, fetch};

/// The state of one facilitator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its address.
    pub url: String,
    /// Its kinds, if they are known.
    pub supported: Option<Arc<Supported>>,
    /// When the kinds were first loaded, Unix seconds.
    pub loaded_at: Option<u64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When attempts began to fail, Unix seconds; `None` if the last one succeeded.
    pub failing_since: Option<u64>,
}

/// Asks the facilitators of the active rules what they support.
#[derive(Debug)]
pub struct Readiness {
    wanted: watch::Sender<BTreeSet<String>>,
    known: watch::Receiver<AllKnown>,
}

/// The states by address. They are never removed, because pricing files name few facilitators while a companion runs.
pub type AllKnown = BTreeMap<String, Known>;

/// Pause after a failure, doubled up to a maximum. The maximum is a second for a facilitator whose kinds are not known,
/// because nothing is sold through it; a known one is only asked for changes.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY_UNKNOWN: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(5);
/// Pause after a success. A facilitator that dies is detected within it, even without payments.
const REFRESH: Duration = Duration::from_secs(60);
/// The same pause if a payment got no reply meanwhile, or the first one again.
const DOUBT: Duration = Duration::from_secs(1);

// === impl Readiness ===

impl Readiness {
    /// Makes a task that asks the facilitators of [`Self::want`]; it ends when this is dropped.
    pub fn start(client: FacilitatorClient) -> Self {
        let (wanted, wishes) = watch::channel(BTreeSet::new());
        let (publish, known) = watch::channel(AllKnown::default());
        tokio::spawn(keep_asking_all(client, wishes, publish));
        Self { wanted, known }
    }

    /// Sets the facilitators to ask. Returns whether they changed.
    pub fn want(&self, urls: &BTreeSet<String>) -> bool {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted != urls;
            if changed {
                wanted.clone_from(urls);
            }
            changed
        })
    }

    /// The states of all facilitators that were ever asked.
    pub fn known(&self) -> AllKnown {
        self.known.borrow().clone()
    }

    /// Asks the facilitators `urls`. Waits for the kinds of facilitators that were not asked before, but not longer than
    /// `limit`. So a facilitator that hangs delays one load and not every load.
    pub async fn wait(&self, urls: &BTreeSet<String>, limit: Duration) {
        let mut known = self.known.clone();
        let fresh: Vec<_> = urls.iter().filter(|url| !known.borrow().contains_key(*url)).collect();
        if !self.want(urls) || fresh.is_empty() {
            return;
        }
        let has_loaded =
            |all: &AllKnown, url: &str| all.get(url).is_some_and(|known| known.supported.is_some());
        let loaded = known.wait_for(|all| fresh.iter().all(|url| has_loaded(all, url)));
        let _ = tokio::time::timeout(limit, loaded).await;
    }

    /// A receiver of changes; see [`watch::Receiver::changed`].
    pub fn changes(&self) -> watch::Receiver<AllKnown> {
        self.known.clone()
    }
}

// === impl Known ===

impl Known {
    fn nothing(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

/// Asks each wanted facilitator, with its own pauses.
async fn keep_asking_all(
    client: FacilitatorClient,
    mut wishes: watch::Receiver<BTreeSet<String>>,
    publish: watch::Sender<AllKnown>,
) {
    let mut tasks = JoinSet::new();
    let mut asked: BTreeMap<String, AbortHandle> = BTreeMap::new();
    loop {
        let wanted = wishes.borrow_and_update().clone();
        asked.retain(|url, task| {
            let stays = wanted.contains(url);
            if !stays {
                task.abort();
            }
            stays
        });
        for url in wanted {
            let (client, publish) = (client.clone(), publish.clone());
            asked
                .entry(url.clone())
                .or_insert_with(|| tasks.spawn(async move { keep_asking(&client, &url, &publish).await }));
        }
        if wishes.changed().await.is_err() {
            return;
        }
    }
}

async fn keep_asking(client: &FacilitatorClient, url: &str, publish: &watch::Sender<AllKnown>) {
    let (mut retry, mut is_known) = (FIRST_RETRY, false);
    let mut doubts = client.doubts();
    loop {
        doubts.mark_unchanged();
        // The client of the facilitator has a timeout.
        let outcome = fetch(client, url).await.map_err(|error| error.to_string());
        is_known |= outcome.is_ok();
        let pause = if outcome.is_ok() { REFRESH } else { retry };
        let most = if is_known { MAX_RETRY } else { MAX_RETRY_UNKNOWN };
        retry = if outcome.is_ok() { FIRST_RETRY } else { (retry * 2).min(most) };
        publish.send_if_modified(|all| {
            note(all.entry(url.to_owned()).or_insert_with(|| Known::nothing(url)), outcome)
        });
        tokio::time::sleep(pause.min(DOUBT)).await;
        tokio::select! {
            () = tokio::time::sleep(pause.saturating_sub(DOUBT)) => {}
            Ok(()) = doubts.changed() => {}
        }
    }
}

/// Records an outcome. Returns whether the state changed.
fn note(known: &mut Known, outcome: Result<Supported, String>) -> bool {
    let before = known.clone();
    match outcome {
        Ok(supported) => {
            if known.supported.as_deref() != Some(&supported) {
                info!(
                    url = known.url,
                    kinds = supported.kinds.len(),
                    "the facilitator has said which payments it supports"
                );
                if supported.is_for_development {
                    warn!(
                        url = known.url,
                        "THIS FACILITATOR IS FOR DEVELOPMENT: no money moves, and what is sold through it is given away"
                    );
                }
                known.supported = Some(Arc::new(supported));
                known.loaded_at = Some(unix_seconds());
            } else if known.last_error.is_some() {
                info!(url = known.url, "the facilitator answers again");
            }
            known.last_error = None;
            known.failing_since = None;
        }
        Err(error) => {
            if known.last_error.as_ref() != Some(&error) {
                warn!(url = known.url, "the facilitator does not say which payments it supports: {error}");
            }
            known.last_error = Some(error);
            known.failing_since.get_or_insert_with(unix_seconds);
        }
    }
    *known != before
}

#[cfg(test)]
#[path = "readiness_tests.rs"]
mod tests;
