//! Which groups of counters this process has, so that a VM that begins later defines them too.
//!
//! Envoy keeps a counter as long as some VM has defined it, and drops it with its value when the last of these
//! VMs goes. Defining every counter of every offer in every VM would keep them all, and takes minutes with ten
//! thousand offers; most are never moved. So a group is written down here when it is first moved, and every VM
//! defines what is written down.

use std::collections::BTreeSet;

use proxy_wasm::types::Status;

use crate::shared_data;

/// Entries of shared data: a write copies one of them.
const SHARDS: u64 = 64;

/// What was written down when it was last read.
#[derive(Default)]
pub(crate) struct Counted {
    groups: BTreeSet<u64>,
    /// The version of each entry that was read.
    versions: Vec<u32>,
}

// === impl Counted ===

impl Counted {
    /// Reads again what has changed. Says whether there was any.
    pub(crate) fn refresh(&mut self) -> Result<bool, Status> {
        let mut changed = false;
        for shard in 0..SHARDS {
            let (bytes, version) = shared_data::read(&name_of(shard))?;
            let place = usize::try_from(shard).unwrap_or(usize::MAX);
            match self.versions.get_mut(place) {
                Some(known) if *known == version => continue,
                Some(known) => *known = version,
                None => self.versions.push(version),
            }
            changed = true;
            self.groups.extend(groups_in(&bytes));
        }
        Ok(changed)
    }

    /// Whether a group was moved by some VM of this process.
    pub(crate) fn has(&self, group: u64) -> bool {
        self.groups.contains(&group)
    }

    /// Forgets the groups that are not `live`, here and for everybody.
    pub(crate) fn retain(&mut self, live: &BTreeSet<u64>) -> Result<(), Status> {
        let gone: BTreeSet<u64> = self.groups.difference(live).map(|group| group % SHARDS).collect();
        for shard in gone {
            shared_data::change(&name_of(shard), |bytes| {
                let kept = groups_in(bytes).filter(|group| live.contains(group));
                (Some(kept.flat_map(u64::to_le_bytes).collect()), ())
            })?;
        }
        self.groups.retain(|group| live.contains(group));
        Ok(())
    }
}

/// Writes a group down.
pub(crate) fn note(group: u64) -> Result<(), Status> {
    shared_data::change(&name_of(group % SHARDS), |bytes| {
        let known = groups_in(bytes).any(|known| known == group);
        let with = || [bytes, &group.to_le_bytes()].concat();
        ((!known).then(with), ())
    })
}

fn groups_in(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk))
}

fn name_of(shard: u64) -> String {
    format!("farebox.counted.{shard}")
}
