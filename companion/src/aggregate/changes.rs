//! What has changed since it was last saved, by the keys of the rows: a companion of ten thousand offers writes
//! what moved and nothing else.

use std::collections::HashSet;

use farebox_core::metrics::{HostSeries, host_name};
use farebox_core::rules::Tuple;

use super::rows::{Kind, RowKey, Rows, counter_value, process_value};
use super::state::name_of;
use super::store::{DropReason, Store};

/// A row to write, or to delete where there is no value.
pub type Change = (RowKey, Option<String>);

/// Keys that were touched; nothing is kept where nobody saves.
#[derive(Debug, Default)]
pub(super) struct Changes(Option<HashSet<Key>>);

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Process(String, u64),
    Counter(String, u64, HostSeries),
    Malformed(String, u64, String),
    Retired(HostSeries),
    Latest(Tuple),
    Dropped(DropReason),
}

// === impl Changes ===

impl Changes {
    /// Begins to remember.
    pub(super) fn begin(&mut self) {
        self.0.get_or_insert_default();
    }

    pub(super) const fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn note(&mut self, key: impl FnOnce() -> Key) {
        if let Some(keys) = &mut self.0 {
            keys.insert(key());
        }
    }

    pub(super) fn take(&mut self) -> HashSet<Key> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

// === impl Store ===

impl Store {
    /// The rows that changed, as they are now.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let keys = self.changes.take();
        keys.into_iter().map(|key| self.row(&key)).collect()
    }

    fn row(&self, key: &Key) -> Change {
        let life = |source: &String, id: u64| self.sources.get(source)?.iter().find(|life| life.id == id);
        match key {
            Key::Process(source, id) => (
                RowKey::of_life(Kind::Process, source, *id, String::new()),
                life(source, *id).map(|life| process_value(life.process, life.read_at, life.folded)),
            ),
            Key::Counter(source, id, series) => {
                let value = life(source, *id).and_then(|life| match life.live.get(series) {
                    Some(counted) => Some(counter_value(counted.last, Some(counted.baseline))),
                    None => life.refused.get(series).map(|last| counter_value(*last, None)),
                });
                (RowKey::of_life(Kind::Counter, source, *id, host_name(series)), value)
            }
            Key::Malformed(source, id, name) => (
                RowKey::malformed(source, *id, name),
                life(source, *id).and_then(|life| life.malformed.get(name)).map(u64::to_string),
            ),
            Key::Retired(series) => (
                RowKey::common(Kind::Retired, host_name(series)),
                self.retired.get(series).map(u128::to_string),
            ),
            Key::Latest(tuple) => {
                (RowKey::common(Kind::Latest, name_of(tuple)), self.latest.get(tuple).map(u64::to_string))
            }
            Key::Dropped(reason) => (
                RowKey::common(Kind::Dropped, reason.as_str().to_owned()),
                self.dropped.get(reason).map(u64::to_string),
            ),
        }
    }
}

/// What makes `new` of `old`.
pub(super) fn differences(old: &Rows, new: &Rows) -> Vec<Change> {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(*value));
    gone.chain(changed.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}
