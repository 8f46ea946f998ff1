//! What the gateway counted, in the form in which a proxy reports it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use farebox_core::metrics::{HostSeries, Stamp, series_of};
use farebox_core::rules::RuleSet;

use crate::aggregate::{Interval, Process, Report};
use crate::state::{unix_millis, unix_seconds};

/// Cumulative counters of one life of the gateway.
#[derive(Debug)]
pub struct GatewayMeters {
    process: Process,
    values: Mutex<HashMap<HostSeries, u64>>,
}

// === impl GatewayMeters ===

impl GatewayMeters {
    /// Counters at zero, of a process that starts now.
    pub(super) fn new() -> Self {
        let now = i64::try_from(unix_millis()).unwrap_or(i64::MAX);
        let start = Interval { low: now, high: now };
        let process =
            Process { proxy_clock: Some(start), own_clock: start, restart_epoch: 0, inherits: false };
        Self { process, values: Mutex::default() }
    }

    /// Counts the stamps of one event: the one place where the gateway counts anything. Money is left out, as
    /// the ledger counts it.
    pub fn count(&self, rules: &RuleSet, stamps: &[Stamp]) {
        let counted = stamps.iter().filter(|stamp| rules.counts(stamp));
        let growth: Vec<_> = counted.flat_map(|stamp| series_of(stamp, rules)).collect();
        if growth.is_empty() {
            return;
        }
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for (series, by) in growth {
            let value = values.entry(series).or_default();
            *value = value.saturating_add(by);
        }
    }

    /// Lets go of the counters of offers that are gone from `rules`. What rules after them count is younger, and
    /// stays.
    pub(super) fn forget_gone(&self, rules: &RuleSet) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        values.retain(|series, _| match series {
            HostSeries::Tuple(tuple, _) => tuple.born > rules.generation || rules.tuples.contains(tuple),
            _ => true,
        });
    }

    /// Everything counted so far.
    pub fn report(&self) -> Report {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let values = values.iter().map(|(series, value)| (series.clone(), *value)).collect();
        Report { process: self.process, read_at: unix_seconds(), values, malformed: Vec::new() }
    }
}
