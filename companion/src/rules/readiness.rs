//! Whether the facilitator's kinds are known. Paid routes answer 503 until they are; once loaded they stay,
//! as a facilitator that is away for a while is no reason to refuse what it supported a minute ago.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::facilitator::{Supported, fetch};
use crate::state::unix_seconds;

/// What is known of one facilitator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its address.
    pub url: String,
    /// Its kinds, once loaded.
    pub supported: Option<Arc<Supported>>,
    /// Unix seconds.
    pub loaded_at: Option<u64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Asks the facilitator of the active rules what it supports.
#[derive(Debug)]
pub struct Readiness {
    wanted: watch::Sender<String>,
    known: watch::Receiver<AllKnown>,
}

/// By address. Pricing files name few facilitators over a companion's life.
pub type AllKnown = BTreeMap<String, Known>;

/// Pause after a failure, doubled up to the maximum.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(5);
/// Pause after a success.
const REFRESH: Duration = Duration::from_secs(300);

// === impl Readiness ===

impl Readiness {
    /// Starts asking as soon as [`Self::want`] names an address; ends when dropped.
    pub fn start(client: reqwest::Client) -> Self {
        let (wanted, wishes) = watch::channel(String::new());
        let (publish, known) = watch::channel(AllKnown::default());
        tokio::spawn(keep_asking(client, wishes, publish));
        Self { wanted, known }
    }

    /// Names the facilitator to ask. Whether it is another one than before.
    pub fn want(&self, url: &str) -> bool {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted != url;
            if changed {
                url.clone_into(wanted);
            }
            changed
        })
    }

    /// What is known of the facilitator at `url`.
    pub fn known(&self, url: &str) -> Known {
        self.known.borrow().get(url).cloned().unwrap_or_else(|| Known::nothing(url))
    }

    /// Asks for `url`. If it was not asked before, waits for its kinds, but not longer than `limit`. One that
    /// hangs is waited for once and not at every reload.
    pub async fn wait(&self, url: &str, limit: Duration) {
        let mut known = self.known.clone();
        let has_answered = known.borrow().contains_key(url);
        if !self.want(url) || has_answered {
            return;
        }
        let loaded = known.wait_for(|all| all.get(url).is_some_and(|known| known.supported.is_some()));
        let _ = tokio::time::timeout(limit, loaded).await;
    }

    /// Completes when something new is known; see [`watch::Receiver::changed`].
    pub fn changes(&self) -> watch::Receiver<AllKnown> {
        self.known.clone()
    }
}

// === impl Known ===

impl Known {
    fn nothing(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// Networks for which the facilitator takes version 1 payments.
    pub fn v1_networks(&self) -> BTreeSet<String> {
        self.supported.as_ref().map(|supported| supported.v1_networks()).unwrap_or_default()
    }
}

async fn keep_asking(
    client: reqwest::Client,
    mut wishes: watch::Receiver<String>,
    publish: watch::Sender<AllKnown>,
) {
    let mut retry = FIRST_RETRY;
    loop {
        let url = wishes.borrow_and_update().clone();
        let asking = async {
            if url.is_empty() {
                return std::future::pending().await;
            }
            // Bounded in time by the client of the facilitator.
            let outcome = fetch(&client, &url).await.map_err(|error| error.to_string());
            let pause = if outcome.is_ok() { REFRESH } else { retry };
            publish.send_if_modified(|all| {
                note(all.entry(url.clone()).or_insert_with(|| Known::nothing(&url)), outcome)
            });
            tokio::time::sleep(pause).await;
            pause
        };
        tokio::select! {
            pause = asking => retry = if pause == REFRESH { FIRST_RETRY } else { (retry * 2).min(MAX_RETRY) },
            wish = wishes.changed() => {
                if wish.is_err() {
                    return;
                }
                retry = FIRST_RETRY;
            }
        }
    }
}

/// Whether it is news.
fn note(known: &mut Known, outcome: Result<Supported, String>) -> bool {
    let before = known.clone();
    match outcome {
        Ok(supported) => {
            if known.supported.as_deref() != Some(&supported) {
                info!(url = known.url, kinds = supported.kinds.len(), "facilitator kinds loaded");
            }
            known.supported = Some(Arc::new(supported));
            known.loaded_at = Some(unix_seconds());
            known.last_error = None;
        }
        Err(error) => {
            if known.last_error.as_ref() != Some(&error) {
                warn!(url = known.url, "facilitator kinds cannot be loaded: {error}");
            }
            known.last_error = Some(error);
        }
    }
    *known != before
}
