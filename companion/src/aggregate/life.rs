//! One process of a proxy, and what it has counted.

use std::collections::HashMap;

use farebox_core::metrics::HostSeries;

use super::process::Process;
use super::store::Report;

/// A process, whether it still runs or not.
#[derive(Debug)]
pub(super) struct Life {
    /// Number within its source.
    pub(super) id: u64,
    pub(super) process: Process,
    /// Unix seconds of its last reading.
    pub(super) read_at: u64,
    /// Its counters were folded into the sum of those that are over.
    pub(super) folded: bool,
    pub(super) live: HashMap<HostSeries, Contribution>,
    /// Last seen values of series that are not counted: only growth beyond them is news.
    pub(super) refused: HashMap<HostSeries, u64>,
    pub(super) malformed: HashMap<String, u64>,
}

/// A process adds `last - baseline` to a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contribution {
    pub(super) last: u64,
    pub(super) baseline: u64,
}

// === impl Contribution ===

impl Contribution {
    /// A gauge: it was seen and adds nothing.
    pub(super) const fn nothing(last: u64) -> Self {
        Self { last, baseline: last }
    }

    pub(super) fn value(self) -> u128 {
        u128::from(self.last.saturating_sub(self.baseline))
    }
}

// === impl Life ===

impl Life {
    pub(super) fn new(id: u64, process: Process, read_at: u64) -> Self {
        Self {
            id,
            process,
            read_at,
            folded: false,
            live: HashMap::new(),
            refused: HashMap::new(),
            malformed: HashMap::new(),
        }
    }

    /// The one among those of a source that a reading came from, or a new one. Beside it whether it starts
    /// over with this reading.
    pub(super) fn of<'a>(lives: &'a mut Vec<Self>, report: &Report) -> (&'a mut Self, bool) {
        let near = |life: &Self| life.process.distance(&report.process);
        let known = lives.iter().enumerate().filter_map(|(index, life)| Some((near(life)?, index))).min();
        let is_new = known.is_none();
        let index = known.map_or_else(
            || {
                let id = lives.iter().map(|life| life.id + 1).max().unwrap_or(0);
                let mut life = Self::new(id, report.process, report.read_at);
                if report.process.inherits {
                    life.take_over(lives, report);
                }
                lives.push(life);
                lives.len() - 1
            },
            |(_, index)| index,
        );
        let life = &mut lives[index];
        life.process.refine(&report.process);
        life.read_at = report.read_at;
        let was_folded = std::mem::take(&mut life.folded);
        if was_folded {
            life.ignore(report, |_, value| value);
        }
        (life, is_new || was_folded)
    }

    /// After a hot restart the new process begins with what the old one had counted since it last flushed its
    /// statistics. Nobody tells how much of that was read from the old one already, so as much as may have
    /// been is not counted again.
    fn take_over(&mut self, lives: &[Self], report: &Report) {
        let before = lives.iter().filter(|life| life.process.restart_epoch < report.process.restart_epoch);
        let Some(before) = before.max_by_key(|life| (life.read_at, life.id)) else { return };
        if before.folded {
            self.ignore(report, |_, value| value);
            return;
        }
        let shown = |series: &HostSeries| {
            let counted = before.live.get(series).map(|contribution| contribution.last);
            counted.or_else(|| before.refused.get(series).copied()).unwrap_or(0)
        };
        self.ignore(report, |series, value| value.min(shown(series)));
    }

    /// Starts from these values of a reading.
    fn ignore(&mut self, report: &Report, from: impl Fn(&HostSeries, u64) -> u64) {
        let values = report.values.iter().map(|(series, value)| (series.clone(), from(series, *value)));
        self.refused = values.collect();
        self.malformed = report.malformed.iter().cloned().collect();
    }
}

/// What a process contributes after showing `value`. A series not counted until now (`forgotten` holds what it
/// showed then) starts from there; one that went down was reset and starts from nothing. A lasting source is not
/// reset: its database went back, and nothing is new until it is where it was.
pub(super) fn next(
    known: Option<Contribution>,
    forgotten: Option<u64>,
    value: u64,
    lasting: bool,
    end: impl FnOnce(Contribution),
) -> Contribution {
    match known {
        Some(known) if value >= known.last => Contribution { last: value, ..known },
        Some(known) if lasting => known,
        Some(known) => {
            end(known);
            Contribution { last: value, baseline: 0 }
        }
        None => {
            let before = forgotten.map(|before| if lasting { before.min(value) } else { before });
            Contribution { last: value, baseline: before.filter(|before| *before <= value).unwrap_or(0) }
        }
    }
}
