//! Which process a reading came from. Two lives of a proxy are told apart by when they started.
//!
//! Two clocks tell the start. The proxy's own: its time of day, which comes with every reply, minus its age;
//! exact to a second whatever the clocks of others do. And the companion's monotonic one: when the age was
//! told, minus the age. Either alone may be wrong: a busy proxy sends an old time of day, and a proxy whose
//! clock is set shows another age. Only a start that moved on both is the start of another process.

use serde::{Deserialize, Serialize};

/// Unix milliseconds, both ends included, between which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Not before.
    pub low: i64,
    /// Not after.
    pub high: i64,
}

/// A process of a proxy, as one reading or several have shown it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its start by the clock of its host; `None` if its replies have no time of day.
    pub proxy_clock: Option<Interval>,
    /// Its start by the clock of the companion.
    pub own_clock: Interval,
    /// How many hot restarts led to it.
    pub restart_epoch: u32,
    /// Whether it took over counts of the process before it.
    pub inherits: bool,
}

/// Starts at least this far apart, in milliseconds, are two starts. Ages and times of day have whole seconds.
/// Where it is not certain that there are two processes, one is assumed: the other way round would count
/// twice.
const MARGIN: i64 = 2_000;

// === impl Interval ===

impl Interval {
    /// Milliseconds between the two, 0 if they meet.
    const fn gap(self, other: Self) -> i64 {
        let after = self.low.saturating_sub(other.high);
        let before = other.low.saturating_sub(self.high);
        let gap = if after > before { after } else { before };
        if gap > 0 { gap } else { 0 }
    }

    /// What both leave possible. If that is nothing, clocks have drifted and the later reading knows better.
    fn narrowed(self, later: Self) -> Self {
        let met = Self { low: self.low.max(later.low), high: self.high.min(later.high) };
        if met.low <= met.high { met } else { later }
    }
}

// === impl Process ===

impl Process {
    /// A source whose counters outlive every process, such as a database: always the same one.
    pub const fn lasting() -> Self {
        let own_clock = Interval { low: 0, high: 0 };
        Self { proxy_clock: None, own_clock, restart_epoch: 0, inherits: false }
    }

    /// Whether it is [`Self::lasting`].
    pub fn is_lasting(&self) -> bool {
        *self == Self::lasting()
    }

    /// How far apart the starts are, in milliseconds; `None` if this and the one a reading shows are two
    /// processes.
    pub fn distance(&self, seen: &Self) -> Option<i64> {
        if self.restart_epoch != seen.restart_epoch {
            return None;
        }
        let own = self.own_clock.gap(seen.own_clock);
        let gap = match (self.proxy_clock, seen.proxy_clock) {
            (Some(known), Some(seen)) => own.min(known.gap(seen)),
            _ => own,
        };
        (gap <= MARGIN).then_some(gap)
    }

    /// Whether this took over the counts of the one a reading shows. What that one still counts while it
    /// drains, this one counts as well.
    pub fn succeeds(&self, seen: &Self) -> bool {
        let later = match (self.proxy_clock, seen.proxy_clock) {
            (Some(own), Some(seen)) => own.low >= seen.high,
            _ => self.own_clock.low >= seen.own_clock.high,
        };
        self.inherits && self.restart_epoch > seen.restart_epoch && later
    }

    /// Learns from another reading of the same process.
    pub fn refine(&mut self, seen: &Self) {
        self.own_clock = self.own_clock.narrowed(seen.own_clock);
        self.proxy_clock = match (self.proxy_clock, seen.proxy_clock) {
            (Some(known), Some(seen)) => Some(known.narrowed(seen)),
            (known, seen) => seen.or(known),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(proxy: Option<i64>, own: i64) -> Process {
        Process {
            proxy_clock: proxy.map(|low| Interval { low, high: low + 1_000 }),
            own_clock: Interval { low: own - 1_000, high: own + 1_000 },
            restart_epoch: 0,
            inherits: false,
        }
    }

    #[test]
    fn a_start_that_moved_on_both_clocks_is_another_process() {
        let known = started(Some(100_000), 100_500);
        assert_eq!(known.distance(&started(Some(103_000), 103_500)), Some(1_000));
        assert_eq!(known.distance(&started(Some(104_000), 104_500)), Some(2_000));
        assert_eq!(known.distance(&started(Some(105_000), 105_500)), None);
        assert_eq!(known.distance(&started(Some(90_000), 90_500)), None);
    }

    #[test]
    fn a_clock_that_is_set_makes_no_other_process() {
        let known = started(Some(100_000), 100_500);
        let companions_clock = started(Some(100_000), 3_700_500);
        let proxys_clock = started(Some(3_700_000), 100_500);
        assert_eq!(known.distance(&companions_clock), Some(0));
        assert_eq!(known.distance(&proxys_clock), Some(0));
    }

    #[test]
    fn without_a_time_of_day_the_companions_clock_decides() {
        let known = started(None, 100_500);
        assert_eq!(known.distance(&started(Some(0), 101_000)), Some(0));
        assert_eq!(known.distance(&started(Some(0), 105_500)), None);
    }

    #[test]
    fn a_hot_restart_is_another_process_however_soon() {
        let known = started(Some(100_000), 100_500);
        assert_eq!(known.distance(&Process { restart_epoch: 1, ..known }), None);
    }

    #[test]
    fn the_heir_of_a_hot_restart_succeeds_older_processes_and_none_that_started_since() {
        let old = started(Some(100_000), 100_500);
        let heir = Process { restart_epoch: 1, inherits: true, ..started(Some(200_000), 200_500) };
        assert!(heir.succeeds(&old));
        assert!(!old.succeeds(&heir));
        assert!(!heir.succeeds(&started(Some(300_000), 300_500)));
        assert!(!heir.succeeds(&started(Some(200_000), 200_500)));
        assert!(!Process { inherits: false, ..heir }.succeeds(&old));
    }

    #[test]
    fn readings_narrow_the_start_and_drift_moves_it() {
        let mut known = started(Some(100_000), 100_500);
        known.refine(&started(Some(99_000), 101_200));
        assert_eq!(known.proxy_clock, Some(Interval { low: 100_000, high: 100_000 }));
        assert_eq!(known.own_clock, Interval { low: 100_200, high: 101_500 });
        known.refine(&started(None, 103_000));
        assert_eq!(known.proxy_clock, Some(Interval { low: 100_000, high: 100_000 }));
        assert_eq!(known.own_clock, Interval { low: 102_000, high: 104_000 });
    }

    #[test]
    fn a_doubtful_start_does_not_become_certain_later() {
        // A successor 3 s younger, seen at first a second too early, stays who it was taken for.
        let mut known = started(Some(100_000), 100_500);
        known.refine(&started(Some(99_000), 100_500));
        let early = started(Some(102_000), 103_500);
        assert!(known.distance(&early).is_some());
        known.refine(&early);
        assert!(known.distance(&started(Some(103_000), 103_500)).is_some());
    }
}
