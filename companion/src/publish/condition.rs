//! What stands between a proxy and its sales, as far as its statistics tell: its way to the companion, and its clock.

use farebox_core::metrics::{FailureReason, HostSeries, TupleCounter};
use farebox_core::protocol::CLOCK_TOLERANCE_SECONDS;
use tracing::{info, warn};

use crate::collect::Reading;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Condition {
    /// Its clock less the companion's, seconds; as little as can be.
    clock: Option<i64>,
    /// Whether its own health check of the relay succeeds.
    relay_is_healthy: Option<bool>,
    /// Unix seconds since which it fails.
    unhealthy_since: Option<u64>,
    /// Payments about which the companion gave its process no answer.
    unheard: Option<u64>,
    /// Unix seconds at which these were more than before.
    unheard_at: Option<u64>,
    /// The log says so.
    is_told: bool,
}

/// How long a payment that was not answered speaks against the way to the companion, seconds.
const UNHEARD_SECONDS: u64 = 60;
/// How long a health check has failed once it is more than a restart of the companion, seconds.
const UNHEALTHY_SECONDS: u64 = 10;

// === impl Condition ===

impl Condition {
    /// The proxy was read.
    pub(super) fn read(&mut self, name: &str, reading: &Reading, now: u64) {
        let clock_was_wrong = self.clock_is_wrong();
        self.clock = reading.clock;
        self.relay_is_healthy = reading.relay_is_healthy;
        match reading.relay_is_healthy {
            Some(false) => _ = self.unhealthy_since.get_or_insert(now),
            _ => self.unhealthy_since = None,
        }
        let unheard = reading.report.values.iter().filter_map(|(series, value)| match series {
            HostSeries::Tuple(_, TupleCounter::PaymentFailed(FailureReason::CompanionUnreachable)) => {
                Some(*value)
            }
            _ => None,
        });
        let unheard = unheard.fold(0, u64::saturating_add);
        if self.unheard.is_some_and(|before| before < unheard) {
            self.unheard_at = Some(now);
        }
        self.unheard = Some(unheard);
        self.log(name, clock_was_wrong, now);
    }

    fn log(&mut self, name: &str, clock_was_wrong: bool, now: u64) {
        match (clock_was_wrong, self.clock_is_wrong()) {
            (false, true) => warn!(
                proxy = name,
                seconds = self.clock,
                "the clocks of the proxy and of the companion differ: payments are taken for too old or too new; let both \
                 follow one time server"
            ),
            (true, false) => info!(proxy = name, "the clocks of the proxy and of the companion agree again"),
            _ => {}
        }
        let trouble = self.relay_trouble(now);
        match (self.is_told, &trouble) {
            (false, Some(trouble)) => warn!(proxy = name, "the proxy {trouble}"),
            (true, None) => info!(proxy = name, "the proxy reaches the companion's relay again"),
            _ => {}
        }
        self.is_told = trouble.is_some();
    }

    /// See [`Self::clock`].
    pub(super) const fn clock(&self) -> Option<i64> {
        self.clock
    }

    fn clock_is_wrong(&self) -> bool {
        self.clock.is_some_and(|seconds| seconds.unsigned_abs() > CLOCK_TOLERANCE_SECONDS)
    }

    /// Whether it reaches the relay; `None` if nothing tells.
    pub(super) fn reaches_relay(&self, now: u64) -> Option<bool> {
        if self.is_unheard(now) { Some(false) } else { self.relay_is_healthy }
    }

    /// Why it sells nothing, though it has rules. Completes a sentence whose subject is the proxy.
    pub(super) fn relay_trouble(&self, now: u64) -> Option<String> {
        if self.unhealthy_since.is_some_and(|since| now.saturating_sub(since) >= UNHEALTHY_SECONDS) {
            return Some(
                "does not reach the companion's relay: the health check of its cluster fails; compare the address there \
                 with relay.listen"
                    .to_owned(),
            );
        }
        self.is_unheard(now).then(|| {
            "got no answer from the companion's relay about payments in the last minute; compare the address of its \
             cluster with relay.listen, and relay.secret with what it shows"
                .to_owned()
        })
    }

    #[cfg(test)]
    pub(super) fn long_ago(&mut self) {
        self.unhealthy_since = self.unhealthy_since.map(|since| since - UNHEALTHY_SECONDS);
    }

    fn is_unheard(&self, now: u64) -> bool {
        self.unheard_at.is_some_and(|at| now.saturating_sub(at) <= UNHEARD_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{reading, tuple};

    fn unheard(count: u64) -> Reading {
        let mut reading = reading(Some(1));
        let counter = TupleCounter::PaymentFailed(FailureReason::CompanionUnreachable);
        reading.report.values =
            ["a", "b"].map(|name| (HostSeries::Tuple(tuple("ns", name, 0), counter), count)).into();
        reading
    }

    #[test]
    fn payments_the_companion_never_heard_of_speak_against_the_way_to_it_for_a_minute() {
        let mut condition = Condition::default();
        condition.read("e0", &unheard(3), 100);
        assert_eq!(condition.reaches_relay(100), None, "they may be of long ago");
        condition.read("e0", &unheard(4), 105);
        assert_eq!(condition.reaches_relay(105), Some(false));
        assert!(condition.relay_trouble(105).unwrap().contains("got no answer from the companion's relay"));
        condition.read("e0", &unheard(4), 165);
        assert_eq!(condition.reaches_relay(165), Some(false));
        assert_eq!(condition.reaches_relay(166), None);
        // A process that begins anew counts from nothing.
        condition.read("e0", &unheard(0), 170);
        assert_eq!(condition.reaches_relay(170), None);
    }

    #[test]
    fn a_health_check_of_its_own_tells_before_anybody_pays() {
        let healthy = |healthy| Reading { relay_is_healthy: Some(healthy), ..reading(None) };
        let mut condition = Condition::default();
        condition.read("e0", &healthy(false), 100);
        assert_eq!((condition.reaches_relay(100), condition.relay_trouble(109)), (Some(false), None));
        condition.read("e0", &healthy(false), 110);
        assert!(condition.is_told);
        assert!(
            condition.relay_trouble(110).unwrap().contains("compare the address there with relay.listen")
        );
        condition.read("e0", &healthy(true), 115);
        assert_eq!((condition.reaches_relay(115), condition.relay_trouble(125)), (Some(true), None));
    }

    #[test]
    fn a_clock_that_differs_by_more_than_a_few_seconds_is_wrong() {
        let mut condition = Condition::default();
        for (seconds, wrong) in [(0, false), (5, false), (-5, false), (6, true), (-6, true), (i64::MIN, true)]
        {
            condition.read("e0", &Reading { clock: Some(seconds), ..reading(None) }, 1);
            assert_eq!((condition.clock(), condition.clock_is_wrong()), (Some(seconds), wrong));
        }
    }
}
