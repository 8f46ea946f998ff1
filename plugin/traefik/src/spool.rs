//! Counting, in a host without counters: a line in a file that only grows, which the companion reads (see
//! [`SpoolLine`]).
//!
//! There is one line for each request that the guest answers, and one when an instance starts. The guest
//! opens the file, appends in one call and closes it, so the reader can move the file away at any time.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use farebox_core::metrics::{MetricSeries, SpoolLine};
use http_wasm_guest::host::log;

use crate::{ERROR, config};

/// The file in which this instance counts.
pub(crate) struct Spool {
    settings: config::Spool,
    generation: u64,
    /// Number of lines that could not be written since the last written one. It is lost with the instance.
    lost: Cell<u64>,
}

// === impl Spool ===

impl Spool {
    pub(crate) const fn new(settings: config::Spool, generation: u64) -> Self {
        Self { settings, generation, lost: Cell::new(0) }
    }

    /// Counts each series once.
    pub(crate) fn write(&self, series: &[MetricSeries]) {
        let lost = self.lost.get();
        match self.append(lost, series) {
            Ok(()) => self.lost.set(0),
            Err(error) => {
                // The log has one line for each series of losses, not one for each request.
                if lost == 0 {
                    let file = &self.settings.file;
                    log::write(ERROR, format!("farebox: cannot count in {file}: {error}").as_bytes());
                }
                self.lost.set(lost.saturating_add(1));
            }
        }
    }

    fn append(&self, lost: u64, series: &[MetricSeries]) -> io::Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let line = SpoolLine::encode(time, self.generation, lost, series.iter().map(|series| (series, 1)))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut file = OpenOptions::new().append(true).create(true).open(&self.settings.file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        if metadata.len() >= self.settings.max_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "the spool has its full size and no companion reads it",
            ));
        }
        if file.write(line.as_bytes())? != line.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "a line was cut"));
        }
        Ok(())
    }
}
