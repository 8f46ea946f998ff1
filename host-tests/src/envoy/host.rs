//! What all VMs of one Envoy process share: shared data, metrics, log, clusters, clock.

use super::abi::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Kind of a host metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Adds.
    Counter,
    /// Is set.
    Gauge,
}

/// One line a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// 0 trace to 5 critical.
    pub level: u32,
    /// Text.
    pub text: String,
}

/// The process.
pub(crate) struct Host {
    pub(crate) clock: Clock,
    pub(crate) shared: SharedData,
    pub(crate) metrics: Metrics,
    pub(crate) log: Vec<LogLine>,
    pub(crate) clusters: BTreeSet<String>,
    /// What a guest did that Envoy does not survive or that leaves a client waiting.
    pub(crate) violations: Vec<String>,
    /// Traps so far.
    pub(crate) traps: Vec<String>,
    /// Whether a trap fails the test.
    pub(crate) traps_allowed: bool,
    /// Where every header map ends in its wire form.
    pub(crate) cut_header_maps: Option<usize>,
    /// What another worker does right before the next write of shared data.
    pub(crate) rival: Option<Box<dyn FnOnce()>>,
    random: u64,
}

/// Wall clock and monotonic clock, nanoseconds, both under test control.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) wall: u64,
    pub(crate) monotonic: u64,
}

/// Shared data of one `vm_id`. A key cannot be deleted; an empty value is stored as such.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    entries: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    last_cas: u32,
    /// How many of the next compare-and-swaps lose against a writer in another worker.
    pub(crate) lost_races: u32,
}

/// Metrics by name. Names are process-wide: two VMs that define one name share its value.
#[derive(Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, Metric>);

/// A metric lives as long as a scope it was defined in.
#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    value: u64,
    scopes: usize,
}

// === impl Host ===

impl Host {
    pub(crate) fn new(unix_seconds: u64) -> Self {
        Self {
            clock: Clock { wall: unix_seconds * 1_000_000_000, monotonic: 1_000_000_000 },
            shared: SharedData::default(),
            metrics: Metrics::default(),
            log: Vec::new(),
            clusters: BTreeSet::new(),
            violations: Vec::new(),
            traps: Vec::new(),
            traps_allowed: false,
            cut_header_maps: None,
            rival: None,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Deterministic bytes for a guest that asks for randomness.
    pub(crate) fn random_bytes(&mut self, len: usize) -> Vec<u8> {
        let mut next = || {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random.to_le_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }
}

// === impl Clock ===

impl Clock {
    /// The monotonic clock after some time, nanoseconds.
    pub(crate) fn after(&self, time: Duration) -> u64 {
        self.monotonic + u64::try_from(time.as_nanos()).expect("a test waits for less than 500 years")
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("a test advances by less than 500 years");
        self.wall += nanos;
        self.monotonic += nanos;
    }
}

// === impl SharedData ===

impl SharedData {
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&[u8], u32)> {
        self.entries.get(key).map(|(value, cas)| (value.as_slice(), *cas))
    }

    /// Envoy's rules: a present key is compared with a non-zero `cas`, an absent one takes any.
    pub(crate) fn set(&mut self, key: &[u8], value: Vec<u8>, cas: u32) -> Status {
        if cas != 0 && self.lost_races > 0 {
            self.lost_races -= 1;
            let rival = self.get(key).map_or_else(Vec::new, |(value, _)| value.to_vec());
            self.write(key, rival);
        }
        match self.entries.get(key) {
            Some((_, current)) if cas != 0 && cas != *current => Status::CasMismatch,
            _ => {
                self.write(key, value);
                Status::Ok
            }
        }
    }

    /// Every key ever written that begins so, with its value.
    pub(crate) fn all(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let ours = self.entries.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        ours.map(|(key, (value, _))| (String::from_utf8_lossy(key).into_owned(), value.clone())).collect()
    }

    /// Number of keys ever written that begin so: what the process can never get back.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        self.entries.keys().filter(|key| key.starts_with(prefix.as_bytes())).count()
    }

    /// Puts arbitrary bytes under every key, as a foreign writer with the same `vm_id` could.
    pub(crate) fn corrupt(&mut self, value: &[u8]) {
        let keys: Vec<_> = self.entries.keys().cloned().collect();
        for key in keys {
            self.write(&key, value.to_vec());
        }
    }

    fn write(&mut self, key: &[u8], value: Vec<u8>) {
        self.last_cas += 1;
        self.entries.insert(key.to_vec(), (value, self.last_cas));
    }
}

// === impl Metrics ===

impl Metrics {
    /// Defines a name in one scope more.
    pub(crate) fn define(&mut self, name: &str, kind: MetricKind) {
        self.0.entry(name.to_owned()).or_insert(Metric { kind, value: 0, scopes: 0 }).scopes += 1;
    }

    /// A scope of this name is gone.
    pub(crate) fn forget(&mut self, name: &str) {
        if let Some(metric) = self.0.get_mut(name) {
            metric.scopes -= 1;
            if metric.scopes == 0 {
                self.0.remove(name);
            }
        }
    }

    /// `record`: a counter adds, a gauge is set.
    pub(crate) fn record(&mut self, name: &str, value: u64) -> Status {
        match self.0.get_mut(name) {
            None => return Status::NotFound,
            Some(Metric { kind: MetricKind::Counter, value: current, .. }) => {
                *current = current.wrapping_add(value);
            }
            Some(Metric { kind: MetricKind::Gauge, value: current, .. }) => *current = value,
        }
        Status::Ok
    }

    /// `increment`: a counter takes only positive offsets.
    pub(crate) fn increment(&mut self, name: &str, offset: i64) -> Status {
        match self.0.get_mut(name) {
            None => Status::NotFound,
            Some(Metric { kind: MetricKind::Counter, .. }) if offset <= 0 => Status::BadArgument,
            Some(Metric { value: current, .. }) => {
                *current = current.wrapping_add_signed(offset);
                Status::Ok
            }
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|metric| metric.value)
    }

    pub(crate) fn all(&self) -> BTreeMap<String, (MetricKind, u64)> {
        self.0.iter().map(|(name, metric)| (name.clone(), (metric.kind, metric.value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_key_takes_any_cas_and_a_present_one_only_its_own() {
        let mut data = SharedData::default();
        assert_eq!(data.set(b"k", b"1".to_vec(), u32::MAX), Status::Ok);
        assert_eq!(data.set(b"k", b"2".to_vec(), u32::MAX), Status::CasMismatch);
        assert_eq!(data.get(b"k"), Some((b"1".as_slice(), 1)));
        assert_eq!(data.set(b"k", b"3".to_vec(), 1), Status::Ok);
        assert_eq!(data.set(b"k", b"4".to_vec(), 0), Status::Ok);
        assert_eq!(data.get(b"k"), Some((b"4".as_slice(), 3)));
    }

    #[test]
    fn an_empty_value_is_a_present_key() {
        let mut data = SharedData::default();
        assert_eq!(data.set(b"k", Vec::new(), 0), Status::Ok);
        assert_eq!(data.get(b"k"), Some((b"".as_slice(), 1)));
    }

    #[test]
    fn a_lost_race_shows_as_a_mismatch_once() {
        let mut data = SharedData { lost_races: 1, ..SharedData::default() };
        assert_eq!(data.set(b"k", b"1".to_vec(), u32::MAX), Status::CasMismatch);
        let (value, cas) = data.get(b"k").unwrap();
        assert_eq!((value, cas), (b"".as_slice(), 1));
        assert_eq!(data.set(b"k", b"1".to_vec(), 1), Status::Ok);
    }

    #[test]
    fn recording_adds_to_a_counter_and_sets_a_gauge() {
        let mut metrics = Metrics::default();
        metrics.define("c", MetricKind::Counter);
        metrics.define("g", MetricKind::Gauge);
        for _ in 0..2 {
            assert_eq!(metrics.record("c", 3), Status::Ok);
            assert_eq!(metrics.record("g", 3), Status::Ok);
        }
        assert_eq!((metrics.get("c"), metrics.get("g")), (Some(6), Some(3)));
        assert_eq!(metrics.record("absent", 1), Status::NotFound);
    }

    #[test]
    fn a_counter_takes_no_offset_of_zero_or_less_and_keeps_its_value_when_defined_again() {
        let mut metrics = Metrics::default();
        metrics.define("c", MetricKind::Counter);
        assert_eq!(metrics.increment("c", 0), Status::BadArgument);
        assert_eq!(metrics.increment("c", -1), Status::BadArgument);
        assert_eq!(metrics.increment("c", 2), Status::Ok);
        metrics.define("c", MetricKind::Counter);
        assert_eq!(metrics.get("c"), Some(2));
    }
}
