//! Reservations in Envoy's shared data, which every worker of the process sees. It cannot be deleted, so there is
//! a fixed set of keys, one per bucket.

use farebox_core::Now;
use farebox_core::replay::{self, BUCKETS, Expired, KeyChange, Limits, ReplayKey, Reservation, Reserve};
use proxy_wasm::types::Status;

use crate::shared_data;

/// Reserves a key. A table that cannot be read or written answers [`Reservation::Unavailable`].
pub(crate) fn reserve(request: &Reserve, limits: &Limits, now: Now) -> (Reservation, Vec<Expired>) {
    let claimed = shared_data::change(&name_of(request.key.bucket()), |bucket| {
        let claim = replay::reserve(bucket, request, limits, now);
        let expired = if claim.write.is_some() { claim.expired } else { Vec::new() };
        (claim.write, (claim.reservation, expired))
    });
    claimed.unwrap_or((Reservation::Unavailable, Vec::new()))
}

/// Changes a key this request holds. An error leaves the record as it was, which is never less careful:
/// a reservation stays until it expires.
pub(crate) fn change(key: &ReplayKey, change: &KeyChange, now: Now) -> Result<Vec<Expired>, Status> {
    shared_data::change(&name_of(key.bucket()), |bucket| match replay::apply(bucket, key, change, now) {
        Some((bytes, expired)) => (Some(bytes), expired),
        None => (None, Vec::new()),
    })
}

/// Drops what expired in some buckets, so that a table nobody writes to forgets too. Every VM sweeps; only
/// the one whose write wins gets the expired records.
pub(crate) fn sweep(first: u32, count: u32, now: Now) -> Result<Vec<Expired>, Status> {
    let mut all = Vec::new();
    for bucket in (first..first.saturating_add(count)).map(|n| n % BUCKETS) {
        let name = name_of(bucket);
        let (bytes, cas) = shared_data::read(&name)?;
        if let Some((swept, expired)) = replay::sweep(&bytes, now)
            && shared_data::write(&name, &swept, cas)
        {
            all.extend(expired);
        }
    }
    Ok(all)
}

fn name_of(bucket: u32) -> String {
    format!("farebox.replay.{bucket}")
}
