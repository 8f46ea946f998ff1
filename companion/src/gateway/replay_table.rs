//! Reservations in memory. What must outlive the process is in the ledger; this settles which of two requests
//! of this gateway was first.

use std::sync::{Mutex, PoisonError};

use farebox_core::Now;
use farebox_core::replay::{self, BUCKETS, Expired, KeyChange, Limits, ReplayKey, Reservation, Reserve};

/// The buckets of [`farebox_core::replay`], each behind its own lock.
#[derive(Debug)]
pub(super) struct ReplayTable(Vec<Mutex<Vec<u8>>>);

// === impl ReplayTable ===

impl ReplayTable {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| Mutex::default()).collect())
    }

    /// Reserves a key.
    pub(super) fn reserve(
        &self,
        request: &Reserve,
        limits: &Limits,
        now: Now,
    ) -> (Reservation, Vec<Expired>) {
        let reserved = self.with(request.key.bucket(), |bucket| {
            let claim = replay::reserve(bucket, request, limits, now);
            let expired = if let Some(bytes) = claim.write {
                *bucket = bytes;
                claim.expired
            } else {
                Vec::new()
            };
            (claim.reservation, expired)
        });
        reserved.unwrap_or((Reservation::Unavailable, Vec::new()))
    }

    /// Changes a key a request holds.
    pub(super) fn change(&self, key: &ReplayKey, change: &KeyChange, now: Now) -> Vec<Expired> {
        self.rewrite(key.bucket(), |bucket| replay::apply(bucket, key, change, now))
    }

    /// Drops what expired in some buckets, so that a table nobody writes to forgets too.
    pub(super) fn sweep(&self, first: u32, count: u32, now: Now) -> Vec<Expired> {
        let buckets = (first..first.saturating_add(count)).map(|n| n % BUCKETS);
        buckets.flat_map(|bucket| self.rewrite(bucket, |bytes| replay::sweep(bytes, now))).collect()
    }

    fn rewrite(
        &self,
        bucket: u32,
        rewritten: impl FnOnce(&[u8]) -> Option<(Vec<u8>, Vec<Expired>)>,
    ) -> Vec<Expired> {
        let expired = self.with(bucket, |bytes| {
            let (new, expired) = rewritten(bytes)?;
            *bytes = new;
            Some(expired)
        });
        expired.flatten().unwrap_or_default()
    }

    fn with<T>(&self, bucket: u32, act: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        let place = usize::try_from(bucket).ok()?;
        self.0.get(place).map(|bytes| act(&mut bytes.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
