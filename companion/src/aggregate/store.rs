//! What each source contributes to each series.

use std::collections::{BTreeMap, HashMap};

use farebox_core::metrics::HostSeries;
use farebox_core::rules::Tuple;

use super::keep::{KeepSet, Verdict};

/// One reading of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Seconds since the source's counters began.
    pub uptime: u64,
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
    /// Its name cannot be read.
    Malformed,
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
    sources: BTreeMap<String, Source>,
    /// Contributions of epochs that are over.
    retired: HashMap<HostSeries, u128>,
    /// Latest charge of each tuple (with its birth), Unix seconds.
    latest: HashMap<Tuple, u64>,
    dropped: BTreeMap<DropReason, u64>,
}

#[derive(Debug, Default)]
struct Source {
    uptime: u64,
    live: HashMap<HostSeries, Contribution>,
    /// Last seen values of series that are not counted: only growth beyond them is news.
    refused: HashMap<HostSeries, u64>,
    malformed: HashMap<String, u64>,
}

/// A source adds `last - baseline` to a series.
#[derive(Debug, Clone, Copy)]
struct Contribution {
    last: u64,
    baseline: u64,
}

/// A process that restarts counts its uptime from zero. Uptimes have whole seconds and a clock may be slewed.
const UPTIME_TOLERANCE: u64 = 2;

// === impl DropReason ===

impl DropReason {
    /// Every reason, in exposition order.
    pub const ALL: [Self; 3] = [Self::Pruned, Self::StaleGeneration, Self::Malformed];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pruned => "pruned",
            Self::StaleGeneration => "stale_generation",
            Self::Malformed => "malformed",
        }
    }
}

// === impl Contribution ===

impl Contribution {
    /// A gauge: it was seen and adds nothing.
    const fn nothing(last: u64) -> Self {
        Self { last, baseline: last }
    }

    fn value(self) -> u128 {
        u128::from(self.last.saturating_sub(self.baseline))
    }
}

// === impl Store ===

impl Store {
    pub(super) fn ingest(&mut self, name: &str, report: Report, keep: &KeepSet) -> Vec<Refused> {
        let source = self.sources.entry(name.to_owned()).or_default();
        let retired = &mut self.retired;
        if report.uptime + UPTIME_TOLERANCE < source.uptime {
            let ended = std::mem::take(source);
            ended.live.into_iter().for_each(|(series, contribution)| retire(retired, series, contribution));
        }
        source.uptime = report.uptime;

        let mut live = std::mem::take(&mut source.live);
        let mut refused = std::mem::take(&mut source.refused);
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
                    source.live.insert(series, contribution);
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
            source.refused.insert(series, value);
        }
        // A name that vanished from a complete reading has been reset.
        live.into_iter().for_each(|(series, contribution)| retire(retired, series, contribution));

        let mut malformed = std::mem::take(&mut source.malformed);
        for (name, value) in report.malformed {
            if value > malformed.remove(&name).unwrap_or(0) {
                *self.dropped.entry(DropReason::Malformed).or_default() += 1;
            }
            source.malformed.insert(name, value);
        }
        news
    }

    /// Removes every series the keep-set does not hold. What sources showed last is remembered, so that only
    /// later growth counts as a late report.
    pub(super) fn prune(&mut self, keep: &KeepSet) {
        let kept = |series: &HostSeries| keep.judge(series) == Verdict::Kept;
        self.retired.retain(|series, _| kept(series));
        self.latest.retain(|tuple, _| kept(&HostSeries::LastSuccess(tuple.clone())));
        for source in self.sources.values_mut() {
            let Source { live, refused, .. } = source;
            live.retain(|series, contribution| {
                let keep = kept(series);
                if !keep {
                    refused.insert(series.clone(), contribution.last);
                }
                keep
            });
        }
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(&reason).copied().unwrap_or(0)
    }

    /// Calls `each` with every contribution, several times for a series of several sources.
    pub(super) fn for_each(&self, mut each: impl FnMut(&HostSeries, u128)) {
        self.retired.iter().for_each(|(series, value)| each(series, *value));
        for source in self.sources.values() {
            source.live.iter().for_each(|(series, contribution)| each(series, contribution.value()));
        }
    }

    /// Calls `each` with the latest charge of every life of every tuple.
    pub(super) fn for_each_latest(&self, mut each: impl FnMut(&Tuple, u64)) {
        self.latest.iter().for_each(|(tuple, seconds)| each(tuple, *seconds));
    }
}

/// What a source contributes after showing `value`. A series not counted until now (`forgotten` holds what it
/// showed then) starts from there; one that went down was reset and starts from nothing.
fn next(
    known: Option<Contribution>,
    forgotten: Option<u64>,
    value: u64,
    end: impl FnOnce(Contribution),
) -> Contribution {
    match known {
        Some(known) if value >= known.last => Contribution { last: value, ..known },
        Some(known) => {
            end(known);
            Contribution { last: value, baseline: 0 }
        }
        None => {
            Contribution { last: value, baseline: forgotten.filter(|before| *before <= value).unwrap_or(0) }
        }
    }
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
