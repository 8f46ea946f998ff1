//! One bucket: a packed list of records, pruned on every write.

use super::record::{Record, State, decode, encode, keepable};
use super::{Binding, KeyChange, ReplayKey, Reservation};
use crate::Now;
use crate::rules::RuleSet;

/// How much longer than its authorization a record of a request still at work is kept, seconds. A response
/// may outlast the authorization that paid for it; its end must still find the record.
const IN_FLIGHT_GRACE_SECONDS: u64 = 3_600;

/// Records are about 64 bytes, so a bucket stays near 16 kB and the whole table below 64 MB, with room for
/// a million payments that can still be replayed.
const RECORDS_PER_BUCKET: usize = 256;
/// A settlement repeats a pending call once, so it lasts two calls at most; then some slack.
const SETTLING_SLACK_MS: u64 = 10_000;

/// Bounds of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most live records of one bucket.
    pub records: usize,
    /// After this many milliseconds in `settling`, the request that settled is taken for dead and the
    /// outcome for unknown.
    pub settling_ms: u64,
}

impl Limits {
    /// Those of a shell that enforces these rules.
    pub fn of(rules: &RuleSet) -> Self {
        let settle_ms = rules.facilitator.as_ref().map_or(0, |f| u64::from(f.settle_timeout_ms));
        Self { records: RECORDS_PER_BUCKET, settling_ms: settle_ms * 2 + SETTLING_SLACK_MS }
    }
}

/// A request for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// The key.
    pub key: ReplayKey,
    /// Route and tuple it is bound to.
    pub binding: Binding,
    /// Unix seconds until which the record is kept.
    pub keep_until: u64,
}

/// A reservation and the bucket's new bytes; `None` if nothing has to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The answer, valid only if the write succeeded.
    pub reservation: Reservation,
    /// What to write under compare-and-swap.
    pub write: Option<Vec<u8>>,
    /// Unknown records that fell off in this write; counted by whoever wins it.
    pub expired: Vec<Expired>,
}

/// An unknown settlement that outlived its record; see [`super::expired_stamps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// [`Binding::tuple`] of the record.
    pub tuple: u32,
    /// The record was left in `settling` by a crash, so the unresolved count has not seen it.
    pub first_seen: bool,
}

/// Reserves a key in a bucket. `bucket` is empty for one never written; unreadable bytes answer
/// [`Reservation::Unavailable`].
pub fn reserve(bucket: &[u8], request: &Reserve, limits: &Limits, now: Now) -> Claim {
    let Some(mut records) = decode(bucket) else {
        return refused(Reservation::Unavailable);
    };
    let expired = prune(&mut records, now);
    let full = records.len() >= limits.records;
    let (reservation, claimed) = match records.iter_mut().find(|r| r.key == request.key) {
        Some(record) => claim(record, request, limits, now),
        None if full => (Reservation::Full, false),
        None => {
            records.push(Record {
                key: request.key,
                state: State::Reserved,
                binding: request.binding,
                keep_until: request.keep_until,
                since_ms: 0,
                transaction: None,
            });
            (Reservation::Fresh, true)
        }
    };
    if claimed { Claim { reservation, write: Some(encode(&records)), expired } } else { refused(reservation) }
}

/// Changes the record of a key this request holds. `None` if there is nothing to write.
pub fn apply(
    bucket: &[u8],
    key: &ReplayKey,
    change: &KeyChange,
    now: Now,
) -> Option<(Vec<u8>, Vec<Expired>)> {
    let mut records = decode(bucket)?;
    let place = records.iter().position(|r| r.key == *key)?;
    if *change == KeyChange::Free {
        records.swap_remove(place);
    } else {
        change_record(records.get_mut(place)?, change, now);
    }
    let expired = prune(&mut records, now);
    let bytes = encode(&records);
    (bytes != bucket).then_some((bytes, expired))
}

/// Drops expired records of a bucket. `None` if there are none.
pub fn sweep(bucket: &[u8], now: Now) -> Option<(Vec<u8>, Vec<Expired>)> {
    let mut records = decode(bucket)?;
    let before = records.len();
    let expired = prune(&mut records, now);
    (records.len() < before).then(|| (encode(&records), expired))
}

const fn refused(reservation: Reservation) -> Claim {
    Claim { reservation, write: None, expired: Vec::new() }
}

/// Answers a reservation of a known key; `true` if the record was claimed and has to be written.
fn claim(record: &mut Record, request: &Reserve, limits: &Limits, now: Now) -> (Reservation, bool) {
    if record.binding.route != request.binding.route {
        return (Reservation::OtherRoute, false);
    }
    let stale = now.unix_ms.saturating_sub(record.since_ms) >= limits.settling_ms;
    match record.state {
        State::Reserved | State::Delivering => (Reservation::InFlight, false),
        State::Settling | State::Resettling if !stale => (Reservation::InFlight, false),
        State::Delivered => (Reservation::Delivered, false),
        State::Owed => {
            record.state = State::Delivering;
            (Reservation::Redeem { transaction: record.transaction.clone().unwrap_or_default() }, true)
        }
        State::Settling | State::Unknown | State::Resettling => {
            let first_seen = record.state == State::Settling;
            record.state = State::Resettling;
            record.since_ms = now.unix_ms;
            (Reservation::Unresolved { transaction: record.transaction.clone(), first_seen }, true)
        }
    }
}

fn change_record(record: &mut Record, change: &KeyChange, now: Now) {
    record.since_ms = 0;
    match change {
        KeyChange::Free => {}
        KeyChange::Settling => {
            // What was counted as unresolved stays so until it is decided.
            let repeated = matches!(record.state, State::Unknown | State::Resettling);
            record.state = if repeated { State::Resettling } else { State::Settling };
            record.since_ms = now.unix_ms;
        }
        KeyChange::Delivering { transaction } => {
            record.state = State::Delivering;
            record.transaction = keepable(transaction);
        }
        KeyChange::Delivered => {
            record.state = State::Delivered;
            record.transaction = None;
        }
        KeyChange::Owed { transaction } => {
            record.state = State::Owed;
            record.transaction = keepable(transaction);
        }
        KeyChange::Unknown { transaction } => {
            record.state = State::Unknown;
            if let Some(known) = transaction.as_deref().and_then(keepable) {
                record.transaction = Some(known);
            }
        }
    }
}

/// Removes what has expired and says which of it was an open question.
fn prune(records: &mut Vec<Record>, now: Now) -> Vec<Expired> {
    let mut expired = Vec::new();
    records.retain(|record| {
        let grace = if record.state.in_flight() { IN_FLIGHT_GRACE_SECONDS } else { 0 };
        let live = now.unix_seconds() <= record.keep_until.saturating_add(grace);
        if !live && matches!(record.state, State::Unknown | State::Settling | State::Resettling) {
            let first_seen = record.state == State::Settling;
            expired.push(Expired { tuple: record.binding.tuple, first_seen });
        }
        live
    });
    expired
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
