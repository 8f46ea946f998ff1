//! The host's clock.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

use farebox_core::Now;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

thread_local! {
    static LATEST: Cell<u64> = const { Cell::new(0) };
}

/// The time of the event being handled.
pub(crate) fn now() -> Result<Now, Status> {
    let since_epoch =
        hostcalls::get_current_time()?.duration_since(UNIX_EPOCH).map_err(|_| Status::InternalFailure)?;
    let unix_ms = millis(since_epoch);
    LATEST.set(unix_ms);
    Ok(Now { unix_ms })
}

/// The time this VM read last, without a host call.
pub(crate) fn latest() -> Now {
    Now { unix_ms: LATEST.get() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
