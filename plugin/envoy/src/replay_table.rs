//! Reservations in Envoy's shared data, which every worker of the process sees.
//!
//! Shared data cannot be deleted, so there is a fixed set of keys, one per bucket. It has no
//! insert-if-absent in the obvious form either: a compare-and-swap of nothing or of 0 overwrites. A number
//! that is never current inserts where the key is absent and is refused where another worker was first.

use farebox_core::Now;
use farebox_core::replay::{self, BUCKETS, Expired, KeyChange, Limits, ReplayKey, Reservation, Reserve};
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// Each lost round means that another worker won it, so a request that loses this many is refused.
const ROUNDS: u32 = 128;

/// A compare-and-swap number no entry ever has.
const ABSENT: u32 = u32::MAX;

/// Reserves a key. A table that cannot be read or written answers [`Reservation::Unavailable`].
pub(crate) fn reserve(request: &Reserve, limits: &Limits, now: Now) -> (Reservation, Vec<Expired>) {
    let name = name_of(request.key.bucket());
    for _ in 0..ROUNDS {
        let Ok((bucket, cas)) = read(&name) else { break };
        let claim = replay::reserve(&bucket, request, limits, now);
        let Some(bytes) = claim.write else {
            return (claim.reservation, Vec::new());
        };
        if write(&name, &bytes, cas) {
            return (claim.reservation, claim.expired);
        }
    }
    (Reservation::Unavailable, Vec::new())
}

/// Changes a key this request holds. An error leaves the record as it was, which is never less careful:
/// a reservation stays until it expires.
pub(crate) fn change(key: &ReplayKey, change: &KeyChange, now: Now) -> Result<Vec<Expired>, Status> {
    let name = name_of(key.bucket());
    for _ in 0..ROUNDS {
        let (bucket, cas) = read(&name)?;
        let Some((bytes, expired)) = replay::apply(&bucket, key, change, now) else {
            return Ok(Vec::new());
        };
        if write(&name, &bytes, cas) {
            return Ok(expired);
        }
    }
    Err(Status::CasMismatch)
}

/// Drops what expired in some buckets, so that a table nobody writes to forgets too. Every VM sweeps; only
/// the one whose write wins gets the expired records.
pub(crate) fn sweep(first: u32, count: u32, now: Now) -> Result<Vec<Expired>, Status> {
    let mut all = Vec::new();
    for bucket in (first..first.saturating_add(count)).map(|n| n % BUCKETS) {
        let name = name_of(bucket);
        let (bytes, cas) = read(&name)?;
        if let Some((swept, expired)) = replay::sweep(&bytes, now)
            && write(&name, &swept, cas)
        {
            all.extend(expired);
        }
    }
    Ok(all)
}

/// The value all workers use under this name: the first one proposed.
pub(crate) fn agree(name: &str, proposal: &[u8]) -> Result<Vec<u8>, Status> {
    if write(name, proposal, ABSENT) {
        return Ok(proposal.to_vec());
    }
    let (agreed, _) = read(name)?;
    if agreed.is_empty() { Err(Status::InternalFailure) } else { Ok(agreed) }
}

/// The next number under this name: no two callers of the process get the same.
pub(crate) fn number(name: &str) -> Result<u64, Status> {
    for _ in 0..ROUNDS {
        let (bytes, cas) = read(name)?;
        let last = core::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        let next = last.unwrap_or(0_u64).saturating_add(1);
        if write(name, next.to_string().as_bytes(), cas) {
            return Ok(next);
        }
    }
    Err(Status::CasMismatch)
}

fn name_of(bucket: u32) -> String {
    format!("farebox.replay.{bucket}")
}

fn read(name: &str) -> Result<(Vec<u8>, u32), Status> {
    let (bytes, cas) = hostcalls::get_shared_data(name)?;
    Ok((bytes.unwrap_or_default(), cas.unwrap_or(ABSENT)))
}

fn write(name: &str, bytes: &[u8], cas: u32) -> bool {
    hostcalls::set_shared_data(name, Some(bytes), Some(cas)).is_ok()
}
