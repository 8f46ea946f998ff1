//! The host's clock.

use std::time::{Duration, UNIX_EPOCH};

use farebox_core::Now;
use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

/// The time of the event being handled.
pub(crate) fn now() -> Result<Now, Status> {
    let since_epoch =
        hostcalls::get_current_time()?.duration_since(UNIX_EPOCH).map_err(|_| Status::InternalFailure)?;
    Ok(Now { unix_ms: millis(since_epoch) })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
