//! Which counters this process has, so that a VM that begins later defines them too.
//!
//! Envoy keeps a counter as long as some VM has defined it, and drops it with its value when the last of these
//! VMs goes. Defining every counter of every offer in every VM would keep them all, and takes minutes with ten
//! thousand offers; most are never moved. So a counter is written down here when it is first moved, and every VM
//! defines what is written down when it takes rules. What is moved while it does is settled in
//! [`crate::succession`].

use farebox_core::metrics::{BlockedReason, DURATION_BUCKETS, TupleCounter};
use proxy_wasm::types::Status;

use crate::shared_data;

/// Entries of shared data: a write copies one of them.
const SHARDS: u64 = 64;

/// Which counter a place stands for is a matter of the code, and shared data outlives it: code with other counters reads
/// and writes elsewhere.
pub(crate) const LAYOUT: usize = TupleCounter::COUNT;
/// Each counter of a group has a bit.
const _: () =
    assert!(TupleCounter::COUNT <= 64 && BlockedReason::COUNT <= 64 && DURATION_BUCKETS.len() + 2 <= 64);

/// A group of counters, and which of them were moved, one bit each.
type Entry = (u64, u64);

/// What was written down when it was last read.
#[derive(Default)]
pub(crate) struct Counted {
    /// Sorted by group; of a group that is there more than once, all bits together hold.
    entries: Vec<Entry>,
    /// The version of each entry of shared data that was read.
    versions: Vec<u32>,
}

// === impl Counted ===

impl Counted {
    /// Reads again what has changed.
    pub(crate) fn refresh(&mut self) -> Result<(), Status> {
        for shard in 0..SHARDS {
            let (bytes, version) = shared_data::read(&name_of(shard))?;
            let place = usize::try_from(shard).unwrap_or(usize::MAX);
            match self.versions.get_mut(place) {
                Some(known) if *known == version => continue,
                Some(known) => *known = version,
                None => self.versions.push(version),
            }
            self.entries.extend(entries_in(&bytes));
        }
        self.entries.sort_unstable();
        self.entries.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 |= later.1;
            }
            same
        });
        Ok(())
    }

    /// The counters of a group that some VM of this process has moved, one bit each.
    pub(crate) fn of(&self, group: u64) -> u64 {
        let found = self.entries.binary_search_by_key(&group, |entry| entry.0).ok();
        found.and_then(|place| self.entries.get(place)).map_or(0, |entry| entry.1)
    }

    /// Forgets the groups that are not `live`, here and for everybody.
    pub(crate) fn retain(&mut self, live: impl Fn(u64) -> bool) -> Result<(), Status> {
        for shard in 0..SHARDS {
            if self.entries.iter().any(|(group, _)| group % SHARDS == shard && !live(*group)) {
                shared_data::change(&name_of(shard), |bytes| {
                    let kept = entries_in(bytes).filter(|(group, _)| live(*group));
                    (Some(kept.flat_map(bytes_of).collect()), ())
                })?;
            }
        }
        self.entries.retain(|(group, _)| live(*group));
        Ok(())
    }
}

/// Writes a counter down, by its group and its bit.
pub(crate) fn note(group: u64, bit: u64) -> Result<(), Status> {
    shared_data::change(&name_of(group % SHARDS), |bytes| {
        let known = entries_in(bytes).any(|(known, bits)| known == group && bits & bit != 0);
        if known {
            return (None, ());
        }
        let mut entries: Vec<Entry> = entries_in(bytes).collect();
        match entries.iter_mut().find(|entry| entry.0 == group) {
            Some(entry) => entry.1 |= bit,
            None => entries.push((group, bit)),
        }
        (Some(entries.into_iter().flat_map(bytes_of).collect()), ())
    })
}

fn entries_in(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.as_chunks::<16>().0.iter().map(|[a, b, c, d, e, f, g, h, bits @ ..]| {
        (u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), u64::from_le_bytes(*bits))
    })
}

fn bytes_of((group, bits): Entry) -> impl Iterator<Item = u8> {
    group.to_le_bytes().into_iter().chain(bits.to_le_bytes())
}

fn name_of(shard: u64) -> String {
    format!("farebox.counted.{LAYOUT}.{shard}")
}
