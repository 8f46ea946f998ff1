//! The aggregate as rows, so that totals go on where the companion ended. Pure: somebody else keeps the rows.
//!
//! Each list has a natural key, named on its row type, and is sorted by it: whoever writes rows to a database
//! compares two states and writes what differs. A series is written as a proxy names it.

use std::collections::{BTreeMap, HashMap};

use farebox_core::metrics::{HostSeries, decode_host_name, host_name};
use farebox_core::rules::Tuple;
use serde::{Deserialize, Serialize};

use super::Aggregate;
use super::keep::{KeepSet, SavedKeys};
use super::life::{Contribution, Life};
use super::process::Process;
use super::store::{DropReason, Store};

/// Everything an [`Aggregate`] knows, except readings that still wait for a first load: they come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateState {
    /// Version of this document; see [`AggregateState::VERSION`].
    pub version: u32,
    /// Processes.
    pub processes: Vec<ProcessRow>,
    /// What each process showed last.
    pub counters: Vec<CounterRow>,
    /// Unreadable names of each process.
    pub malformed: Vec<MalformedRow>,
    /// Sums of what is over.
    pub retired: Vec<RetiredRow>,
    /// Latest charges.
    pub latest: Vec<LatestRow>,
    /// Births of living tuples; `None` before rules were ever loaded.
    pub births: Option<Vec<BirthRow>>,
    /// Living offers: (offer_namespace, offer_name).
    pub offers: Vec<(String, String)>,
    /// Tuples that were removed.
    pub removals: Vec<BirthRow>,
    /// Values refused.
    pub dropped: Vec<DroppedRow>,
}

/// Key: `source`, `life`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// `proxy_instance`.
    pub source: String,
    /// Number within the source.
    pub life: u64,
    /// How it is recognised.
    pub process: Process,
    /// Unix seconds of its last reading.
    pub read_at: u64,
    /// Whether its counters are part of the retired sums.
    pub folded: bool,
}

/// Key: `source`, `life`, `series`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRow {
    /// See [`ProcessRow::source`].
    pub source: String,
    /// See [`ProcessRow::life`].
    pub life: u64,
    /// Host name of the series.
    pub series: String,
    /// The value last shown.
    pub last: u64,
    /// `last` less this is counted; `None` where nothing is, because the offer is gone.
    pub baseline: Option<u64>,
}

/// Key: `source`, `life`, `name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MalformedRow {
    /// See [`ProcessRow::source`].
    pub source: String,
    /// See [`ProcessRow::life`].
    pub life: u64,
    /// The unreadable name.
    pub name: String,
    /// The value last shown.
    pub last: u64,
}

/// Key: `series`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredRow {
    /// Host name of the series.
    pub series: String,
    /// Decimal; may exceed 64 bits.
    pub total: String,
}

/// Key: `series`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestRow {
    /// Host name of the gauge, which names the tuple and its birth.
    pub series: String,
    /// Unix seconds.
    pub seconds: u64,
}

/// Key: `series`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthRow {
    /// Host name of the tuple's gauge, `born` 0.
    pub series: String,
    /// The generation it was born, or removed, in.
    pub generation: u64,
}

/// Key: `reason`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRow {
    /// `reason` of `reports_dropped_total`.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// Why a state cannot be taken up. Nothing of it is then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Written by another release.
    #[error("version {0} of the saved totals is not known here, only {known}", known = AggregateState::VERSION)]
    Version(u32),
    /// Rows, and none that says of which version they are.
    #[error("the saved totals do not say of which version they are")]
    NoVersion,
    /// A name, number or reason that nobody of ours wrote.
    #[error("the saved totals hold `{0}`, which cannot be read")]
    Unreadable(String),
    /// Two rows of one key.
    #[error("the saved totals hold `{0}` twice")]
    Twice(String),
    /// A row of a process without a row of its own.
    #[error("the saved totals hold counters of `{0}` and do not say which process counted them")]
    Orphan(String),
}

// === impl AggregateState ===

impl AggregateState {
    /// The version that is written, and the only one that is read.
    pub const VERSION: u32 = 1;
}

// === impl Aggregate ===

impl Aggregate {
    /// Everything it knows, as rows.
    pub fn to_state(&self) -> AggregateState {
        let Store { sources, retired, latest, dropped, changes: _ } = &self.store;
        let mut state = AggregateState {
            retired: sorted(retired.iter().map(|(series, total)| (host_name(series), total.to_string())))
                .map(|(series, total)| RetiredRow { series, total })
                .collect(),
            latest: sorted(latest.iter().map(|(tuple, seconds)| (name_of(tuple), *seconds)))
                .map(|(series, seconds)| LatestRow { series, seconds })
                .collect(),
            dropped: dropped
                .iter()
                .map(|(reason, count)| DroppedRow { reason: reason.as_str().to_owned(), count: *count })
                .collect(),
            ..AggregateState::of_keep_set(self.keep.save())
        };
        for (source, lives) in sources {
            let mut lives: Vec<_> = lives.iter().collect();
            lives.sort_by_key(|life| life.id);
            lives.into_iter().for_each(|life| state.push(source, life));
        }
        state
    }

    /// Takes up what [`Self::to_state`] gave. Totals are what they were; the first load prunes them.
    pub fn from_state(state: &AggregateState) -> Result<Self, StateError> {
        if state.version != AggregateState::VERSION {
            return Err(StateError::Version(state.version));
        }
        let mut store = Store { sources: sources_of(state)?, ..Store::default() };
        for row in &state.retired {
            let total = row.total.parse().map_err(|_| StateError::Unreadable(row.total.clone()))?;
            once(store.retired.insert(series_of(&row.series)?, total), &row.series)?;
        }
        for row in &state.latest {
            once(store.latest.insert(tuple_of(&row.series)?, row.seconds), &row.series)?;
        }
        for row in &state.dropped {
            let reason = DropReason::ALL.into_iter().find(|reason| reason.as_str() == row.reason);
            let reason = reason.ok_or_else(|| StateError::Unreadable(row.reason.clone()))?;
            once(store.dropped.insert(reason, row.count), &row.reason)?;
        }
        let generations = |rows: &[BirthRow]| {
            let mut generations = BTreeMap::new();
            for row in rows {
                once(generations.insert(tuple_of(&row.series)?, row.generation), &row.series)?;
            }
            Ok(generations)
        };
        let keep = KeepSet::load(SavedKeys {
            births: state.births.as_deref().map(generations).transpose()?,
            offers: state.offers.iter().cloned().collect(),
            removals: generations(&state.removals)?,
        });
        Ok(Self { keep, store, ..Self::default() })
    }
}

// === impl AggregateState ===

impl AggregateState {
    /// A state in which nothing was counted.
    pub(super) fn of_keep_set(saved: SavedKeys) -> Self {
        let rows = |generations: &BTreeMap<Tuple, u64>| -> Vec<BirthRow> {
            sorted(generations.iter().map(|(tuple, generation)| (name_of(tuple), *generation)))
                .map(|(series, generation)| BirthRow { series, generation })
                .collect()
        };
        Self {
            births: saved.births.as_ref().map(rows),
            removals: rows(&saved.removals),
            offers: saved.offers.into_iter().collect(),
            ..Self::empty()
        }
    }

    pub(super) const fn empty() -> Self {
        Self {
            version: Self::VERSION,
            processes: Vec::new(),
            counters: Vec::new(),
            malformed: Vec::new(),
            retired: Vec::new(),
            latest: Vec::new(),
            births: None,
            offers: Vec::new(),
            removals: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn push(&mut self, source: &str, life: &Life) {
        self.processes.push(ProcessRow {
            source: source.to_owned(),
            life: life.id,
            process: life.process,
            read_at: life.read_at,
            folded: life.folded,
        });
        let counted = life.live.iter().map(|(series, of)| (host_name(series), (of.last, Some(of.baseline))));
        let refused = life.refused.iter().map(|(series, last)| (host_name(series), (*last, None)));
        self.counters.extend(sorted(counted.chain(refused)).map(|(series, (last, baseline))| CounterRow {
            source: source.to_owned(),
            life: life.id,
            series,
            last,
            baseline,
        }));
        let malformed = sorted(life.malformed.iter().map(|(name, last)| (name.clone(), *last)));
        self.malformed.extend(malformed.map(|(name, last)| MalformedRow {
            source: source.to_owned(),
            life: life.id,
            name,
            last,
        }));
    }
}

fn sources_of(state: &AggregateState) -> Result<BTreeMap<String, Vec<Life>>, StateError> {
    let mut lives: HashMap<(&str, u64), Life> = HashMap::new();
    for row in &state.processes {
        let mut life = Life::new(row.life, row.process, row.read_at);
        life.folded = row.folded;
        once(lives.insert((&row.source, row.life), life), &row.source)?;
    }
    let orphan = |source: &String| StateError::Orphan(source.clone());
    for row in &state.counters {
        let life = lives.get_mut(&(row.source.as_str(), row.life)).ok_or_else(|| orphan(&row.source))?;
        let series = series_of(&row.series)?;
        let known = life.live.contains_key(&series) || life.refused.contains_key(&series);
        once(known.then_some(()), &row.series)?;
        match row.baseline {
            Some(baseline) => drop(life.live.insert(series, Contribution { last: row.last, baseline })),
            None => drop(life.refused.insert(series, row.last)),
        }
    }
    for row in &state.malformed {
        let life = lives.get_mut(&(row.source.as_str(), row.life)).ok_or_else(|| orphan(&row.source))?;
        once(life.malformed.insert(row.name.clone(), row.last), &row.name)?;
    }
    let mut sources: BTreeMap<String, Vec<Life>> = BTreeMap::new();
    for ((source, _), life) in lives {
        sources.entry(source.to_owned()).or_default().push(life);
    }
    sources.values_mut().for_each(|lives| lives.sort_by_key(|life| life.id));
    Ok(sources)
}

fn sorted<V: Ord>(rows: impl Iterator<Item = (String, V)>) -> impl Iterator<Item = (String, V)> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows.into_iter()
}

fn once<V>(before: Option<V>, key: &str) -> Result<(), StateError> {
    before.map_or(Ok(()), |_| Err(StateError::Twice(key.to_owned())))
}

fn series_of(name: &str) -> Result<HostSeries, StateError> {
    decode_host_name(name).ok_or_else(|| StateError::Unreadable(name.to_owned()))
}

pub(super) fn name_of(tuple: &Tuple) -> String {
    host_name(&HostSeries::LastSuccess(tuple.clone()))
}

fn tuple_of(name: &str) -> Result<Tuple, StateError> {
    match series_of(name)? {
        HostSeries::LastSuccess(tuple) => Ok(tuple),
        _ => Err(StateError::Unreadable(name.to_owned())),
    }
}
