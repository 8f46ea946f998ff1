//! A small companion that takes reports and counts each once.

use farebox_core::metrics::{Counted, MetricSeries, Received, Standing, grow};
use std::collections::BTreeMap;

#[derive(Default)]
pub(crate) struct Companion {
    pub(crate) counters: BTreeMap<MetricSeries, u64>,
    /// By VM.
    pub(crate) standings: BTreeMap<String, Standing>,
    /// The number of the last report, by reporter.
    reporters: BTreeMap<String, u64>,
}

impl Companion {
    pub(crate) fn take(&mut self, report: Received) {
        let Received { standing, counted } = report;
        self.standings.insert(standing.vm.clone(), standing);
        let Some(Counted { reporter, sequence, changes, malformed }) = counted else { return };
        assert_eq!(malformed, 0, "a report the companion cannot read");
        let last = self.reporters.entry(reporter).or_default();
        if sequence <= *last {
            return;
        }
        assert_eq!(sequence, *last + 1, "a report was left out");
        *last = sequence;
        for (series, by) in changes {
            let is_time = series.is_time();
            grow(self.counters.entry(series).or_default(), by, is_time);
        }
    }
}
