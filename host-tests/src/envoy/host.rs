//! The state that all VMs of one Envoy process share: shared data, log, clusters, clock.

use super::abi::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    pub(crate) log: Vec<LogLine>,
    pub(crate) clusters: BTreeSet<String>,
    /// Actions of a guest that would crash Envoy or leave a client waiting.
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

// === impl Host ===

impl Host {
    pub(crate) fn new(unix_seconds: u64) -> Self {
        Self {
            clock: Clock { wall: unix_seconds * 1_000_000_000, monotonic: 1_000_000_000 },
            shared: SharedData::default(),
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

    /// Number of keys ever written with this prefix, whose memory the process never frees.
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
}
