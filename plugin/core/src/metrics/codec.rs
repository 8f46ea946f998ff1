//! Names of series in reports, spools and the ledger: labels as `name=.=value;.;` tags before a `farebox_` family.
//!
//! `;`, `=`, `%` and control characters of a value are written as `%` and two hex digits, so that a value cannot
//! contain or complete the mark `;.;`. Other characters are not changed.

use super::{BlockedReason, CallOutcome, DURATION_BUCKETS, FailureReason, LateResult, ReplayState};
use super::{TupleCounter, UnchargedReason};
use crate::evm::Amount;
use crate::protocol::Operation;
use crate::terms::Tuple;

/// Prefix of every family in a name. It differs from the public prefix, because these families are not the public
/// ones.
const PREFIX: &str = "farebox_";
const CHARGED: &str = "charged_requests_total";
const LAST_SUCCESS: &str = "last_payment_success_seconds";
const BLOCKED: &str = "blocked_requests_total";
const CALL_BUCKET: &str = "facilitator_request_duration_seconds_bucket";
const CALL_MILLIS: &str = "facilitator_request_duration_milliseconds_total";
const GENERATION: &str = "config_generation";

/// Upper bounds of [`DURATION_BUCKETS`] in milliseconds.
const BUCKET_MILLIS: [u64; DURATION_BUCKETS.len()] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];

/// A counter or gauge that requests change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricSeries {
    /// A counter of a tuple; `born` is part of the tuple.
    Tuple(Tuple, TupleCounter),
    /// Charges of one amount.
    Charged(Tuple, Amount),
    /// Unix seconds of the last charge (gauge).
    LastSuccess(Tuple),
    /// Blocked requests of (offer_namespace, offer_name).
    Blocked(String, String, BlockedReason),
    /// Calls that took at most the bucket's bound (not cumulative over buckets). The index is a position in
    /// [`super::DURATION_BUCKETS`], or its length for `+Inf`.
    CallBucket(Operation, CallOutcome, usize),
    /// Sum of call durations, milliseconds.
    CallMillis(Operation, CallOutcome),
    /// The generation a proxy enforces (gauge).
    ConfigGeneration,
}

/// The name of a series.
pub fn series_name(series: &MetricSeries) -> String {
    let mut name = Name(String::with_capacity(192));
    let family = match series {
        MetricSeries::Tuple(tuple, counter) => {
            name.tuple(tuple);
            let (family, label) = counter_family(*counter);
            if let Some((key, value)) = label {
                name.tag(key, value);
            }
            family
        }
        MetricSeries::Charged(tuple, amount) => {
            name.tuple(tuple);
            name.tag("amount", &amount.to_string());
            CHARGED
        }
        MetricSeries::LastSuccess(tuple) => {
            name.tuple(tuple);
            LAST_SUCCESS
        }
        MetricSeries::Blocked(namespace, offer, reason) => {
            name.tag("offer_namespace", namespace);
            name.tag("offer_name", offer);
            name.tag("reason", reason.as_str());
            BLOCKED
        }
        MetricSeries::CallBucket(operation, outcome, bucket) => {
            name.call(*operation, *outcome);
            name.tag("le", DURATION_BUCKETS.get(*bucket).copied().unwrap_or("+Inf"));
            CALL_BUCKET
        }
        MetricSeries::CallMillis(operation, outcome) => {
            name.call(*operation, *outcome);
            CALL_MILLIS
        }
        MetricSeries::ConfigGeneration => GENERATION,
    };
    name.0.push_str(PREFIX);
    name.0.push_str(family);
    name.0
}

/// Reads a name back; `None` for names that are not ours or not readable (`malformed`).
pub fn read_series_name(name: &str) -> Option<MetricSeries> {
    let (tags, family) = name.rsplit_once(PREFIX)?;
    let mut tags = Tags(tags);
    let series = match family {
        GENERATION => MetricSeries::ConfigGeneration,
        BLOCKED => MetricSeries::Blocked(
            tags.take("offer_namespace")?,
            tags.take("offer_name")?,
            BlockedReason::parse(&tags.take("reason")?)?,
        ),
        CALL_BUCKET => {
            let (operation, outcome) = tags.call()?;
            let le = tags.take("le")?;
            let bucket = match DURATION_BUCKETS.iter().position(|bound| *bound == le) {
                Some(bucket) => bucket,
                None if le == "+Inf" => DURATION_BUCKETS.len(),
                None => return None,
            };
            MetricSeries::CallBucket(operation, outcome, bucket)
        }
        CALL_MILLIS => {
            let (operation, outcome) = tags.call()?;
            MetricSeries::CallMillis(operation, outcome)
        }
        CHARGED => MetricSeries::Charged(tags.tuple()?, Amount::parse(&tags.take("amount")?).ok()?),
        LAST_SUCCESS => MetricSeries::LastSuccess(tags.tuple()?),
        _ => {
            let tuple = tags.tuple()?;
            MetricSeries::Tuple(tuple, tags.counter(family)?)
        }
    };
    tags.0.is_empty().then_some(series)
}

/// Writes a tuple in the form of the names. A proxy sends this text to the relay to name the offer.
pub fn tuple_text(tuple: &Tuple) -> String {
    let mut name = Name(String::with_capacity(128));
    name.tuple(tuple);
    name.0
}

/// Reads [`tuple_text`] back.
pub fn parse_tuple_text(text: &str) -> Option<Tuple> {
    let mut tags = Tags(text);
    let tuple = tags.tuple()?;
    tags.0.is_empty().then_some(tuple)
}

/// The bucket index of a duration.
pub fn histogram_bucket(millis: u64) -> usize {
    BUCKET_MILLIS.iter().position(|bound| millis <= *bound).unwrap_or(BUCKET_MILLIS.len())
}

type Label = (&'static str, &'static str);

fn counter_family(counter: TupleCounter) -> (&'static str, Option<Label>) {
    match counter {
        TupleCounter::PaymentPresented => ("payments_presented_total", None),
        TupleCounter::PaymentRequired => ("payment_required_total", None),
        TupleCounter::PaymentVerified => ("payment_verified_total", None),
        TupleCounter::PaymentFailed(r) => ("payment_failure_reasons_total", Some(("reason", r.as_str()))),
        TupleCounter::UpstreamFailedAfterVerify => ("upstream_failed_after_verify_total", None),
        TupleCounter::VerifiedUncharged(r) => ("verified_uncharged_total", Some(("reason", r.as_str()))),
        TupleCounter::UpstreamFailedAfterCharge => ("upstream_failed_after_charge_total", None),
        TupleCounter::UnresolvedOpened => ("settlements_unresolved_opened_total", None),
        TupleCounter::UnresolvedClosed => ("settlements_unresolved_closed_total", None),
        TupleCounter::ResolvedLate(r) => ("settlements_resolved_late_total", Some(("result", r.as_str()))),
        TupleCounter::ReplayRejected(s) => ("replay_rejections_total", Some(("state", s.as_str()))),
    }
}

const fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Verify => "verify",
        Operation::Settle => "settle",
    }
}

/// A name being written.
struct Name(String);

/// The tags of a name that are not read yet.
struct Tags<'a>(&'a str);

// === impl MetricSeries ===

impl MetricSeries {
    /// Whether the series belongs to the money families, which the ledger counts (in direct mode the filter).
    pub const fn is_money(&self) -> bool {
        match self {
            Self::Charged(..) | Self::LastSuccess(_) => true,
            Self::Tuple(_, counter) => counter.is_money(),
            Self::Blocked(..) | Self::CallBucket(..) | Self::CallMillis(..) | Self::ConfigGeneration => false,
        }
    }
    /// Whether the series is a time: a gauge that keeps its latest value. Counters add up.
    pub const fn is_time(&self) -> bool {
        matches!(self, Self::LastSuccess(_))
    }
}

/// Adds to the value of a series; a time becomes the later of both.
pub fn grow(known: &mut u64, by: u64, is_time: bool) {
    *known = if is_time { by.max(*known) } else { known.saturating_add(by) };
}

// === impl Name ===

impl Name {
    fn tag(&mut self, key: &str, value: &str) {
        self.0.push_str(key);
        self.0.push_str("=.=");
        for c in value.chars() {
            if matches!(c, ';' | '=' | '%') || c.is_ascii_control() {
                let byte = c as u32 & 0x7f;
                self.0.push('%');
                self.0.extend([byte >> 4, byte & 15].iter().filter_map(|d| char::from_digit(*d, 16)));
            } else {
                self.0.push(c);
            }
        }
        self.0.push_str(";.;");
    }
    fn tuple(&mut self, tuple: &Tuple) {
        self.tag("offer_namespace", &tuple.offer_namespace);
        self.tag("offer_name", &tuple.offer_name);
        self.tag("chain", &tuple.chain);
        self.tag("asset_symbol", &tuple.asset_symbol);
        self.tag("born", &tuple.born.to_string());
    }
    fn call(&mut self, operation: Operation, outcome: CallOutcome) {
        self.tag("operation", operation_name(operation));
        self.tag("outcome", outcome.as_str());
    }
}

// === impl Tags ===

impl Tags<'_> {
    /// Takes the next tag, which must have this key.
    fn take(&mut self, key: &str) -> Option<String> {
        let (value, rest) = self.0.strip_prefix(key)?.strip_prefix("=.=")?.split_once(";.;")?;
        self.0 = rest;
        let mut out = String::with_capacity(value.len());
        let mut chars = value.chars();
        while let Some(c) = chars.next() {
            if c == '%' {
                let byte = chars.next()?.to_digit(16)? << 4 | chars.next()?.to_digit(16)?;
                out.push(char::from_u32(byte).filter(char::is_ascii)?);
            } else {
                out.push(c);
            }
        }
        Some(out)
    }
    fn tuple(&mut self) -> Option<Tuple> {
        Some(Tuple {
            offer_namespace: self.take("offer_namespace")?,
            offer_name: self.take("offer_name")?,
            chain: self.take("chain")?,
            asset_symbol: self.take("asset_symbol")?,
            born: self.take("born")?.parse().ok()?,
        })
    }
    fn call(&mut self) -> Option<(Operation, CallOutcome)> {
        let operation = match self.take("operation")?.as_str() {
            "verify" => Operation::Verify,
            "settle" => Operation::Settle,
            _ => return None,
        };
        Some((operation, CallOutcome::parse(&self.take("outcome")?)?))
    }
    fn counter(&mut self, family: &str) -> Option<TupleCounter> {
        Some(match family {
            "payments_presented_total" => TupleCounter::PaymentPresented,
            "payment_required_total" => TupleCounter::PaymentRequired,
            "payment_verified_total" => TupleCounter::PaymentVerified,
            "upstream_failed_after_verify_total" => TupleCounter::UpstreamFailedAfterVerify,
            "upstream_failed_after_charge_total" => TupleCounter::UpstreamFailedAfterCharge,
            "settlements_unresolved_opened_total" => TupleCounter::UnresolvedOpened,
            "settlements_unresolved_closed_total" => TupleCounter::UnresolvedClosed,
            "payment_failure_reasons_total" => {
                TupleCounter::PaymentFailed(FailureReason::parse(&self.take("reason")?)?)
            }
            "verified_uncharged_total" => {
                TupleCounter::VerifiedUncharged(UnchargedReason::parse(&self.take("reason")?)?)
            }
            "settlements_resolved_late_total" => {
                TupleCounter::ResolvedLate(LateResult::parse(&self.take("result")?)?)
            }
            "replay_rejections_total" => {
                TupleCounter::ReplayRejected(ReplayState::parse(&self.take("state")?)?)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
