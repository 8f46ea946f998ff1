//! Reading one spool, each line exactly once.
//!
//! The file is the truth. The ledger counts lines in the transaction that says how far the file was read, under a number
//! that counts once. So whenever the companion ends, the next one goes on behind the last line that counts; and telling
//! the same twice changes nothing.
//!
//! A file that has grown is moved aside. Writers look for each line which file the path leads to, so once one has
//! been still for a while it has its last line: it is marked as read to its end, and removed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use farebox_core::metrics::{MetricSeries, SpoolLine};
use tracing::warn;

use crate::ledger::{Checkpoint, FileId, LedgerError, SpoolsOf};
use crate::state::Shared;

/// Ends the name of a file that was moved aside.
pub(super) const ASIDE: char = '~';

/// Why a spool cannot be read. What is in it is read later.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The ledger.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// One thing that lasts. There may be more to do.
    Done,
    /// Nothing, for the time being.
    Idle,
}

/// Reads one spool.
#[derive(Debug)]
pub(super) struct Reader {
    ledger: SpoolsOf,
    state: Shared,
    name: String,
    path: PathBuf,
    aside: PathBuf,
    /// A file of this size is moved aside.
    rotate_at: u64,
    known: Checkpoint,
    /// Size of the file that was moved aside, and since when.
    still: Option<(u64, Instant)>,
}

/// The file to read, and where.
struct Source {
    file: File,
    id: FileId,
    size: u64,
    from: u64,
    is_aside: bool,
    may_rotate: bool,
    /// It is shorter than what was read of it.
    is_cut: bool,
}

/// How long a file that was moved aside has to be still.
pub(super) const STILL: Duration = Duration::from_secs(2);
/// Bytes read in one step.
const BATCH: u64 = 1024 * 1024;

// === impl Reader ===

impl Reader {
    /// Goes on where `known` ends.
    pub(super) fn new(
        ledger: SpoolsOf,
        state: Shared,
        name: String,
        path: PathBuf,
        rotate_at: u64,
        known: Checkpoint,
    ) -> Self {
        let mut aside = path.clone().into_os_string();
        aside.push(ASIDE.to_string());
        Self { ledger, state, name, path, aside: aside.into(), rotate_at, known, still: None }
    }

    pub(super) const fn known(&self) -> &Checkpoint {
        &self.known
    }

    /// Where to go on in the file at `path`, if it is the one that was read here under another name.
    pub(super) fn knows(&self, path: &Path) -> Option<Checkpoint> {
        let file = self.known.file.filter(|known| is_at(*known, path))?;
        Some(Checkpoint { file: Some(file), read_to: self.known.read_to, ..Checkpoint::default() })
    }

    /// Whether the file that was read last still has its name.
    pub(super) fn is_there(&self) -> bool {
        self.known.file.is_some_and(|known| is_at(known, &self.path) || is_at(known, &self.aside))
    }

    /// Does at most one thing that outlives the companion.
    pub(super) async fn step(&mut self, now: Instant) -> Result<Step, SpoolError> {
        if self.known.retired {
            return self.remove().await;
        }
        let Some(mut source) = self.source()? else { return Ok(Step::Idle) };
        if source.is_cut {
            return self.go_on(&source).await;
        }
        let batch = self.lines(&mut source)?;
        if !batch.is_empty() {
            return self.count(&source, &batch).await;
        }
        if source.is_aside {
            return self.retire(&source, now).await;
        }
        if source.may_rotate && source.from >= self.rotate_at {
            fs::rename(&self.path, &self.aside).map_err(|error| self.failed(&self.path, error))?;
            return Ok(Step::Done);
        }
        Ok(Step::Idle)
    }

    fn path_of(&self, is_aside: bool) -> &Path {
        if is_aside { &self.aside } else { &self.path }
    }

    /// The file that was moved aside comes first: what is in it is older.
    fn source(&self) -> Result<Option<Source>, SpoolError> {
        let known = self.known.file;
        let is_known = |id: FileId| known.is_some_and(|known| known.is(id));
        let (aside, current) = (self.identify(&self.aside)?, self.identify(&self.path)?);
        let is_foreign = aside.is_some_and(|id| !is_known(id)) && current.is_some_and(is_known);
        let is_aside = aside.is_some() && !is_foreign;
        let path = self.path_of(is_aside);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(path, error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed(path, error))?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let (id, size) = (identity(&metadata), metadata.len());
        let from = match known {
            Some(known) if known.is(id) => self.known.read_to,
            Some(_) => {
                warn!("the spool {} was replaced; lines that were not read are lost", path.display());
                0
            }
            None => 0,
        };
        Ok(Some(Source { file, id, size, from, is_aside, may_rotate: aside.is_none(), is_cut: from > size }))
    }

    /// Goes on at the end of a file that was cut. A line that is left in it may be counted already.
    async fn go_on(&mut self, source: &Source) -> Result<Step, SpoolError> {
        let path = self.path_of(source.is_aside);
        warn!("the spool {} was cut; lines that were not read are lost", path.display());
        let checkpoint = Checkpoint { read_to: source.size, ..self.known };
        self.ledger.save_spool(&self.name, &checkpoint, BTreeMap::new()).await?;
        self.known = checkpoint;
        Ok(Step::Done)
    }

    /// The bytes of whole lines behind what is known.
    fn lines(&self, source: &mut Source) -> Result<Vec<u8>, SpoolError> {
        let path = self.path_of(source.is_aside);
        let mut read = Vec::new();
        let result = source
            .file
            .seek(SeekFrom::Start(source.from))
            .and_then(|_| (&mut source.file).take(BATCH).read_to_end(&mut read));
        result.map_err(|error| self.failed(path, error))?;
        // A line that has not ended is left for later, unless it never ends.
        let end = read.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let is_full = read.len() as u64 == BATCH;
        read.truncate(end.unwrap_or(if is_full { read.len() } else { 0 }));
        Ok(read)
    }

    /// Counts lines. Before rules were loaded nobody knows which of them may be counted: then they wait.
    async fn count(&mut self, source: &Source, batch: &[u8]) -> Result<Step, SpoolError> {
        let mut checkpoint = self.known;
        let mut changes: BTreeMap<MetricSeries, u64> = BTreeMap::new();
        for line in batch.strip_suffix(b"\n").unwrap_or(batch).split(|byte| *byte == b'\n') {
            let Some(line) = std::str::from_utf8(line).ok().and_then(SpoolLine::decode) else {
                checkpoint.malformed += 1;
                continue;
            };
            checkpoint.lost = checkpoint.lost.saturating_add(line.lost);
            for (series, by) in line.series {
                if series == MetricSeries::ConfigGeneration {
                    checkpoint.generation = checkpoint.generation.max(line.generation);
                    continue;
                }
                let value = changes.entry(series).or_default();
                *value = value.saturating_add(by);
            }
        }
        let Some(dropped) = self.state.counted().sift(&mut changes, false) else { return Ok(Step::Idle) };
        checkpoint.file = Some(source.id);
        checkpoint.read_to = source.from + batch.len() as u64;
        checkpoint.sequence += u64::from(!changes.is_empty());
        self.secure(source).await?;
        self.known = if self.ledger.save_spool(&self.name, &checkpoint, changes).await? {
            self.state.counted().drop_more(dropped);
            checkpoint
        } else {
            // A step that was given up has arrived.
            self.ledger.spool(&self.name).await?
        };
        Ok(Step::Done)
    }

    /// Lines that count must not end with the machine's power before the ledger's word that they do: what is
    /// left of the file would count once more.
    async fn secure(&self, source: &Source) -> Result<(), SpoolError> {
        let path = self.path_of(source.is_aside);
        let file = source.file.try_clone().map_err(|error| self.failed(path, error))?;
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        synced.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| self.failed(path, error))
    }

    /// Marks the file that was moved aside as read to its end, once it is still.
    async fn retire(&mut self, source: &Source, now: Instant) -> Result<Step, SpoolError> {
        let since = match self.still {
            Some((size, since)) if size == source.size => since,
            _ => {
                self.still = Some((source.size, now));
                now
            }
        };
        if now.saturating_duration_since(since) < STILL {
            return Ok(Step::Idle);
        }
        let mut checkpoint =
            Checkpoint { file: Some(source.id), read_to: source.size, retired: true, ..self.known };
        // A line that will never end.
        checkpoint.malformed += u64::from(source.from < source.size);
        self.save(checkpoint).await?;
        self.still = None;
        Ok(Step::Done)
    }

    /// Removes the file that was read to its end; once it is gone, a file with its number is another.
    async fn remove(&mut self) -> Result<Step, SpoolError> {
        let retired = self.known.file;
        if self.identify(&self.aside)?.is_some_and(|id| retired.is_some_and(|retired| retired.is(id))) {
            fs::remove_file(&self.aside).map_err(|error| self.failed(&self.aside, error))?;
        } else {
            self.save(Checkpoint { file: None, read_to: 0, retired: false, ..self.known }).await?;
        }
        Ok(Step::Done)
    }

    async fn save(&mut self, checkpoint: Checkpoint) -> Result<(), SpoolError> {
        self.ledger.save_spool(&self.name, &checkpoint, BTreeMap::new()).await?;
        self.known = checkpoint;
        Ok(())
    }

    fn identify(&self, path: &Path) -> Result<Option<FileId>, SpoolError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| identity(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    fn failed(&self, path: &Path, error: io::Error) -> SpoolError {
        SpoolError::File(path.to_owned(), error)
    }
}

fn is_at(known: FileId, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| known.is(identity(&metadata)))
}

fn identity(metadata: &Metadata) -> FileId {
    let created = metadata.created().ok().and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    FileId {
        device: metadata.dev().cast_signed(),
        inode: metadata.ino().cast_signed(),
        created: created.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0),
    }
}
