//! Spools as a source of metrics: files in which shells without counters of their own count.
//!
//! Every file in the folder and in its subfolders is a spool, named by its path from there: one for each Traefik,
//! each of which mounts a folder of its own.

mod reader;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::aggregate::{Process, Refused, Report};
use crate::ledger::{Ledger, LedgerError, Spooled};
use crate::settings::SpoolSettings;
use crate::state::{Shared, unix_seconds};

use reader::{ASIDE, Reader, Step};

pub use reader::SpoolError;

/// A spool, as `/status` and the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolState {
    /// Path from the spool folder.
    pub name: String,
    /// The highest generation a writer said it starts with; `None` if none did.
    pub generation: Option<u64>,
    /// Lines that writers could not write.
    pub lost: u64,
    /// Lines that could not be read.
    pub malformed: u64,
    /// Why the last attempt to read it failed.
    pub last_error: Option<String>,
}

/// All spools of a folder.
#[derive(Debug)]
pub struct Spools {
    ledger: Ledger,
    settings: SpoolSettings,
    readers: Mutex<BTreeMap<String, (Reader, Option<String>)>>,
    state: Shared,
}

/// Steps of one spool in one reading, so that none keeps the others waiting.
const MAX_STEPS: usize = 64;
/// A spool is moved aside at this share of its greatest size.
const ROTATE_SHARE: u64 = 4;

// === impl Spools ===

impl Spools {
    /// The spools of a folder, from where the ledger says they were read to.
    pub async fn open(ledger: Ledger, settings: SpoolSettings, state: Shared) -> Result<Self, LedgerError> {
        let spools = Self { readers: Mutex::default(), ledger, settings, state };
        let known = spools.ledger.spools().await?;
        let readers =
            known.into_iter().map(|(name, known)| (name.clone(), (spools.reader(name, known), None)));
        let readers = Mutex::new(readers.collect());
        Ok(Self { readers, ..spools })
    }

    /// Reads all of them, and shows what is in the ledger. Returns what the aggregate refused, by source.
    pub async fn read(&self) -> Vec<(String, Vec<Refused>)> {
        let mut readers = self.readers.lock().await;
        let found = find(&self.settings.folder);
        for name in found.as_ref().into_iter().flatten() {
            if !readers.contains_key(name) {
                info!(spool = name, "spool found");
                readers.insert(name.clone(), (self.reader(name.clone(), Spooled::default()), None));
            }
        }
        for (name, (reader, last_error)) in &mut *readers {
            let error = read(reader).await.err().map(|error| error.to_string());
            if let Some(error) = error.as_ref().filter(|error| last_error.as_ref() != Some(*error)) {
                warn!(spool = name, "this spool cannot be read: {error}");
            }
            *last_error = error;
        }
        self.show(&readers, found.err())
    }

    fn reader(&self, name: String, known: Spooled) -> Reader {
        let path = self.settings.folder.join(&name);
        Reader::new(self.ledger.clone(), name, path, self.settings.max_bytes / ROTATE_SHARE, known)
    }

    fn show(
        &self,
        readers: &BTreeMap<String, (Reader, Option<String>)>,
        error: Option<io::Error>,
    ) -> Vec<(String, Vec<Refused>)> {
        let mut state = self.state.lock();
        let folder = self.settings.folder.display();
        state.spool_error = error.map(|error| format!("the spool folder {folder} cannot be read: {error}"));
        state.spools = readers
            .iter()
            .map(|(name, (reader, last_error))| {
                let checkpoint = reader.known().checkpoint;
                SpoolState {
                    name: name.clone(),
                    generation: Some(checkpoint.generation).filter(|generation| *generation > 0),
                    lost: checkpoint.lost,
                    malformed: checkpoint.malformed,
                    last_error: last_error.clone(),
                }
            })
            .collect();
        let ingest = |(name, (reader, _)): (&String, &(Reader, Option<String>))| {
            let counters = &reader.known().counters;
            // Cumulative over every file and every companion: one life of one source.
            let report = Report {
                process: Process::lasting(),
                read_at: unix_seconds(),
                values: counters.iter().map(|(series, value)| (series.clone(), *value)).collect(),
                malformed: Vec::new(),
            };
            // No proxy can have this name, as theirs are printable.
            let source = format!("the spool {name}");
            let refused = state.aggregate.ingest(&source, report);
            (source, refused)
        };
        readers.iter().map(ingest).collect()
    }
}

async fn read(reader: &mut Reader) -> Result<(), SpoolError> {
    for _ in 0..MAX_STEPS {
        if reader.step(Instant::now()).await? == Step::Idle {
            break;
        }
    }
    Ok(())
}

/// Names of the spools there are. Those of files that were moved aside have the name they had.
fn find(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (path, kind) in entries(folder)? {
        if kind.is_dir() {
            // One that cannot be read is seen by its spool, if one is known.
            for (inner, kind) in entries(&path).unwrap_or_default() {
                if kind.is_file() {
                    found.extend(name(folder, &inner));
                }
            }
        } else if kind.is_file() {
            found.extend(name(folder, &path));
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, std::fs::FileType)>> {
    std::fs::read_dir(folder)?
        .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))))
        .collect()
}

/// `None` for a file that is hidden or whose name is no text.
fn name(folder: &Path, path: &Path) -> Option<String> {
    let name = path.strip_prefix(folder).ok()?.to_str()?;
    let hidden = path.file_name()?.to_str()?.starts_with('.');
    (!hidden).then(|| name.strip_suffix(ASIDE).unwrap_or(name).to_owned())
}
