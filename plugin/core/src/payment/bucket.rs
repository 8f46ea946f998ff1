//! One bucket of the table in shared data: slots under one compare-and-swap.
//!
//! A shell holds a fixed number of buckets, because shared data cannot be deleted. Every change is a pure function
//! from old bytes to new bytes, so the shell only loops on compare-and-swap.

use super::codec::{decode, encode};
use super::{Answer, Effect, Event, KeyDigest, Leases, Record, step};
use crate::Now;
use crate::metrics::Stamp;
use crate::rules::{RuleSet, TupleIndex};
use crate::terms::Tuple;

/// How many buckets a shell keeps.
pub const BUCKETS: u32 = 4096;

/// A payment in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its key.
    pub(super) key: KeyDigest,
    /// [`super::tuple_hash`] of the metric tuple it is counted under.
    pub(super) tuple: u32,
    /// Its record.
    pub(super) record: Record,
}

/// Bounds of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long requests may hold payments.
    pub leases: Leases,
    /// How long charged payments and payments of unknown outcome are kept, seconds.
    pub retention: u64,
    /// Most payments of one bucket.
    pub records: usize,
    /// Most bytes of one bucket.
    pub bytes: usize,
}

/// A step in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// `None` if the bucket cannot be read or has no room; then nothing was done.
    pub answer: Option<Answer>,
    /// The bytes to write under compare-and-swap. The answer is valid only if the write succeeds.
    pub write: Option<Vec<u8>>,
    /// The effects, with the tuple hash under which each is counted.
    pub effects: Vec<Expired>,
}

/// An effect of a payment that no current request counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Tuple hash of the payment.
    pub tuple: u32,
    /// What to count.
    pub effect: Effect,
}

/// Most payments of a bucket. Delivered payments are small, so the whole table has room for a million of them in
/// less than 64 MB.
const RECORDS_PER_BUCKET: usize = 256;
const BYTES_PER_BUCKET: usize = 256 * 1024;
/// Shortest retention: longer than the usual window of an authorization.
const RETENTION_SECONDS: u64 = 90_000;

/// Steps a payment in a bucket. `bucket` is empty if it was never written.
pub fn step_in(
    bucket: &[u8],
    key: KeyDigest,
    tuple: u32,
    event: Event,
    limits: &Limits,
    now: Now,
) -> Stepped {
    let refused = Stepped { answer: None, write: None, effects: Vec::new() };
    let Some(mut slots) = decode(bucket) else { return refused };
    let mut effects = sweep_all(&mut slots, limits, now);
    let place = slots.iter().position(|slot| slot.key == key);
    let (tuple, record) = match place.map(|place| slots.swap_remove(place)) {
        Some(slot) => (slot.tuple, Some(slot.record)),
        None => (tuple, None),
    };
    let stepped = step(record, event, &limits.leases, now);
    let own = stepped.effects.into_iter().map(|effect| Expired { tuple, effect });
    if !stepped.changed {
        return Stepped { answer: Some(stepped.answer), write: None, effects: own.collect() };
    }
    effects.extend(own);
    // A charged payment is written even into a full bucket.
    let needs_room = place.is_none() && stepped.record.as_ref().is_some_and(|record| !record.is_charged());
    if needs_room && slots.len() >= limits.records {
        return refused;
    }
    slots.extend(stepped.record.map(|record| Slot { key, tuple, record }));
    let bytes = encode(&slots);
    if needs_room && bytes.len() > limits.bytes {
        return refused;
    }
    Stepped { answer: Some(stepped.answer), write: Some(bytes), effects }
}

/// The records of a bucket, for comparisons. `None` if the bucket cannot be read.
pub fn records(bucket: &[u8]) -> Option<Vec<(KeyDigest, Record)>> {
    Some(decode(bucket)?.into_iter().map(|slot| (slot.key, slot.record)).collect())
}

/// Drops payments whose retention is over. `None` if there are none.
pub fn sweep(bucket: &[u8], limits: &Limits, now: Now) -> Option<(Vec<u8>, Vec<Expired>)> {
    let mut slots = decode(bucket)?;
    let before = slots.len();
    let effects = sweep_all(&mut slots, limits, now);
    (slots.len() < before).then(|| (encode(&slots), effects))
}

fn sweep_all(slots: &mut Vec<Slot>, limits: &Limits, now: Now) -> Vec<Expired> {
    let mut effects = Vec::new();
    slots.retain(|slot| {
        let event = Event::Sweep { retention: limits.retention };
        let swept = step(Some(slot.record.clone()), event, &limits.leases, now);
        effects.extend(swept.effects.into_iter().map(|effect| Expired { tuple: slot.tuple, effect }));
        swept.record.is_some()
    });
    effects
}

/// Stable hash of a tuple's labels (FNV-1a, 32 bit). `born` is left out, because a restarted companion sets it to
/// 0 although the series continues.
pub fn tuple_hash(tuple: &Tuple) -> u32 {
    let labels = [&tuple.offer_namespace, &tuple.offer_name, &tuple.chain, &tuple.asset_symbol];
    labels
        .into_iter()
        .flat_map(|label| label.bytes().chain([0xff]))
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The stamps of payments that ended without a current request. Payments of removed offers are not counted,
/// because their series are removed too.
pub fn expired_stamps(expired: &[Expired], rules: &RuleSet) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for Expired { tuple, effect } in expired {
        let place = rules.tuples.iter().position(|known| tuple_hash(known) == *tuple);
        let Some(tuple) = place.and_then(|place| u32::try_from(place).ok()).map(TupleIndex) else {
            continue;
        };
        // Other effects are counted by the request that caused them.
        stamps.extend(effect.counter().map(|counter| Stamp::Tuple(tuple, counter)));
    }
    stamps
}

// === impl Limits ===

impl Limits {
    /// The limits of a shell that enforces these rules.
    pub fn of(rules: &RuleSet) -> Self {
        let settle_ms = rules.facilitator.as_ref().map_or(0, |f| u64::from(f.settle_timeout_ms));
        Self {
            leases: Leases::of_timeout(settle_ms),
            // As long as an authorization that ends at the horizon could be accepted.
            retention: rules
                .settings
                .replay_horizon_seconds
                .max(RETENTION_SECONDS)
                .saturating_add(rules.settings.clock_skew_seconds),
            records: RECORDS_PER_BUCKET,
            bytes: BYTES_PER_BUCKET,
        }
    }
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
