//! Spools as a source of metrics: files in which shells without counters that outlive them count.
//!
//! Every file of the spools' name in the folder and in its subfolders is a spool, named by its path from there: one for
//! each Traefik, each of which mounts a folder of its own. Other files are none.

mod reader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::Mutex;
use tracing::{error, info};

use super::{Counts, CountsParts, DropReason};
use crate::ledger::{Checkpoint, Ledger, LedgerError, SpoolsOf};
use crate::settings::SpoolSettings;

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
    /// Why not all of it is counted.
    pub last_error: Option<String>,
}

/// What is known of the spools.
#[derive(Debug, Default)]
pub struct SpoolsState {
    /// The spools that are read.
    pub all: Vec<SpoolState>,
    /// Why none can be found; `None` while they can, or if there are none.
    pub error: Option<String>,
}

/// All spools of a companion.
#[derive(Debug)]
pub struct Spools {
    ledger: SpoolsOf,
    settings: SpoolSettings,
    /// By name, with what the last attempt to read failed with.
    readers: Mutex<Readers>,
    state: CountsParts,
}

type Readers = BTreeMap<String, (Reader, Option<String>)>;

/// Steps of one spool in one reading, so that none keeps the others waiting.
const MAX_STEPS: usize = 64;
/// A spool is moved aside at this share of its greatest size.
const ROTATE_SHARE: u64 = 4;

// === impl SpoolsState ===

impl SpoolsState {
    /// The highest generation with which a plugin says that it began.
    pub fn started(&self) -> Option<u64> {
        self.all.iter().filter_map(|spool| spool.generation).max()
    }

    /// Values and lines that are not counted, with those of reports.
    pub fn dropped(&self, counts: &Counts, reason: DropReason) -> u64 {
        let of_spool = |spool: &SpoolState| match reason {
            DropReason::Malformed => spool.malformed,
            DropReason::Lost => spool.lost,
            DropReason::Pruned | DropReason::StaleGeneration => 0,
        };
        self.all.iter().map(of_spool).fold(counts.dropped(reason), u64::saturating_add)
    }
}

// === impl Spools ===

impl Spools {
    /// The spools of a folder, from where the ledger says they were read to.
    pub async fn open(
        ledger: &Ledger,
        settings: SpoolSettings,
        state: CountsParts,
    ) -> Result<Self, LedgerError> {
        let own = SpoolsOf::take_over(ledger).await?;
        let spools = Self { ledger: own, settings, readers: Mutex::default(), state };
        let known = ledger.spools().await?.into_iter();
        let readers = known.map(|(name, known)| (name.clone(), (spools.reader(name, known), None))).collect();
        Ok(Self { readers: Mutex::new(readers), ..spools })
    }

    /// Has the ledger count what is new in all of them.
    pub async fn read(&self) {
        let mut readers = self.readers.lock().await;
        let found = self.look(&mut readers);
        // An idle one would not notice.
        let taken = match self.ledger.check().await {
            Err(error @ LedgerError::Superseded { .. }) => Err(error.to_string()),
            _ => Ok(()),
        };
        for name in readers.keys().cloned().collect::<Vec<_>>() {
            let read = read(&mut readers, &name).await;
            let Some((reader, last_error)) = readers.get_mut(&name) else { continue };
            let error = read.err().map(|error| error.to_string());
            let error = error.or_else(|| reader.notice().map(str::to_owned));
            if let Some(error) = error.as_ref().filter(|error| last_error.as_ref() != Some(*error)) {
                error!(spool = name, "not all of this spool is counted: {error}");
            }
            *last_error = error;
        }
        self.show(&readers, taken.and(found).err());
    }

    /// Begins to read what is new in the folder.
    fn look(&self, readers: &mut Readers) -> Result<(), String> {
        let SpoolSettings { folder, file, .. } = &self.settings;
        let found = find(folder, file)
            .map_err(|error| format!("the spool folder {} cannot be read: {error}", folder.display()))?;
        for name in found {
            if !readers.contains_key(&name) {
                info!(spool = name, "spool found");
                readers.insert(name.clone(), (self.reader(name, Checkpoint::default()), None));
            }
        }
        Ok(())
    }

    fn reader(&self, name: String, known: Checkpoint) -> Reader {
        let SpoolSettings { folder, max_bytes, .. } = &self.settings;
        let path = folder.join(&name);
        Reader::new(
            self.ledger.clone(),
            self.state.counted.clone(),
            name,
            path,
            max_bytes / ROTATE_SHARE,
            known,
        )
    }

    fn show(&self, readers: &Readers, spool_error: Option<String>) {
        let show = |(name, (reader, last_error)): (&String, &(Reader, Option<String>))| {
            let Checkpoint { generation, lost, malformed, .. } = *reader.known();
            let generation = Some(generation).filter(|generation| *generation > 0);
            SpoolState { name: name.clone(), generation, lost, malformed, last_error: last_error.clone() }
        };
        let mut state = self.state.spools.lock();
        if let Some(error) = spool_error.as_ref().filter(|error| state.error.as_ref() != Some(*error)) {
            error!("no spool is read: {error}");
        }
        state.error = spool_error;
        state.all = readers.iter().map(show).collect();
    }
}

async fn read(readers: &mut Readers, name: &str) -> Result<(), SpoolError> {
    for _ in 0..MAX_STEPS {
        let Some((reader, _)) = readers.get_mut(name) else { break };
        match reader.step(Instant::now()).await? {
            Step::Done => {}
            Step::Idle => break,
            Step::Meets(file) => {
                let mut twin = None;
                for (_, (other, _)) in readers.iter_mut().filter(|(other, _)| *other != name) {
                    match other.has(file)? {
                        None => other.give_up(file).await?,
                        found => twin = twin.or(found),
                    }
                }
                let Some((reader, _)) = readers.get_mut(name) else { break };
                reader.meet(file, twin).await?;
            }
        }
    }
    Ok(())
}

/// Names of the spools there are. Those of files that were moved aside have the name they had.
fn find(folder: &Path, spool: &str) -> io::Result<BTreeSet<String>> {
    let wanted = Path::new(spool).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = |path: &Path| name(folder, path, wanted);
    let mut found = BTreeSet::new();
    for (path, kind) in entries(folder)? {
        if kind.is_dir() {
            // One that cannot be read is seen by its spool, if one is known.
            for (inner, kind) in entries(&path).unwrap_or_default() {
                if kind.is_file() {
                    found.extend(name(&inner));
                }
            }
        } else if kind.is_file() {
            found.extend(name(&path));
        }
    }
    Ok(found)
}

fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, std::fs::FileType)>> {
    std::fs::read_dir(folder)?
        .map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))))
        .collect()
}

/// `None` for a file of another name than `wanted`, and for a hidden one.
fn name(folder: &Path, path: &Path, wanted: &str) -> Option<String> {
    let without = |name: &str| name.strip_suffix(ASIDE).unwrap_or(name).to_owned();
    let is_wanted = without(path.file_name()?.to_str()?) == wanted;
    (is_wanted && !wanted.starts_with('.'))
        .then(|| path.strip_prefix(folder).ok()?.to_str().map(without))
        .flatten()
}
