//! Counting in a spool as the plugin does, for the tests of its reader.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use farebox_core::metrics::{HostSeries, SpoolLine};
use tracing::error;

/// Appends to a spool.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    path: PathBuf,
    max_bytes: u64,
    /// Lines that could not be written since the last one that was.
    lost: AtomicU64,
}

// === impl SpoolWriter ===

impl SpoolWriter {
    /// A writer of a file in a spool folder, which nothing grows beyond `max_bytes`.
    pub(super) const fn new(path: PathBuf, max_bytes: u64) -> Self {
        Self { path, max_bytes, lost: AtomicU64::new(0) }
    }

    /// Counts what one request counts, see [`farebox_core::metrics::series_of`]. A failure fails no request: the
    /// next line says how many are missing.
    pub(super) fn write(&self, generation: u64, series: &[(HostSeries, u64)]) {
        if series.is_empty() {
            return;
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if let Err(error) = self.append(generation, lost, series) {
            // Said once for each run of losses, not once for each request.
            if lost == 0 {
                error!("cannot count in {}: {error}", self.path.display());
            }
            self.lost.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
        }
    }

    fn append(&self, generation: u64, lost: u64, series: &[(HostSeries, u64)]) -> io::Result<()> {
        let line = SpoolLine::encode(generation, lost, series.iter().map(|(series, by)| (series, *by)))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        // Opened for each line: the reader may have moved the file away.
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        if metadata.len() >= self.max_bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "it is full and nobody reads it"));
        }
        if file.write(line.as_bytes())? != line.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "a line was cut"));
        }
        Ok(())
    }
}
