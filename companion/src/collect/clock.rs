//! A time of day that nobody sets.

use std::time::Instant;

use crate::state::unix_millis;

/// The time of day when the companion started, and what has passed since. Ages of proxies are held against
/// it, and a clock that is set must not make every proxy look restarted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    anchor: Instant,
    unix_millis: i64,
}

// === impl Clock ===

impl Clock {
    pub(super) fn start() -> Self {
        Self { anchor: Instant::now(), unix_millis: i64::try_from(unix_millis()).unwrap_or(0) }
    }

    /// One that was started with the time of day so many seconds ahead.
    #[cfg(test)]
    pub(super) fn ahead(seconds: i64) -> Self {
        let clock = Self::start();
        Self { unix_millis: clock.unix_millis + seconds * 1_000, ..clock }
    }

    pub(super) fn unix_millis(&self) -> i64 {
        self.unix_millis.saturating_add(i64::try_from(self.anchor.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    pub(super) fn unix_seconds(&self) -> u64 {
        u64::try_from(self.unix_millis() / 1_000).unwrap_or(0)
    }
}
