//! What each process of each source contributes to each series.

use std::collections::{BTreeMap, HashMap};

use farebox_core::metrics::HostSeries;
use farebox_core::rules::Tuple;

use super::changes::{Changes, Key};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    pub(super) changes: Changes,
}

/// Sums that grow, and who hears of it.
struct Retiring<'a> {
    retired: &'a mut HashMap<HostSeries, u128>,
    changes: &'a mut Changes,
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
/// When a process was last read matters to a fraction of a day: news of nothing else is saved this often, in
/// seconds.
const READ_AT_STEP: u64 = 300;

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
        let known_as: HashMap<_, _> =
            lives.iter().map(|life| (life.id, (life.process, life.read_at / READ_AT_STEP))).collect();
        let (life, starts_over) = Life::of(lives, &report);
        let (id, lasting) = (life.id, life.process.is_lasting());
        if starts_over || known_as.get(&id) != Some(&(life.process, life.read_at / READ_AT_STEP)) {
            self.changes.note(|| Key::Process(name.to_owned(), id));
        }
        let counter = |series: &HostSeries| Key::Counter(name.to_owned(), id, series.clone());
        let mut retiring = Retiring { retired: &mut self.retired, changes: &mut self.changes };
        let mut live = std::mem::take(&mut life.live);
        let mut refused = std::mem::take(&mut life.refused);
        let mut news = Vec::new();
        for (series, value) in report.values {
            let (known, forgotten) = (live.remove(&series), refused.remove(&series));
            let (reason, removed_in) = match keep.judge(&series) {
                Verdict::Kept => {
                    let contribution = match &series {
                        HostSeries::LastSuccess(tuple) => {
                            if note_latest(&mut self.latest, tuple, value) {
                                retiring.changes.note(|| Key::Latest(tuple.clone()));
                            }
                            Contribution::nothing(value)
                        }
                        HostSeries::ConfigGeneration => Contribution::nothing(value),
                        _ => next(known, forgotten, value, lasting, |ended| {
                            retiring.retire(series.clone(), ended);
                        }),
                    };
                    // A counter at zero is as good as none.
                    let contribution = Some(contribution).filter(|_| value > 0 || lasting && known.is_some());
                    if starts_over || known != contribution || forgotten.is_some() {
                        retiring.changes.note(|| counter(&series));
                    }
                    if let Some(contribution) = contribution {
                        life.live.insert(series, contribution);
                    }
                    continue;
                }
                Verdict::Pruned(removed_in) => (DropReason::Pruned, removed_in),
                Verdict::Stale => (DropReason::StaleGeneration, None),
            };
            let before = forgotten.unwrap_or(0);
            if starts_over || value != before {
                retiring.changes.note(|| counter(&series));
            }
            if value > before {
                *self.dropped.entry(reason).or_default() += 1;
                retiring.changes.note(|| Key::Dropped(reason));
                news.push(Refused { reason, series: series.clone(), growth: value - before, removed_in });
            }
            let last = if lasting { value.max(before) } else { value };
            if last > 0 {
                life.refused.insert(series, last);
            }
        }
        // A name that vanished from a complete reading has been reset, unless its database went back.
        for (series, contribution) in live {
            if lasting {
                life.live.insert(series, contribution);
                continue;
            }
            retiring.changes.note(|| counter(&series));
            retiring.retire(series, contribution);
        }
        refused.keys().for_each(|series| retiring.changes.note(|| counter(series)));

        let malformed_key = |text: &str| Key::Malformed(name.to_owned(), id, text.to_owned());
        let mut malformed = std::mem::take(&mut life.malformed);
        for (text, value) in report.malformed {
            let before = malformed.remove(&text);
            if value > before.unwrap_or(0) {
                *self.dropped.entry(DropReason::Malformed).or_default() += 1;
                self.changes.note(|| Key::Dropped(DropReason::Malformed));
            }
            if starts_over || before != Some(value) {
                self.changes.note(|| malformed_key(&text));
            }
            life.malformed.insert(text, value);
        }
        malformed.keys().for_each(|text| self.changes.note(|| malformed_key(text)));
        self.fold_excess(name);
        news
    }

    /// Removes every series the keep-set does not hold. What processes showed last is remembered, so that only
    /// later growth counts as a late report.
    pub(super) fn prune(&mut self, keep: &KeepSet) {
        let Self { sources, retired, latest, changes, .. } = self;
        let kept = |series: &HostSeries| keep.judge(series) == Verdict::Kept;
        retired.retain(|series, _| {
            let keep = kept(series);
            if !keep {
                changes.note(|| Key::Retired(series.clone()));
            }
            keep
        });
        latest.retain(|tuple, _| {
            let keep = kept(&HostSeries::LastSuccess(tuple.clone()));
            if !keep {
                changes.note(|| Key::Latest(tuple.clone()));
            }
            keep
        });
        for (source, life) in
            sources.iter_mut().flat_map(|(source, lives)| lives.iter_mut().map(move |life| (source, life)))
        {
            let Life { id, live, refused, .. } = life;
            live.retain(|series, contribution| {
                let keep = kept(series);
                if !keep {
                    changes.note(|| Key::Counter(source.clone(), *id, series.clone()));
                    refused.insert(series.clone(), contribution.last);
                }
                keep
            });
        }
    }

    /// Bounds what is kept of processes that have been silent for long.
    pub(super) fn forget_silent(&mut self, now: u64) {
        let Self { sources, retired, changes, .. } = self;
        let mut retiring = Retiring { retired, changes };
        let mut open = Vec::new();
        for (source, lives) in &mut *sources {
            for life in lives.iter_mut().filter(|life| !life.folded) {
                if now.saturating_sub(life.read_at) > FOLD_AFTER {
                    retiring.fold(source, life);
                } else {
                    open.push((source, life));
                }
            }
        }
        let excess = open.len().saturating_sub(MAX_OPEN);
        open.sort_by_key(|(_, life)| life.read_at);
        open.into_iter().take(excess).for_each(|(source, life)| retiring.fold(source, life));
        for (source, lives) in &mut *sources {
            lives.retain(|life| {
                let over = life.folded && now.saturating_sub(life.read_at) > FORGET_AFTER;
                if over {
                    retiring.changes.note(|| Key::Process(source.clone(), life.id));
                }
                !over
            });
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
        let mut retiring = Retiring { retired: &mut self.retired, changes: &mut self.changes };
        for life in lives.iter_mut().filter(|life| !life.folded).take(open.saturating_sub(MAX_OPEN_OF_SOURCE))
        {
            retiring.fold(name, life);
        }
        let folded = lives.iter().filter(|life| life.folded).count();
        for life in lives.drain(..folded.saturating_sub(MAX_FOLDED_OF_SOURCE)) {
            self.changes.note(|| Key::Process(name.to_owned(), life.id));
        }
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

// === impl Retiring ===

impl Retiring<'_> {
    fn fold(&mut self, source: &str, life: &mut Life) {
        let id = life.id;
        life.folded = true;
        self.changes.note(|| Key::Process(source.to_owned(), id));
        for (series, contribution) in life.live.drain() {
            self.changes.note(|| Key::Counter(source.to_owned(), id, series.clone()));
            self.retire(series, contribution);
        }
        for (series, _) in life.refused.drain() {
            self.changes.note(|| Key::Counter(source.to_owned(), id, series));
        }
        for (text, _) in life.malformed.drain() {
            self.changes.note(|| Key::Malformed(source.to_owned(), id, text));
        }
    }

    fn retire(&mut self, series: HostSeries, contribution: Contribution) {
        if contribution.value() > 0 {
            self.changes.note(|| Key::Retired(series.clone()));
            *self.retired.entry(series).or_default() += contribution.value();
        }
    }
}

/// The gauge only moves forward, and zero is a gauge that was defined and never set. Whether it moved.
fn note_latest(latest: &mut HashMap<Tuple, u64>, tuple: &Tuple, seconds: u64) -> bool {
    if seconds == 0 || latest.get(tuple).is_some_and(|known| *known >= seconds) {
        return false;
    }
    latest.insert(tuple.clone(), seconds);
    true
}
