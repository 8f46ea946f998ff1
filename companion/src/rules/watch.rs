//! Watching the pricing file: renames, edits in place, and the symlink swaps of a Kubernetes ConfigMap.
//!
//! Notifications only make it quick. What counts is the content, which is also read every second, so a change
//! is seen on file systems without notifications and when modification times do not move.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use tracing::warn;

use crate::clock::unix_seconds;
use crate::paths::folder_of;

/// What the file holds, or why it cannot be read.
pub type Candidate = Result<String, String>;

/// A watched file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    last: Option<Candidate>,
    notices: Option<Notices>,
}

/// What the system says of the file.
#[derive(Debug)]
struct Notices {
    stream: EventStream<[u8; 4_096]>,
    /// The file that has the name now, or had it last.
    file: Option<WatchDescriptor>,
    /// Since when somebody who has written something has the file open, Unix seconds.
    written_since: Option<u64>,
}

/// Content must stay the same this long before it is believed: an editor may write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// The least time between two looks at a file that does not change.
const BREATH: Duration = Duration::from_millis(50);
/// How often the content is read without being told.
const POLL: Duration = Duration::from_secs(1);

/// Watches a file. The first [`Watch::next`] yields what it holds now.
pub fn watch(path: PathBuf) -> Watch {
    let notices = Notices::of(&path)
        .inspect_err(|error| {
            warn!("no file notifications ({error}); {} is read every second", path.display())
        })
        .ok();
    Watch { path, last: None, notices }
}

// === impl Watch ===

impl Watch {
    /// Waits for content that differs from what was last returned, stays as it is, and is being written by nobody.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Candidate {
        loop {
            let seen = read(&self.path).await;
            if self.last.as_ref() != Some(&seen) && self.stays(&seen).await {
                self.last = Some(seen.clone());
                return seen;
            }
            tokio::select! {
                () = self.told() => tokio::time::sleep(BREATH).await,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// The next content counts as new whatever it is.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Since when somebody has been writing the file, Unix seconds. What it holds meanwhile may be a part.
    pub fn written_since(&self) -> Option<u64> {
        self.notices.as_ref()?.written_since
    }

    async fn stays(&mut self, seen: &Candidate) -> bool {
        tokio::time::sleep(SETTLE).await;
        if let Some(notices) = &mut self.notices {
            notices.hear(&self.path);
        }
        self.written_since().is_none() && read(&self.path).await == *seen
    }

    /// Something happened to the file or in its folder. Never where nobody tells.
    async fn told(&mut self) {
        let Some(notices) = &mut self.notices else { return std::future::pending().await };
        match notices.stream.next().await {
            Some(Ok(event)) => {
                notices.take(&event, &self.path);
                notices.hear(&self.path);
            }
            // Its content is read every second all the same.
            Some(Err(_)) | None => self.notices = None,
        }
    }
}

// === impl Notices ===

impl Notices {
    /// The folder is watched, as the file itself is replaced by renames and symlink swaps; and the file, because a folder
    /// does not tell of what is written by another way to it. What is written in the folder all the time and stays open,
    /// a ledger or a log, wakes nobody.
    fn of(path: &Path) -> std::io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
        inotify.watches().add(folder_of(path), mask)?;
        let mut notices =
            Self { stream: inotify.into_event_stream([0; 4_096])?, file: None, written_since: None };
        notices.attend(path);
        Ok(notices)
    }

    /// Everything that was told so far.
    fn hear(&mut self, path: &Path) {
        self.attend(path);
        while let Some(Some(Ok(event))) = self.stream.next().now_or_never() {
            self.take(&event, path);
        }
    }

    /// Listens to the file that has the name now. What it was told of another one is over.
    fn attend(&mut self, path: &Path) {
        let file = self.stream.watches().add(path, WatchMask::MODIFY | WatchMask::CLOSE_WRITE).ok();
        if file != self.file {
            self.file = file;
            self.written_since = None;
        }
    }

    fn take(&mut self, event: &EventOwned, path: &Path) {
        let of_file = self.file.as_ref() == Some(&event.wd) && event.name.is_none();
        let in_folder = event.name.is_some() && event.name.as_deref() == path.file_name();
        let is = |kind| (of_file || in_folder) && event.mask.contains(kind);
        if is(EventMask::CLOSE_WRITE) || event.mask.contains(EventMask::Q_OVERFLOW) {
            self.written_since = None;
        } else if is(EventMask::MODIFY) {
            self.written_since.get_or_insert_with(unix_seconds);
        } else if is(EventMask::CREATE) {
            self.attend(path);
            // Whoever creates a file has it open; a link is complete.
            let is_own = |file: std::fs::Metadata| file.is_file() && file.nlink() == 1;
            if std::fs::symlink_metadata(path).is_ok_and(is_own) {
                self.written_since.get_or_insert_with(unix_seconds);
            }
        }
    }
}

async fn read(path: &Path) -> Candidate {
    let text = async {
        // Whoever opens a pipe waits until somebody writes to it.
        if !tokio::fs::metadata(path).await?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        tokio::fs::read_to_string(path).await
    };
    text.await.map_err(|error| format!("{}: cannot be read: {error}", path.display()))
}
