//! Watching the pricing file: renames, edits in place, and the symlink swaps of a Kubernetes ConfigMap.
//!
//! Notifications only make it quick. What counts is the content, which is also read every second, so a change
//! is seen on file systems without notifications and when modification times do not move.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::Watcher;
use tokio::sync::mpsc;
use tracing::warn;

use crate::paths::folder_of;

/// What the file holds, or why it cannot be read.
pub type Candidate = Result<String, String>;

/// A watched file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    last: Option<Candidate>,
    wakeups: mpsc::Receiver<()>,
    /// Notifications end when this is dropped.
    _notifier: Option<notify::RecommendedWatcher>,
}

/// Content must stay the same this long before it is believed: an editor may write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// A file that never settles is taken as it is after this many looks.
const SETTLE_LOOKS: u32 = 10;
/// The least time between two looks at a file that does not change.
const BREATH: Duration = Duration::from_millis(50);
/// How often the content is read without being told.
const POLL: Duration = Duration::from_secs(1);

/// Watches a file. The first [`Watch::next`] yields what it holds now.
pub fn watch(path: PathBuf) -> Watch {
    let (wake, wakeups) = mpsc::channel(1);
    let notifier = notifier(&path, wake)
        .inspect_err(|error| {
            warn!("no file notifications ({error}); {} is read every second", path.display())
        })
        .ok();
    Watch { path, last: None, wakeups, _notifier: notifier }
}

/// The parent folder is watched, as the file itself is replaced by renames and symlink swaps.
fn notifier(path: &Path, wake: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let mut notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file is an event too; waking up for it would never end.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full channel already holds a wakeup.
            let _ = wake.try_send(());
        }
    })?;
    notifier.watch(folder_of(path), notify::RecursiveMode::NonRecursive)?;
    Ok(notifier)
}

// === impl Watch ===

impl Watch {
    /// Waits for content that differs from what was last returned. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Candidate {
        loop {
            let seen = read(&self.path).await;
            if self.last.as_ref() != Some(&seen) {
                let settled = self.settle(seen).await;
                if self.last.as_ref() != Some(&settled) {
                    self.last = Some(settled.clone());
                    return settled;
                }
            }
            tokio::select! {
                // Others may write in the folder all the time: a ledger, a log.
                Some(()) = self.wakeups.recv() => tokio::time::sleep(BREATH).await,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// What it holds now, changed or not.
    pub async fn again(&mut self) -> Candidate {
        let seen = self.settle(read(&self.path).await).await;
        self.last = Some(seen.clone());
        seen
    }

    async fn settle(&self, mut seen: Candidate) -> Candidate {
        // What is there at the start was not written just now.
        if self.last.is_none() && seen.is_ok() {
            return seen;
        }
        for _ in 0..SETTLE_LOOKS {
            tokio::time::sleep(SETTLE).await;
            let again = read(&self.path).await;
            if again == seen {
                break;
            }
            seen = again;
        }
        seen
    }
}

async fn read(path: &Path) -> Candidate {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
