//! Watching the pricing file: renames, edits in place, and the symlink swaps of a Kubernetes ConfigMap.
//!
//! Notifications only save time. The content is also read every second, so a change is seen on file systems without
//! notifications, and when modification times do not change.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use tracing::{info, warn};

use super::lease::Lease;
use crate::clock::unix_seconds;
use crate::paths::folder_of;

/// The content of the file, or why it cannot be read.
pub type Candidate = Result<String, String>;

/// A watched file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    last: Option<Candidate>,
    notices: Option<Notices>,
    /// Since when the file is open for writing, Unix seconds.
    written_since: Option<u64>,
    /// Whether the log says that the kernel does not tell who writes.
    is_limit_logged: bool,
}

/// The system's notifications about the file.
#[derive(Debug)]
struct Notices {
    stream: EventStream<[u8; 4_096]>,
    /// The file that has the name now, or had it before.
    file: Option<WatchDescriptor>,
    /// Whether a program has written to the file and, as far as the events say, keeps it open.
    is_written: bool,
}

/// How long content must stay the same before it is loaded, because an editor may write in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// Least pause between two reads of an unchanged file.
const BREATH: Duration = Duration::from_millis(50);
/// Interval of reads without a notification.
const POLL: Duration = Duration::from_secs(1);

/// Watches a file. The first [`Watch::next`] returns the current content.
pub fn watch(path: PathBuf) -> Watch {
    let notices = Notices::of(&path)
        .inspect_err(|error| {
            warn!("no file notifications ({error}); {} is read every second", path.display())
        })
        .ok();
    Watch { path, last: None, notices, written_since: None, is_limit_logged: false }
}

// === impl Watch ===

impl Watch {
    /// Waits for content that differs from the last returned one, no longer changes, and is not being written. Dropping
    /// the future loses nothing.
    pub async fn next(&mut self) -> Candidate {
        loop {
            let seen = self.look().await;
            if self.last.as_ref() != Some(&seen) && self.written_since.is_none() {
                tokio::time::sleep(SETTLE).await;
                if self.look().await == seen && self.written_since.is_none() {
                    self.last = Some(seen.clone());
                    return seen;
                }
            }
            tokio::select! {
                () = self.told() => tokio::time::sleep(BREATH).await,
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Makes any next content count as new.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Since when a program has been writing the file, Unix seconds. Its content may be incomplete meanwhile.
    pub const fn written_since(&self) -> Option<u64> {
        self.written_since
    }

    /// Reads the file, and notes whether a program is writing it.
    async fn look(&mut self) -> Candidate {
        if let Some(notices) = &mut self.notices {
            notices.hear(&self.path);
        }
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || text_of(&path)).await;
        let (content, is_open) = match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok((text, is_open)) => (Ok(text), is_open),
            Err(error) => (Err(format!("{}: cannot be read: {error}", self.path.display())), None),
        };
        if is_open.is_none() && content.is_ok() && !self.is_limit_logged {
            self.is_limit_logged = true;
            info!(
                "the kernel does not tell this user whether {} is open for writing; rename new files into place",
                self.path.display()
            );
        }
        // Events miss what was written before, and a program that keeps the file open after another has closed it.
        let is_open =
            is_open.unwrap_or_else(|| self.notices.as_ref().is_some_and(|notices| notices.is_written));
        self.written_since = is_open.then(|| self.written_since.unwrap_or_else(unix_seconds));
        content
    }

    /// Waits for an event of the file or its folder. Never returns without notifications.
    async fn told(&mut self) {
        let Some(notices) = &mut self.notices else { return std::future::pending().await };
        match notices.stream.next().await {
            Some(Ok(event)) => {
                notices.take(&event, &self.path);
                notices.hear(&self.path);
            }
            // The content is still read every second.
            Some(Err(_)) | None => self.notices = None,
        }
    }
}

// === impl Notices ===

impl Notices {
    /// Watches the folder, because the file itself is replaced by renames and symlink swaps. Also watches the file,
    /// because the folder gives no event if the file is written under another path. Writes to files of the folder that
    /// stay open, such as a ledger or a log, cause no events.
    fn of(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CLOSE_WRITE | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE;
        inotify.watches().add(folder_of(path), mask)?;
        let mut notices =
            Self { stream: inotify.into_event_stream([0; 4_096])?, file: None, is_written: false };
        notices.attend(path);
        Ok(notices)
    }

    /// Reads all events so far.
    fn hear(&mut self, path: &Path) {
        self.attend(path);
        while let Some(Some(Ok(event))) = self.stream.next().now_or_never() {
            self.take(&event, path);
        }
    }

    /// Watches the file that has the name now, and forgets the state of the file before.
    fn attend(&mut self, path: &Path) {
        let file = self.stream.watches().add(path, WatchMask::MODIFY | WatchMask::CLOSE_WRITE).ok();
        if file != self.file {
            self.file = file;
            self.is_written = false;
        }
    }

    fn take(&mut self, event: &EventOwned, path: &Path) {
        let of_file = self.file.as_ref() == Some(&event.wd) && event.name.is_none();
        let in_folder = event.name.is_some() && event.name.as_deref() == path.file_name();
        let is = |kind| (of_file || in_folder) && event.mask.contains(kind);
        if is(EventMask::CLOSE_WRITE) || event.mask.contains(EventMask::Q_OVERFLOW) {
            self.is_written = false;
        } else if is(EventMask::MODIFY) {
            self.is_written = true;
        } else if is(EventMask::CREATE) {
            self.attend(path);
            // A program that creates a file has it open; a linked file is complete.
            let is_own = |file: std::fs::Metadata| file.is_file() && file.nlink() == 1;
            self.is_written |= std::fs::symlink_metadata(path).is_ok_and(is_own);
        }
    }
}

/// The text of a file, and whether a program has it open for writing. `None` if the kernel does not tell.
fn text_of(path: &Path) -> io::Result<(String, Option<bool>)> {
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let lease = Lease::take(&file);
    let text = io::read_to_string(&file)?;
    Ok((text, lease.is_open_for_writing()))
}
