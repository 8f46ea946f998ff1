//! What each process of each source contributes to each series.

use std::collections::{BTreeMap, HashMap};

use farebox_core::metrics::HostSeries;
use farebox_core::rules::Tuple;

use super::keep::{KeepSet, Verdict};
use super::life::{Contribution, Life, next};
use super::process::Process;

/// One reading of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The process that answered.
    pub process: Process,
    /// When, Unix seconds.
    pub read_at: u64,
    /// Every series with its cumulative value.
    pub values: Vec<(HostSeries, u64)>,
    /// Names that look like ours and cannot be read, with their values.
    pub malformed: Vec<(String, u64)>,
}

/// Why a value is not counted: `reason` of `reports_dropped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Its tuple or offer is gone.
    Pruned,
    /// It belongs to an earlier life of its tuple.
    StaleGeneration,
    /// Its name, or its line in a spool, cannot be read.
    Malformed,
    /// A line that could not be written to a spool.
    Lost,
}

/// A value that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: DropReason,
    /// What.
    pub series: HostSeries,
    /// By how much it had grown since it was last seen.
    pub growth: u64,
    /// The generation that removed its tuple, if known.
    pub removed_in: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    /// Processes by source. Several may answer at one address, one after the other or by turns.
    pub(super) sources: BTreeMap<String, Vec<Life>>,
    /// Contributions that are over: of counters that were reset and of processes not heard of for long.
    pub(super) retired: HashMap<HostSeries, u128>,
    /// Latest charge of each tuple (with its birth), Unix seconds.
    pub(super) latest: HashMap<Tuple, u64>,
    pub(super) dropped: BTreeMap<DropReason, u64>,
}

/// Seconds of silence after which the counters of a process are folded into one sum. If it is heard of again
/// nobody knows what it counted meanwhile, and only what follows is added.
const FOLD_AFTER: u64 = 24 * 3600;
/// Seconds of silence after which a process that was folded is forgotten.
const FORGET_AFTER: u64 = 30 * 24 * 3600;
/// Processes whose counters are kept apart, per source and in all. The longest silent are folded first.
const MAX_OPEN_OF_SOURCE: usize = 8;
const MAX_OPEN: usize = 2_000;
/// Folded processes that are remembered per source.
const MAX_FOLDED_OF_SOURCE: usize = 64;

// === impl DropReason ===

impl DropReason {
    /// Every reason, in exposition order.
    pub const ALL: [Self; 4] = [Self::Pruned, Self::StaleGeneration, Self::Malformed, Self::Lost];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pruned => "pruned",
            Self::StaleGeneration => "stale_generation",
            Self::Malformed => "malformed",
            Self::Lost => "lost",
        }
    }
}

// === impl Store ===

impl Store {
    pub(super) fn ingest(&mut self, name: &str, report: Report, keep: &KeepSet) -> Vec<Refused> {
        let lives = self.sources.entry(name.to_owned()).or_default();
        if lives.iter().any(|life| life.process.succeeds(&report.process)) {
            return Vec::new();
        }
        let life = Life::of(lives, &report);
        let retired = &mut self.retired;
        let mut live = std::mem::take(&mut life.live);
        let mut refused = std::mem::take(&mut life.refused);
        let mut news = Vec::new();
        for (series, value) in report.values {
            let (reason, removed_in) = match keep.judge(&series) {
                Verdict::Kept => {
                    let known = live.remove(&series);
                    let forgotten = refused.remove(&series);
                    let contribution = match &series {
                        HostSeries::LastSuccess(tuple) => {
                            note_latest(&mut self.latest, tuple, value);
                            Contribution::nothing(value)
                        }
                        HostSeries::ConfigGeneration => Contribution::nothing(value),
                        _ => next(known, forgotten, value, |ended| retire(retired, series.clone(), ended)),
                    };
                    // A counter at zero is as good as none.
                    if value > 0 {
                        life.live.insert(series, contribution);
                    }
                    continue;
                }
                Verdict::Pruned(removed_in) => (DropReason::Pruned, removed_in),
                Verdict::Stale => (DropReason::StaleGeneration, None),
            };
            let before = refused.remove(&series).unwrap_or(0);
            if value > before {
                *self.dropped.entry(reason).or_default() += 1;
                news.push(Refused { reason, series: series.clone(), growth: value - before, removed_in });
            }
            if value > 0 {
                life.refused.insert(series, value);
            }
        }
        // A name that vanished from a complete reading has been reset.
        live.into_iter().for_each(|(series, contribution)| retire(retired, series, contribution));

        let mut malformed = std::mem::take(&mut life.malformed);
        for (name, value) in report.malformed {
            if value > malformed.remove(&name).unwrap_or(0) {
                *self.dropped.entry(DropReason::Malformed).or_default() += 1;
            }
            life.malformed.insert(name, value);
        }
        self.fold_excess(name);
        news
    }

    /// Removes every series the keep-set does not hold. What processes showed last is remembered, so that only
    /// later growth counts as a late report.
    pub(super) fn prune(&mut self, keep: &KeepSet) {
        let kept = |series: &HostSeries| keep.judge(series) == Verdict::Kept;
        self.retired.retain(|series, _| kept(series));
        self.latest.retain(|tuple, _| kept(&HostSeries::LastSuccess(tuple.clone())));
        for life in self.sources.values_mut().flatten() {
            let Life { live, refused, .. } = life;
            live.retain(|series, contribution| {
                let keep = kept(series);
                if !keep {
                    refused.insert(series.clone(), contribution.last);
                }
                keep
            });
        }
    }

    /// Bounds what is kept of processes that have been silent for long.
    pub(super) fn forget_silent(&mut self, now: u64) {
        let Self { sources, retired, .. } = self;
        let mut open = Vec::new();
        for life in sources.values_mut().flatten().filter(|life| !life.folded) {
            if now.saturating_sub(life.read_at) > FOLD_AFTER {
                fold(retired, life);
            } else {
                open.push(life);
            }
        }
        let excess = open.len().saturating_sub(MAX_OPEN);
        open.sort_by_key(|life| life.read_at);
        open.into_iter().take(excess).for_each(|life| fold(retired, life));
        for lives in sources.values_mut() {
            lives.retain(|life| !life.folded || now.saturating_sub(life.read_at) <= FORGET_AFTER);
        }
        sources.retain(|_, lives| !lives.is_empty());
    }

    /// A proxy that restarts all the time does not fill the memory.
    fn fold_excess(&mut self, name: &str) {
        let Some(lives) = self.sources.get_mut(name) else { return };
        if lives.len() <= MAX_OPEN_OF_SOURCE {
            return;
        }
        lives.sort_by_key(|life| (!life.folded, life.read_at, life.id));
        let open = lives.iter().filter(|life| !life.folded).count();
        for life in lives.iter_mut().filter(|life| !life.folded).take(open.saturating_sub(MAX_OPEN_OF_SOURCE))
        {
            fold(&mut self.retired, life);
        }
        let folded = lives.iter().filter(|life| life.folded).count();
        lives.drain(..folded.saturating_sub(MAX_FOLDED_OF_SOURCE));
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(&reason).copied().unwrap_or(0)
    }

    /// Calls `each` with every contribution, several times for a series of several processes.
    pub(super) fn for_each(&self, mut each: impl FnMut(&HostSeries, u128)) {
        self.retired.iter().for_each(|(series, value)| each(series, *value));
        for life in self.sources.values().flatten() {
            life.live.iter().for_each(|(series, contribution)| each(series, contribution.value()));
        }
    }

    /// Calls `each` with the latest charge of every life of every tuple.
    pub(super) fn for_each_latest(&self, mut each: impl FnMut(&Tuple, u64)) {
        self.latest.iter().for_each(|(tuple, seconds)| each(tuple, *seconds));
    }
}

fn fold(retired: &mut HashMap<HostSeries, u128>, life: &mut Life) {
    life.folded = true;
    life.live.drain().for_each(|(series, contribution)| retire(retired, series, contribution));
    life.refused.clear();
    life.malformed.clear();
}

fn retire(retired: &mut HashMap<HostSeries, u128>, series: HostSeries, contribution: Contribution) {
    if contribution.value() > 0 {
        *retired.entry(series).or_default() += contribution.value();
    }
}

/// The gauge only moves forward, and zero is a gauge that was defined and never set.
fn note_latest(latest: &mut HashMap<Tuple, u64>, tuple: &Tuple, seconds: u64) {
    if seconds > 0 {
        let known = latest.entry(tuple.clone()).or_default();
        *known = seconds.max(*known);
    }
}
