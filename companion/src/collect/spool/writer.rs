//! Counting in a spool, as the plugin does in its own.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use farebox_core::metrics::{HostSeries, SpoolLine};
use tracing::error;

use crate::paths::folder_of;

/// Appends to a spool.
///
/// A line is in the system's hands once it is written: it outlives the process, whoever kills it.
#[derive(Debug)]
pub struct SpoolWriter {
    path: PathBuf,
    max_bytes: u64,
    /// The file the path led to last, with what tells it from others while it is open.
    open: RwLock<((u64, u64), Arc<File>)>,
    /// Lines that could not be written since the last one that was.
    lost: AtomicU64,
    /// The file ends within a line, which the next one must not be taken for the rest of.
    torn: AtomicBool,
}

// === impl SpoolWriter ===

impl SpoolWriter {
    /// A writer of a file, which nothing grows beyond `max_bytes`. Creates it, and its folder, so that what is wrong
    /// with its place is known before there is anything to count.
    pub fn open(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        if path.exists() && !path.is_file() {
            return Err(not_a_file());
        }
        let folder = folder_of(&path);
        if !folder.exists() {
            std::fs::create_dir(folder)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let torn = AtomicBool::new(!ends_whole(&file)?);
        let open = RwLock::new((identity(&file.metadata()?), Arc::new(file)));
        Ok(Self { path, max_bytes, open, lost: AtomicU64::new(0), torn })
    }

    /// Counts what one request counts, see [`farebox_core::metrics::series_of`]. A failure fails no request: the
    /// next line says how many are missing.
    pub fn write(&self, generation: u64, series: &[(HostSeries, u64)]) {
        if series.is_empty() {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let counts = series.iter().map(|(series, by)| (series, *by));
        let Ok(line) = SpoolLine::encode(generation, lost, counts) else {
            self.lost.fetch_add(lost, Ordering::Relaxed);
            return self.write_in_parts(generation, series);
        };
        if let Err(error) = self.append(line) {
            self.lose(lost, &error);
        }
    }

    /// Offers may have names of any length.
    fn write_in_parts(&self, generation: u64, series: &[(HostSeries, u64)]) {
        if let [_] = series {
            self.lose(0, &io::Error::new(io::ErrorKind::InvalidInput, "the names of an offer are too long"));
            return;
        }
        let (first, second) = series.split_at(series.len() / 2);
        self.write(generation, first);
        self.write(generation, second);
    }

    fn append(&self, mut line: String) -> io::Result<()> {
        let file = self.file()?;
        let was_torn = self.torn.swap(false, Ordering::Relaxed);
        if was_torn {
            line.insert(0, '\n');
        }
        match file.as_ref().write(line.as_bytes()) {
            Ok(length) if length == line.len() => Ok(()),
            Ok(_) => {
                self.torn.store(true, Ordering::Relaxed);
                Err(io::Error::new(io::ErrorKind::WriteZero, "a line was cut"))
            }
            Err(error) => {
                self.torn.fetch_or(was_torn, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// The file the path leads to now: the reader may have moved away what was open.
    fn file(&self) -> io::Result<Arc<File>> {
        if let Ok(metadata) = std::fs::metadata(&self.path) {
            self.check(&metadata)?;
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if open.0 == identity(&metadata) {
                return Ok(open.1.clone());
            }
        }
        let file = Arc::new(OpenOptions::new().append(true).create(true).open(&self.path)?);
        let metadata = file.metadata()?;
        self.check(&metadata)?;
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = (identity(&metadata), file.clone());
        Ok(file)
    }

    fn check(&self, metadata: &Metadata) -> io::Result<()> {
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        if metadata.len() >= self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "it is full and nobody reads it"));
        }
        Ok(())
    }

    fn lose(&self, before: u64, error: &io::Error) {
        // Said once for each run of losses, not once for each request.
        if self.lost.fetch_add(before.saturating_add(1), Ordering::Relaxed) == 0 && before == 0 {
            error!("cannot count in {}: {error}", self.path.display());
        }
    }
}

/// No other file has these numbers as long as this one is open.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn ends_whole(mut file: &File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

#[cfg(test)]
mod tests {
    use farebox_core::metrics::TupleCounter;

    use std::path::Path;

    use super::*;
    use crate::testing::tuple;

    const MAX: u64 = 1 << 20;

    fn counted(offer: &str) -> (HostSeries, u64) {
        (HostSeries::Tuple(tuple("ns", offer, 1), TupleCounter::PaymentRequired), 1)
    }

    /// What a reader makes of the file: the series of each line, or nothing of one that cannot be read.
    fn lines(path: &Path) -> Vec<Option<SpoolLine>> {
        std::fs::read_to_string(path).unwrap().lines().map(SpoolLine::decode).collect()
    }

    #[test]
    fn what_a_killed_process_left_of_a_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let whole = SpoolLine::encode(1, 0, [(&counted("a").0, 1)]).unwrap();
        for (left, expected) in
            [(whole.clone(), [true, true, true]), (whole[..9].to_owned(), [false, true, true])]
        {
            std::fs::write(&path, left).unwrap();
            let writer = SpoolWriter::open(path.clone(), MAX).unwrap();
            writer.write(1, &[counted("a")]);
            writer.write(1, &[counted("a")]);
            assert_eq!(lines(&path).iter().map(Option::is_some).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_is_too_long_for_one_line_goes_in_several_and_what_is_for_any_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let writer = SpoolWriter::open(path.clone(), MAX).unwrap();
        let long = |letter: &str| counted(&letter.repeat(1_000));
        let all = ["a", "b", "c", "d", "e", "f", "g"].map(long);
        writer.write(1, &all);
        let read: Vec<_> = lines(&path).into_iter().flat_map(|line| line.unwrap().series).collect();
        assert_eq!(read, all);
        writer.write(1, &[counted("h"), counted(&"x".repeat(5_000)), counted("i")]);
        writer.write(1, &[counted("j")]);
        let last = lines(&path).split_off(3).into_iter().map(Option::unwrap);
        let told: Vec<_> = last.map(|line| (line.series.len(), line.lost)).collect();
        assert_eq!(told, [(1, 0), (1, 1), (1, 0)]);
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for place in ["", "missing/deep/s"] {
            assert!(SpoolWriter::open(folder.path().join(place), MAX).is_err(), "{place:?}");
        }
        assert!(SpoolWriter::open(folder.path().join("own/s"), MAX).is_ok());
    }
}
