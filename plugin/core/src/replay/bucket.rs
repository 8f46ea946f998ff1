//! One bucket: a packed list of records, pruned on every write.

use super::{Binding, KeyChange, ReplayKey, Reservation};
use crate::Now;

/// Bounds of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most live records of one bucket.
    pub records: usize,
    /// After this many milliseconds in `settling`, the request that settled is taken for dead and the
    /// outcome for unknown.
    pub settling_ms: u64,
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

/// An unknown settlement that outlived its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// [`Binding::tuple`] of the record.
    pub tuple: u32,
}

/// Reserves a key in a bucket. `bucket` is empty for one never written; unreadable bytes answer
/// [`Reservation::Unavailable`].
pub fn reserve(bucket: &[u8], request: &Reserve, limits: &Limits, now: Now) -> Claim {
    let _ = (bucket, request, limits, now);
    todo!()
}
/// Changes the record of a key this request holds. `None` if there is nothing to write.
pub fn apply(
    bucket: &[u8],
    key: &ReplayKey,
    change: &KeyChange,
    now: Now,
) -> Option<(Vec<u8>, Vec<Expired>)> {
    let _ = (bucket, key, change, now);
    todo!()
}
/// Drops expired records of a bucket. `None` if there are none.
pub fn sweep(bucket: &[u8], now: Now) -> Option<(Vec<u8>, Vec<Expired>)> {
    let _ = (bucket, now);
    todo!()
}
