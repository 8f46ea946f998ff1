//! Reading one spool, each line exactly once.
//!
//! The file is the truth. The ledger counts lines in the transaction that says how far the file was read, under a number
//! that counts once. So whenever the companion ends, the next one goes on behind the last line that counts; and telling
//! the same twice changes nothing.
//!
//! A file is known by its first line, which no other has. So one that was read before is known wherever it is met: moved,
//! it is read on; copied or put back, what is in it is not counted again, and that is said.
//!
//! A file that has grown is moved aside. Writers look for each line which file the path leads to, so once one has
//! been still for a while it has its last line: it is marked as read to its end, and removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use farebox_core::metrics::{MAX_SPOOL_LINE, MetricSeries, SpoolLine};
use tracing::{info, warn};

use crate::counts::Counts;
use crate::handle::Handle;
use crate::ledger::{Checkpoint, FileMark, LedgerError, SpoolFile, SpoolsOf};

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
    /// Another spool has the file.
    #[error("it is the file of {0}: it is not counted twice, remove one")]
    Twin(String),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// One thing that lasts. There may be more to do.
    Done,
    /// Nothing, for the time being.
    Idle,
    /// Nothing: there is a file that was not read here. See [`Reader::meet`].
    Meets(FileMark),
}

/// Another spool that is reading the same file, or a copy of it.
#[derive(Debug, Clone)]
pub(super) struct Twin {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// Reads one spool.
#[derive(Debug)]
pub(super) struct Reader {
    ledger: SpoolsOf,
    counted: Handle<Counts>,
    name: String,
    path: PathBuf,
    aside: PathBuf,
    /// A file of this size is moved aside.
    rotate_at: u64,
    known: Checkpoint,
    /// Size of the file that was moved aside, and since when.
    still: Option<(u64, Instant)>,
    /// What is wrong with the file that is read now.
    notice: Option<String>,
}

/// A file that is there, with a whole first line.
struct Found {
    file: File,
    mark: FileMark,
    size: u64,
}

/// The file to read.
struct Source {
    file: File,
    mark: FileMark,
    size: u64,
    is_aside: bool,
    may_rotate: bool,
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
        counted: Handle<Counts>,
        name: String,
        path: PathBuf,
        rotate_at: u64,
        known: Checkpoint,
    ) -> Self {
        let mut aside = path.clone().into_os_string();
        aside.push(ASIDE.to_string());
        Self { ledger, counted, name, path, aside: aside.into(), rotate_at, known, still: None, notice: None }
    }

    pub(super) const fn known(&self) -> &Checkpoint {
        &self.known
    }

    /// What is wrong with the file that is read now.
    pub(super) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Where it is, if it is reading this file and that is there still.
    pub(super) fn has(&self, file: FileMark) -> Result<Option<Twin>, SpoolError> {
        for path in [&self.path, &self.aside] {
            if self.known.file == Some(file) && self.find(path)?.is_some_and(|found| found.mark == file) {
                return Ok(Some(Twin { name: self.name.clone(), path: path.clone() }));
            }
        }
        Ok(None)
    }

    /// Another spool goes on with this file.
    pub(super) async fn give_up(&mut self, file: FileMark) -> Result<(), SpoolError> {
        if self.known.file == Some(file) {
            self.save(Checkpoint { file: None, read_to: 0, retired: false, ..self.known }).await?;
        }
        Ok(())
    }

    /// Does at most one thing that outlives the companion.
    pub(super) async fn step(&mut self, now: Instant) -> Result<Step, SpoolError> {
        if self.known.retired {
            return self.remove().await;
        }
        let Some(mut source) = self.source()? else { return Ok(Step::Idle) };
        if self.known.file != Some(source.mark) {
            return Ok(Step::Meets(source.mark));
        }
        if self.known.read_to > source.size {
            let why = "was cut, or an older copy of it was put back: lines that were not read are lost";
            self.go_on_at(source.size, &source, Some(why.to_owned())).await?;
            return Ok(Step::Done);
        }
        let batch = self.lines(&mut source)?;
        if !batch.is_empty() {
            return self.count(&source, &batch).await;
        }
        if source.is_aside {
            return self.retire(&source, now).await;
        }
        if source.may_rotate && self.known.read_to >= self.rotate_at {
            fs::rename(&self.path, &self.aside).map_err(|error| self.failed(&self.path, error))?;
            return Ok(Step::Done);
        }
        Ok(Step::Idle)
    }

    /// Begins with a file that was not read here. One that the ledger knows is read on where it was moved; of a copy only
    /// what is added to it from now on counts.
    pub(super) async fn meet(&mut self, file: FileMark, twin: Option<Twin>) -> Result<(), SpoolError> {
        let Some(source) = self.source()?.filter(|source| source.mark == file) else { return Ok(()) };
        let path = self.path_of(source.is_aside);
        if let Some(twin) = &twin
            && is_same(path, &twin.path)
        {
            return Err(SpoolError::Twin(twin.name.clone()));
        }
        let Some(seen) = self.ledger.file(file).await? else {
            if self.known.file.is_some() {
                warn!("the spool {} was replaced; lines that were not read are lost", path.display());
            }
            self.known = Checkpoint { file: Some(file), read_to: 0, ..self.known };
            self.notice = None;
            return Ok(());
        };
        let SpoolFile { companion, spool, read_to } = seen;
        let is_whole = source.size >= read_to;
        if let Some(Twin { name, .. }) = twin {
            let why = format!(
                "is a copy of the spool {name}: what was in it is not counted again; let each Traefik begin with a folder \
                 of its own that is empty"
            );
            return self.go_on_at(source.size, &source, Some(why)).await;
        }
        let is_moved = is_whole && spool != self.name && companion == self.ledger.companion();
        if is_moved {
            info!(spool = self.name, before = spool, "spool found that has a new name");
            return self.go_on_at(read_to, &source, None).await;
        }
        let why = format!(
            "was read before, as the spool {spool} of the companion {companion}, and is here again: what was in it is not \
             counted again"
        );
        self.go_on_at(read_to.min(source.size), &source, Some(why)).await
    }

    fn path_of(&self, is_aside: bool) -> &Path {
        if is_aside { &self.aside } else { &self.path }
    }

    /// The file that was moved aside comes first: what is in it is older.
    fn source(&self) -> Result<Option<Source>, SpoolError> {
        let is_known =
            |found: &Option<Found>| found.as_ref().is_some_and(|found| Some(found.mark) == self.known.file);
        let (aside, current) = (self.find(&self.aside)?, self.find(&self.path)?);
        let may_rotate = !self.aside.exists();
        let is_foreign = !is_known(&aside) && is_known(&current);
        let is_aside = aside.is_some() && !is_foreign;
        let found = if is_aside { aside } else { current };
        Ok(found.map(|Found { file, mark, size }| Source { file, mark, size, is_aside, may_rotate }))
    }

    /// The file at `path`, if there is one and its first line has ended.
    fn find(&self, path: &Path) -> Result<Option<Found>, SpoolError> {
        let found = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => File::open(path).and_then(found),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map_err(|error| self.failed(path, error)),
        }
    }

    /// Goes on there in a file. A line before that may be counted already.
    async fn go_on_at(
        &mut self,
        read_to: u64,
        source: &Source,
        why: Option<String>,
    ) -> Result<(), SpoolError> {
        let path = self.path_of(source.is_aside).display().to_string();
        self.save(Checkpoint { file: Some(source.mark), read_to, ..self.known }).await?;
        self.notice = why.map(|why| format!("{path} {why}"));
        Ok(())
    }

    /// The bytes of whole lines behind what is known.
    fn lines(&self, source: &mut Source) -> Result<Vec<u8>, SpoolError> {
        let path = self.path_of(source.is_aside);
        let mut read = Vec::new();
        let result = source
            .file
            .seek(SeekFrom::Start(self.known.read_to))
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
        let Some(dropped) = self.counted.lock().sift(&mut changes, false) else { return Ok(Step::Idle) };
        checkpoint.read_to += batch.len() as u64;
        checkpoint.sequence += u64::from(!changes.is_empty());
        self.secure(source).await?;
        self.known = if self.ledger.save_spool(&self.name, &checkpoint, changes).await? {
            self.counted.lock().drop_more(dropped);
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
        let mut checkpoint = Checkpoint { read_to: source.size, retired: true, ..self.known };
        // A line that will never end.
        checkpoint.malformed += u64::from(self.known.read_to < source.size);
        self.save(checkpoint).await?;
        self.still = None;
        Ok(Step::Done)
    }

    /// Removes the file that was read to its end.
    async fn remove(&mut self) -> Result<Step, SpoolError> {
        if self.find(&self.aside)?.is_some_and(|found| Some(found.mark) == self.known.file) {
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

    fn failed(&self, path: &Path, error: io::Error) -> SpoolError {
        SpoolError::File(path.to_owned(), error)
    }
}

fn found(mut file: File) -> io::Result<Option<Found>> {
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    BufReader::new((&mut file).take(MAX_SPOOL_LINE as u64)).read_until(b'\n', &mut head)?;
    // A line that never ends is as good.
    let is_whole = head.ends_with(b"\n") || head.len() == MAX_SPOOL_LINE;
    Ok(is_whole.then(|| Found { mark: FileMark::of(&head), file, size }))
}

/// Whether two names are of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    id(one).is_some_and(|one| id(other) == Some(one))
}
