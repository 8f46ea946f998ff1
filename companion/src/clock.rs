//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix seconds.
pub fn unix_seconds() -> u64 {
    unix_millis() / 1000
}

/// Unix milliseconds.
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
