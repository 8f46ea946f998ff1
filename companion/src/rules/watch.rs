//! Watching the pricing file: renames, edits in place, and the symlink swaps of a Kubernetes ConfigMap.
//!
//! Notifications only save time. The content is also read every second, so a change is seen on file systems without
//! notifications, and when modification times do not change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::Instant;
use tracing::warn;

use crate::paths::folder_of;

/// The content of the file, or why it cannot be read.
pub type Candidate = Result<String, String>;

/// A watched file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    last: Option<Candidate>,
    /// Content that ends in the middle of a line, with the time when it was first seen.
    unended: Option<(Candidate, Instant)>,
    events: Option<Events>,
}

/// The events in the folder of the file.
type Events = EventStream<[u8; 4_096]>;

/// How long content must stay the same before it is loaded, because an editor may write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// How long content must stay the same if its last line has no end, because half of a price or pattern is a valid price
/// or pattern, too.
const UNENDED: Duration = Duration::from_secs(10);
/// Number of reads after which a file that never stays the same is loaded as it is.
const SETTLE_LOOKS: u32 = 10;
/// Least pause between two reads of an unchanged file.
const BREATH: Duration = Duration::from_millis(50);
/// Interval of reads without a notification.
const POLL: Duration = Duration::from_secs(1);

/// Watches a file. The first [`Watch::next`] returns the current content.
pub fn watch(path: PathBuf) -> Watch {
    let events = events(&path)
        .inspect_err(|error| {
            warn!("no file notifications ({error}); {} is read every second", path.display())
        })
        .ok();
    Watch { path, last: None, unended: None, events }
}

/// Watches the parent folder, because the file itself is replaced by renames and symlink swaps. Writes to files that
/// stay open, such as a ledger or a log, cause no events.
fn events(path: &Path) -> std::io::Result<Events> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CLOSE_WRITE | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
    inotify.watches().add(folder_of(path), mask)?;
    inotify.into_event_stream([0; 4_096])
}

// === impl Watch ===

impl Watch {
    /// Waits for content that differs from what was last returned. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Candidate {
        loop {
            let seen = read(&self.path).await;
            if self.last.as_ref() != Some(&seen) {
                let settled = self.settle(seen).await;
                if self.last.as_ref() != Some(&settled) && !self.may_go_on(&settled) {
                    self.unended = None;
                    self.last = Some(settled.clone());
                    return settled;
                }
            }
            tokio::select! {
                () = self.told() => tokio::time::sleep(BREATH).await,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Whether more content may follow: it ends in the middle of a line, and has not done so for long. At the start
    /// there is no wait.
    fn may_go_on(&mut self, settled: &Candidate) -> bool {
        let Ok(text) = settled else { return false };
        if self.last.is_none() || text.ends_with('\n') {
            return false;
        }
        match &self.unended {
            Some((known, since)) if known == settled => since.elapsed() < UNENDED,
            _ => {
                self.unended = Some((settled.clone(), Instant::now()));
                warn!(
                    "{}: its last line has no end, so it may be written in parts: the rules before it stay in force for \
                     {UNENDED:?}, unless it is ended or changes",
                    self.path.display()
                );
                true
            }
        }
    }

    /// Waits for an event in the folder, and drops earlier ones. Never returns without notifications.
    async fn told(&mut self) {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        match events.next().await {
            Some(Ok(_)) => while events.next().now_or_never().is_some_and(|next| next.is_some()) {},
            // The content is still read every second.
            Some(Err(_)) | None => self.events = None,
        }
    }

    /// Returns the current content, changed or not.
    pub async fn again(&mut self) -> Candidate {
        let seen = self.settle(read(&self.path).await).await;
        self.last = Some(seen.clone());
        seen
    }

    async fn settle(&self, mut seen: Candidate) -> Candidate {
        // The content at the start is not being written now.
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
