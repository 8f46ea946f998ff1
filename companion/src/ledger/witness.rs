//! What a companion remembers of its ledger outside of it: how far the ledger had come, so that one that was put back
//! while the companion was down is noticed at the next start.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

/// A small file beside a SQLite file, one for each companion.
#[derive(Debug)]
pub(super) struct Witness {
    path: Option<PathBuf>,
    /// What it says.
    mark: AtomicU64,
}

// === impl Witness ===

impl Witness {
    /// The one of this companion. A server has none: its own replicas tell.
    pub(super) fn of(database: Option<&Path>, companion: &str) -> Self {
        let path = database.map(|database| {
            let mut name = database.as_os_str().to_owned();
            name.push(".");
            name.push(companion.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"));
            name.push(".seen");
            PathBuf::from(name)
        });
        let read = path.as_deref().map(fs::read_to_string);
        let mark = match read {
            Some(Ok(text)) => text.trim().parse().unwrap_or(0),
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                warn!("how far the ledger had come cannot be read: {error}");
                0
            }
            _ => 0,
        };
        Self { path, mark: AtomicU64::new(mark) }
    }

    /// How far the ledger had come when this was written last.
    pub(super) fn mark(&self) -> u64 {
        self.mark.load(Ordering::Acquire)
    }

    /// Remembers how far it has come. Writes nothing if that is known.
    pub(super) fn remember(&self, mark: u64) {
        let Some(path) = &self.path else { return };
        if self.mark.swap(mark, Ordering::AcqRel) == mark {
            return;
        }
        let written = path.with_extension("new");
        let done = fs::write(&written, format!("{mark}\n")).and_then(|()| fs::rename(&written, path));
        if let Err(error) = done {
            warn!("how far the ledger has come cannot be written to {}: {error}", path.display());
        }
    }
}
