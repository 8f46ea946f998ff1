//! Host counter names: labels as `name=.=value;.;` tags before a `farebox_` family, so that Envoy's
//! `stats_tags` can turn them into Prometheus labels (reference: Envoy statistics tag extraction).

use super::{BlockedReason, CallOutcome, Stamp, TupleCounter};
use crate::evm::Amount;
use crate::protocol::Operation;
use crate::rules::{RuleSet, Tuple};

/// A host counter or gauge, decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostSeries {
    /// A counter of a tuple; `born` is part of the tuple.
    Tuple(Tuple, TupleCounter),
    /// Charges of one amount.
    Charged(Tuple, Amount),
    /// Unix seconds of the last charge.
    LastSuccess(Tuple),
    /// Blocked requests of (offer_namespace, offer_name).
    Blocked(String, String, BlockedReason),
    /// Calls that took at most the bucket's bound (not cumulative over buckets); the index is into
    /// [`super::DURATION_BUCKETS`], one past its end for `+Inf`.
    CallBucket(Operation, CallOutcome, usize),
    /// Sum of call durations, milliseconds.
    CallMillis(Operation, CallOutcome),
    /// The generation a proxy enforces (gauge).
    ConfigGeneration,
}

/// The name under which a host keeps a series, without any prefix the host adds itself.
pub fn host_name(series: &HostSeries) -> String {
    let _ = series;
    todo!()
}
/// Reads a host name back; `None` for names that are not ours or not readable (`malformed`).
pub fn decode_host_name(name: &str) -> Option<HostSeries> {
    let _ = name;
    todo!()
}
/// The bucket index of a duration.
pub fn histogram_bucket(millis: u64) -> usize {
    let _ = millis;
    todo!()
}
/// The series a stamp adds to under a rule set, with the increment; two for a call (bucket and sum).
pub fn series_of(stamp: &Stamp, rules: &RuleSet) -> Vec<(HostSeries, u64)> {
    let _ = (stamp, rules);
    todo!()
}
