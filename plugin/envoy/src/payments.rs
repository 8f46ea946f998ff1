//! Payments in Envoy's shared data, which every worker of the process sees: the store of a filter without a relay.
//! Shared data cannot be deleted, so there is a fixed set of names, one per bucket.

use farebox_core::Now;
use farebox_core::payment::{self, Answer, BUCKETS, Event, Expired, KeyDigest, Limits};
use proxy_wasm::types::Status;

use crate::shared_data;

/// Steps a payment. `None` for an answer: the table has no room or cannot be read or written, and nothing was done.
pub(crate) fn step(
    key: KeyDigest,
    tuple: u32,
    event: &Event,
    limits: &Limits,
    now: Now,
) -> (Option<Answer>, Vec<Expired>) {
    let stepped = shared_data::change(&name_of(key.bucket()), |bucket| {
        let stepped = payment::step_in(bucket, key, tuple, event.clone(), limits, now);
        (stepped.write, (stepped.answer, stepped.effects))
    });
    stepped.unwrap_or((None, Vec::new()))
}

/// Drops what is over in some buckets, so that a table nobody writes to forgets too. Every VM sweeps; only
/// the one whose write wins gets the effects.
pub(crate) fn sweep(first: u32, count: u32, limits: &Limits, now: Now) -> Result<Vec<Expired>, Status> {
    let mut all = Vec::new();
    for bucket in (first..first.saturating_add(count)).map(|n| n % BUCKETS) {
        let name = name_of(bucket);
        let (bytes, cas) = shared_data::read(&name)?;
        if let Some((swept, effects)) = payment::sweep(&bytes, limits, now)
            && shared_data::write(&name, &swept, cas)
        {
            all.extend(effects);
        }
    }
    Ok(all)
}

fn name_of(bucket: u32) -> String {
    format!("farebox.payments.{bucket}")
}
