//! Counting, in a host without counters: a line in a file that only grows, which the companion reads.
//!
//! One line for each request answered here, and one when an instance starts:
//!
//! ```text
//! 1 ⇥ generation ⇥ lines lost before ⇥ name ⇥ name …
//! ```
//!
//! Names are those of [`farebox_core::metrics::host_name`], each to be counted once; they hold no tab, as
//! control characters in them are escaped. Opened, appended to in one call, and closed: lines of concurrent
//! instances do not tear, and the reader can move the file away at any time.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::{self, Write};

use farebox_core::metrics::{HostSeries, host_name};
use http_wasm_guest::host::log;

use crate::{ERROR, config};

/// Version of the line's format.
const FORMAT: u32 = 1;
/// Longest line, with its end: what is known to be appended in one piece.
const MAX_LINE: usize = 4096;

/// Where this instance counts.
pub(crate) struct Spool {
    settings: config::Spool,
    generation: u64,
    /// Lines that could not be written since the last one that was. It dies with the instance.
    lost: Cell<u64>,
}

// === impl Spool ===

impl Spool {
    pub(crate) const fn new(settings: config::Spool, generation: u64) -> Self {
        Self { settings, generation, lost: Cell::new(0) }
    }

    /// Counts each series once.
    pub(crate) fn write(&self, series: &[HostSeries]) {
        let lost = self.lost.get();
        match self.append(&self.line(lost, series)) {
            Ok(()) => self.lost.set(0),
            Err(error) => {
                // Said once for each run of losses, not once for each request.
                if lost == 0 {
                    let file = &self.settings.file;
                    log::write(ERROR, format!("farebox: cannot count in {file}: {error}").as_bytes());
                }
                self.lost.set(lost.saturating_add(1));
            }
        }
    }

    fn line(&self, lost: u64, series: &[HostSeries]) -> String {
        let mut line = format!("{FORMAT}\t{}\t{lost}", self.generation);
        for series in series {
            line.push('\t');
            line.push_str(&host_name(series));
        }
        line.push('\n');
        line
    }

    fn append(&self, line: &str) -> io::Result<()> {
        if line.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the line is too long"));
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&self.settings.file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        if metadata.len() >= self.settings.max_bytes {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "it has its full size and nobody reads it",
            ));
        }
        if file.write(line.as_bytes())? != line.len() {
            return Err(io::Error::new(io::ErrorKind::WriteZero, "a line was cut"));
        }
        Ok(())
    }
}
