//! A saved state as rows of one shape, for a database that knows nothing of what they say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::process::Process;
use super::state::{
    AggregateState, BirthRow, CounterRow, DroppedRow, LatestRow, MalformedRow, ProcessRow, RetiredRow,
    StateError,
};

/// What identifies a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// What it is about.
    pub kind: Kind,
    /// See [`ProcessRow::source`]; empty where the row is about no proxy.
    pub source: String,
    /// See [`ProcessRow::life`]; 0 where the row is about no proxy.
    pub life: u64,
    /// What tells rows of one kind and process apart; text without control characters.
    pub name: String,
}

/// Rows with their values.
pub type Rows = BTreeMap<RowKey, String>;

/// What a row is about, and what its value is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`AggregateState::VERSION`], once.
    Version,
    /// Rules were loaded once: an empty value.
    Loaded,
    /// [`ProcessRow`]: JSON.
    Process,
    /// [`CounterRow`] by series: `last baseline`, or `last` where nothing is counted.
    Counter,
    /// [`MalformedRow`] by name, as a JSON text: `last`.
    Malformed,
    /// [`RetiredRow`] by series.
    Retired,
    /// [`LatestRow`] by series.
    Latest,
    /// [`AggregateState::births`] by series.
    Birth,
    /// [`AggregateState::removals`] by series.
    Removal,
    /// [`AggregateState::offers`] as a JSON pair: an empty value.
    Offer,
    /// [`DroppedRow`] by reason.
    Dropped,
}

/// The value of a process.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProcessValue {
    process: Process,
    read_at: u64,
    folded: bool,
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 11] = [
        Self::Version,
        Self::Loaded,
        Self::Process,
        Self::Counter,
        Self::Malformed,
        Self::Retired,
        Self::Latest,
        Self::Birth,
        Self::Removal,
        Self::Offer,
        Self::Dropped,
    ];

    /// As it is written down.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Loaded => "loaded",
            Self::Process => "process",
            Self::Counter => "counter",
            Self::Malformed => "malformed",
            Self::Retired => "retired",
            Self::Latest => "latest",
            Self::Birth => "birth",
            Self::Removal => "removal",
            Self::Offer => "offer",
            Self::Dropped => "dropped",
        }
    }

    /// Reads what [`Self::as_str`] gave.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

// === impl RowKey ===

impl RowKey {
    /// Of a row about no proxy.
    pub(super) const fn common(kind: Kind, name: String) -> Self {
        Self { kind, source: String::new(), life: 0, name }
    }

    pub(super) fn of_life(kind: Kind, source: &str, life: u64, name: String) -> Self {
        Self { kind, source: source.to_owned(), life, name }
    }

    pub(super) fn malformed(source: &str, life: u64, name: &str) -> Self {
        // Somebody else chose the name, and a database refuses some texts.
        Self::of_life(Kind::Malformed, source, life, serde_json::Value::from(name).to_string())
    }

    pub(super) fn offer(namespace: &str, name: &str) -> Self {
        Self::common(Kind::Offer, serde_json::json!([namespace, name]).to_string())
    }
}

pub(super) fn process_value(process: Process, read_at: u64, folded: bool) -> String {
    serde_json::json!({ "process": process, "read_at": read_at, "folded": folded }).to_string()
}

pub(super) fn counter_value(last: u64, baseline: Option<u64>) -> String {
    baseline.map_or_else(|| last.to_string(), |baseline| format!("{last} {baseline}"))
}

// === impl AggregateState ===

impl AggregateState {
    /// The same as rows.
    pub fn to_rows(&self) -> Rows {
        let mut rows = Rows::new();
        rows.insert(RowKey::common(Kind::Version, String::new()), self.version.to_string());
        for ProcessRow { source, life, process, read_at, folded } in &self.processes {
            let key = RowKey::of_life(Kind::Process, source, *life, String::new());
            rows.insert(key, process_value(*process, *read_at, *folded));
        }
        for CounterRow { source, life, series, last, baseline } in &self.counters {
            let key = RowKey::of_life(Kind::Counter, source, *life, series.clone());
            rows.insert(key, counter_value(*last, *baseline));
        }
        for MalformedRow { source, life, name, last } in &self.malformed {
            rows.insert(RowKey::malformed(source, *life, name), last.to_string());
        }
        let common = |kind, name: &String| RowKey::common(kind, name.clone());
        rows.extend(self.retired.iter().map(|row| (common(Kind::Retired, &row.series), row.total.clone())));
        rows.extend(
            self.latest.iter().map(|row| (common(Kind::Latest, &row.series), row.seconds.to_string())),
        );
        rows.extend(
            self.dropped.iter().map(|row| (common(Kind::Dropped, &row.reason), row.count.to_string())),
        );
        if let Some(births) = &self.births {
            rows.insert(RowKey::common(Kind::Loaded, String::new()), String::new());
            rows.extend(
                births.iter().map(|row| (common(Kind::Birth, &row.series), row.generation.to_string())),
            );
        }
        let removals = self.removals.iter();
        rows.extend(removals.map(|row| (common(Kind::Removal, &row.series), row.generation.to_string())));
        let offers = self.offers.iter();
        rows.extend(offers.map(|(namespace, name)| (RowKey::offer(namespace, name), String::new())));
        rows
    }

    /// Reads what [`Self::to_rows`] gave. No rows at all are a state before anything was known.
    pub fn from_rows(rows: &Rows) -> Result<Self, StateError> {
        let mut state = Self::empty();
        let version = rows.get(&RowKey::common(Kind::Version, String::new()));
        if !rows.is_empty() {
            // Nothing else is read of another version: it may mean something else there.
            state.version = number(version.ok_or(StateError::NoVersion)?)?;
            if state.version != Self::VERSION {
                return Err(StateError::Version(state.version));
            }
        }
        for (key, value) in rows {
            state.take(key, value)?;
        }
        Ok(state)
    }

    fn take(&mut self, RowKey { kind, source, life, name }: &RowKey, value: &str) -> Result<(), StateError> {
        let (source, life, series) = (source.clone(), *life, name.clone());
        match kind {
            Kind::Version => {}
            Kind::Loaded => drop(self.births.get_or_insert_default()),
            Kind::Process => {
                let ProcessValue { process, read_at, folded } = json(value)?;
                self.processes.push(ProcessRow { source, life, process, read_at, folded });
            }
            Kind::Counter => {
                let (last, baseline) = match value.split_once(' ') {
                    Some((last, baseline)) => (number(last)?, Some(number(baseline)?)),
                    None => (number(value)?, None),
                };
                self.counters.push(CounterRow { source, life, series, last, baseline });
            }
            Kind::Malformed => {
                self.malformed.push(MalformedRow { source, life, name: json(name)?, last: number(value)? });
            }
            Kind::Retired => self.retired.push(RetiredRow { series, total: value.to_owned() }),
            Kind::Latest => self.latest.push(LatestRow { series, seconds: number(value)? }),
            Kind::Birth => {
                let births = self.births.get_or_insert_default();
                births.push(BirthRow { series, generation: number(value)? });
            }
            Kind::Removal => self.removals.push(BirthRow { series, generation: number(value)? }),
            Kind::Offer => self.offers.push(json(name)?),
            Kind::Dropped => self.dropped.push(DroppedRow { reason: series, count: number(value)? }),
        }
        Ok(())
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, StateError> {
    text.parse().map_err(|_| StateError::Unreadable(text.to_owned()))
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StateError> {
    serde_json::from_str(text).map_err(|_| StateError::Unreadable(text.to_owned()))
}
