//! Spools as a source of metrics: files in which shells without counters that outlive them count.
//!
//! Every file of the spools' name in the folder and in its subfolders is a spool, named by its path from there: one for
//! each Traefik, each of which mounts a folder of its own. Other files are none: a copy would be counted again. The companion's gateway has one besides.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::aggregate::{Process, Refused, Report};
use crate::ledger::{Ledger, LedgerError, Spooled, TotalsOf};
use crate::settings::SpoolSettings;
use crate::state::{Shared, unix_seconds};

use reader::{ASIDE, Reader, Step};

pub use reader::SpoolError;
pub use writer::SpoolWriter;

/// A spool, as `/status` and the metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolState {
    /// Path from the spool folder, or [`GATEWAY_SPOOL`].
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

/// All spools of a companion.
#[derive(Debug)]
pub struct Spools {
    totals: TotalsOf,
    folder: Option<SpoolSettings>,
    /// The gateway's.
    own: Option<PathBuf>,
    readers: Mutex<Readers>,
    state: Shared,
}

#[derive(Debug, Default)]
struct Readers {
    /// With what the last attempt to read failed with.
    by_name: BTreeMap<String, (Reader, Option<String>)>,
    /// The generation whose keep-set all counters belong to.
    tidied: Option<u64>,
}

/// Name of the gateway's spool; no file of the folder has it, as hidden ones are no spools.
pub const GATEWAY_SPOOL: &str = ".gateway";
/// Nothing is written to the gateway's spool beyond this size.
pub const GATEWAY_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Steps of one spool in one reading, so that none keeps the others waiting.
const MAX_STEPS: usize = 64;
/// A spool is moved aside at this share of its greatest size.
const ROTATE_SHARE: u64 = 4;

// === impl Spools ===

impl Spools {
    /// The spools of a folder, and that of the gateway, from where the ledger says they were read to.
    pub async fn open(
        ledger: &Ledger,
        totals: TotalsOf,
        folder: Option<SpoolSettings>,
        own: Option<PathBuf>,
        state: Shared,
    ) -> Result<Self, LedgerError> {
        let spools = Self { totals, folder, own, readers: Mutex::default(), state };
        let mut known = ledger.spools().await?;
        if spools.own.is_some() {
            known.entry(GATEWAY_SPOOL.to_owned()).or_default();
        }
        let readers = known.into_iter().filter_map(|(name, known)| {
            let reader = spools.reader(&name, known)?;
            Some((name, (reader, None)))
        });
        let readers = Readers { by_name: readers.collect(), tidied: None };
        Ok(Self { readers: Mutex::new(readers), ..spools })
    }

    /// Reads all of them, and shows what is in the ledger. Returns what the aggregate refused, by source.
    pub async fn read(&self) -> Vec<(String, Vec<Refused>)> {
        let mut readers = self.readers.lock().await;
        let folder_error = self.look(&mut readers).err();
        for (name, (reader, last_error)) in &mut readers.by_name {
            let error = read(reader).await.err().map(|error| error.to_string());
            if let Some(error) = error.as_ref().filter(|error| last_error.as_ref() != Some(*error)) {
                warn!(spool = name, "this spool cannot be read: {error}");
            }
            *last_error = error;
        }
        let refused = self.show(&readers.by_name, folder_error);
        self.tidy(&mut readers).await;
        refused
    }

    /// Begins to read what is new in the folder.
    fn look(&self, readers: &mut Readers) -> Result<(), String> {
        let Some(SpoolSettings { folder, file, .. }) = &self.folder else { return Ok(()) };
        let found = find(folder, file)
            .map_err(|error| format!("the spool folder {} cannot be read: {error}", folder.display()))?;
        for name in found {
            if !readers.by_name.contains_key(&name)
                && let Some(reader) = self.reader(&name, Spooled::default())
            {
                info!(spool = name, "spool found");
                readers.by_name.insert(name, (reader, None));
            }
        }
        Ok(())
    }

    /// `None` for a spool whose place is not known any more.
    fn reader(&self, name: &str, known: Spooled) -> Option<Reader> {
        let (path, max_bytes) = if name == GATEWAY_SPOOL {
            (self.own.clone()?, GATEWAY_MAX_BYTES)
        } else {
            let SpoolSettings { folder, max_bytes, .. } = self.folder.as_ref()?;
            (folder.join(name), *max_bytes)
        };
        Some(Reader::new(self.totals.clone(), name.to_owned(), path, max_bytes / ROTATE_SHARE, known))
    }

    /// Lets go of counters of offers that are gone, once for each set of rules: what is still counted under them is
    /// refused, and no total misses it.
    async fn tidy(&self, readers: &mut Readers) {
        let (generation, gone) = {
            let counted = self.state.counted();
            let generation = self.state.lock().active.as_ref().map(|active| active.generation);
            if generation.is_none() || readers.tidied == generation {
                return;
            }
            let gone = |(name, (reader, _)): (&String, &(Reader, Option<String>))| {
                let counters = reader.known().counters.keys();
                let gone = counters.filter(|series| !counted.keeps(series)).cloned();
                (name.clone(), gone.collect::<BTreeSet<_>>())
            };
            (generation, readers.by_name.iter().map(gone).collect::<Vec<_>>())
        };
        for (name, gone) in gone {
            let Some((reader, _)) = readers.by_name.get_mut(&name) else { continue };
            if let Err(error) = reader.forget(gone).await {
                warn!(spool = name, "counters of removed offers cannot be deleted: {error}");
                return;
            }
        }
        readers.tidied = generation;
    }

    fn show(
        &self,
        readers: &BTreeMap<String, (Reader, Option<String>)>,
        folder_error: Option<String>,
    ) -> Vec<(String, Vec<Refused>)> {
        let mut counted = self.state.counted();
        let mut state = self.state.lock();
        state.spool_error = folder_error;
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
        drop(state);
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
            let refused = counted.ingest(&source, report);
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
