//! Every public family with its samples, taken from one state.

use std::borrow::Cow;
use std::collections::BTreeMap;

use farebox_core::metrics::{
    BlockedReason, DURATION_BUCKETS, FailureReason, Family, LateResult, ReplayState, TupleCounter,
    UnchargedReason,
};
use farebox_core::protocol::Operation;
use farebox_core::rules::{Gate, Tuple};

use crate::aggregate::{CallTotals, DropReason, Totals, TupleTotals};
use crate::publish::ProxyState;
use crate::publish::discovery::Node;
use crate::state::{ReloadResult, State};

/// A family as it is exposed.
#[derive(Debug)]
pub(super) struct FamilySamples {
    pub(super) family: Family,
    pub(super) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Sample {
    /// `_bucket`, `_sum` or `_count` of a histogram, else empty.
    pub(super) suffix: &'static str,
    pub(super) labels: Vec<(&'static str, Cow<'static, str>)>,
    pub(super) value: String,
}

/// Proxies beyond this many share the instance `other`.
const MAX_INSTANCES: usize = 500;
const PROXY: (&str, Cow<'static, str>) = ("proxy", Cow::Borrowed("envoy"));
const SOURCE: (&str, Cow<'static, str>) = ("source", Cow::Borrowed("file"));

/// The families of a state, in exposition order.
pub(super) fn of(state: &State, now: u64) -> Vec<FamilySamples> {
    let totals = state.aggregate.totals();
    let samples = |family| FamilySamples { family, samples: samples(family, state, &totals, now) };
    Family::ALL.into_iter().map(samples).collect()
}

fn samples(family: Family, state: &State, totals: &Totals, now: u64) -> Vec<Sample> {
    let per_tuple = |value: fn(&TupleTotals) -> String| -> Vec<Sample> {
        totals.tuples.iter().map(|(tuple, of)| Sample::new(tuple_labels(tuple), value(of))).collect()
    };
    match family {
        Family::RequestsTotal => per_tuple(|of| of.requests().to_string()),
        Family::PaymentRequiredTotal => per_tuple(|of| of.get(TupleCounter::PaymentRequired).to_string()),
        Family::PaymentVerifiedTotal => per_tuple(|of| of.get(TupleCounter::PaymentVerified).to_string()),
        Family::PaymentFailedTotal => per_tuple(|of| of.failed().to_string()),
        Family::ChargedRequestsTotal => per_tuple(|of| of.charged.to_string()),
        Family::LastPaymentSuccessSeconds => last_success(totals),
        Family::PaymentFailureReasonsTotal => per_value(totals, "reason", FailureReason::ALL, |reason| {
            (reason.as_str(), TupleCounter::PaymentFailed(reason))
        }),
        Family::UpstreamFailedAfterVerifyTotal => {
            per_tuple(|of| of.get(TupleCounter::UpstreamFailedAfterVerify).to_string())
        }
        Family::SettledAmountAtomicTotal => per_tuple(|of| of.amount.to_string()),
        Family::VerifiedUnchargedTotal => per_value(totals, "reason", UnchargedReason::ALL, |reason| {
            (reason.as_str(), TupleCounter::VerifiedUncharged(reason))
        }),
        Family::UpstreamFailedAfterChargeTotal => {
            per_tuple(|of| of.get(TupleCounter::UpstreamFailedAfterCharge).to_string())
        }
        Family::SettlementsUnresolved => per_tuple(|of| of.unresolved().to_string()),
        Family::SettlementsResolvedLateTotal => per_value(totals, "result", LateResult::ALL, |result| {
            (result.as_str(), TupleCounter::ResolvedLate(result))
        }),
        Family::ReplayRejectionsTotal => per_value(totals, "state", ReplayState::ALL, |state| {
            (state.as_str(), TupleCounter::ReplayRejected(state))
        }),
        Family::FacilitatorRequestDurationSeconds => calls(totals),
        Family::BlockedRequestsTotal => blocked(totals),
        Family::ProxyLastReportTimestampSeconds
        | Family::ProxyUp
        | Family::ProxyConfigGeneration
        | Family::ProxiesConnected => proxies(family, &state.proxies, now),
        Family::ProxyPushesAcknowledgedTotal => pushes(state, now, |node| node.acknowledgements),
        Family::ProxyPushesRefusedTotal => pushes(state, now, |node| node.refusals),
        Family::ReportsDroppedTotal => DropReason::ALL
            .map(|reason| Sample::new(vec![label("reason", reason.as_str())], state.dropped(reason)))
            .into(),
        Family::OffersLoaded
        | Family::RoutesLoaded
        | Family::SkippedOffers
        | Family::ConfigGeneration
        | Family::ConfigLastReloadSuccessful
        | Family::ConfigLastReloadSuccessTimestampSeconds
        | Family::ConfigReloadsTotal => config(family, state),
    }
}

// === impl Sample ===

impl Sample {
    fn new(labels: Vec<(&'static str, Cow<'static, str>)>, value: impl ToString) -> Self {
        Self { suffix: "", labels, value: value.to_string() }
    }
}

fn label(name: &'static str, value: &'static str) -> (&'static str, Cow<'static, str>) {
    (name, Cow::Borrowed(value))
}

fn owned(name: &'static str, value: &str) -> (&'static str, Cow<'static, str>) {
    (name, Cow::Owned(value.to_owned()))
}

fn tuple_labels(tuple: &Tuple) -> Vec<(&'static str, Cow<'static, str>)> {
    vec![
        owned("offer_namespace", &tuple.offer_namespace),
        owned("offer_name", &tuple.offer_name),
        owned("chain", &tuple.chain),
        owned("asset_symbol", &tuple.asset_symbol),
    ]
}

/// One counter per tuple and value of a closed set, zeros included.
fn per_value<V: Copy>(
    totals: &Totals,
    name: &'static str,
    values: &[V],
    counter: fn(V) -> (&'static str, TupleCounter),
) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(totals.tuples.len() * values.len());
    for (tuple, of) in &totals.tuples {
        for (text, counter) in values.iter().copied().map(counter) {
            let mut labels = tuple_labels(tuple);
            labels.push(label(name, text));
            samples.push(Sample::new(labels, of.get(counter)));
        }
    }
    samples
}

fn last_success(totals: &Totals) -> Vec<Sample> {
    let charged = totals.tuples.iter().filter_map(|(tuple, of)| Some((tuple, of.last_success?)));
    charged.map(|(tuple, at)| Sample::new(tuple_labels(tuple), at)).collect()
}

fn blocked(totals: &Totals) -> Vec<Sample> {
    let sample = |((namespace, name, reason), count): (&(String, String, BlockedReason), &u128)| {
        let labels = vec![
            owned("offer_namespace", namespace),
            owned("offer_name", name),
            label("reason", reason.as_str()),
        ];
        Sample::new(labels, count)
    };
    totals.blocked.iter().map(sample).collect()
}

fn calls(totals: &Totals) -> Vec<Sample> {
    let mut samples = Vec::new();
    for ((operation, outcome), calls) in &totals.calls {
        let operation = match operation {
            Operation::Verify => "verify",
            Operation::Settle => "settle",
        };
        let labels = vec![label("operation", operation), label("outcome", outcome.as_str())];
        histogram(&mut samples, &labels, calls);
    }
    samples
}

fn histogram(samples: &mut Vec<Sample>, labels: &[(&'static str, Cow<'static, str>)], calls: &CallTotals) {
    let bounds = DURATION_BUCKETS.into_iter().chain(["+Inf"]);
    let mut count = 0;
    for (bound, bucket) in bounds.zip(calls.buckets) {
        count += bucket;
        let mut labels = labels.to_vec();
        labels.push(label("le", bound));
        samples.push(Sample { suffix: "_bucket", labels, value: count.to_string() });
    }
    let seconds = format!("{}.{:03}", calls.millis / 1000, calls.millis % 1000);
    samples.push(Sample { suffix: "_sum", labels: labels.to_vec(), value: seconds });
    samples.push(Sample { suffix: "_count", labels: labels.to_vec(), value: count.to_string() });
}

fn config(family: Family, state: &State) -> Vec<Sample> {
    if family == Family::ConfigReloadsTotal {
        let result = |result: ReloadResult| {
            Sample::new(vec![SOURCE, label("result", result.as_str())], state.reloads[result as usize])
        };
        return ReloadResult::ALL.map(result).into();
    }
    if family == Family::ConfigLastReloadSuccessful {
        let last = state.last_attempt.as_ref().map(|last| u8::from(last.result != ReloadResult::Rejected));
        return last.map(|good| Sample::new(vec![SOURCE], good)).into_iter().collect();
    }
    if family == Family::ConfigLastReloadSuccessTimestampSeconds {
        return state.last_success_at.map(|at| Sample::new(vec![SOURCE], at)).into_iter().collect();
    }
    let Some(active) = &state.active else { return Vec::new() };
    match family {
        Family::OffersLoaded => vec![Sample::new(Vec::new(), active.snapshot.offers_loaded())],
        Family::RoutesLoaded => {
            [("paid", Gate::Paid), ("free", Gate::Free), ("auth", Gate::Auth), ("blocked", Gate::Blocked)]
                .map(|(text, gate)| Sample::new(vec![label("gate", text)], active.snapshot.routes_with(gate)))
                .into()
        }
        Family::SkippedOffers => {
            let mut counts = BTreeMap::new();
            for skipped in &active.snapshot.skipped {
                let key = (&skipped.offer_namespace, &skipped.offer_name, skipped.scope, skipped.reason);
                *counts.entry(key).or_insert(0_u64) += 1;
            }
            let sample = |((namespace, name, scope, reason), count): ((&String, &String, _, _), u64)| {
                let (scope, reason): (farebox_core::rules::SkipScope, farebox_core::rules::SkipReason) =
                    (scope, reason);
                let mut labels = vec![owned("offer_namespace", namespace), owned("offer_name", name)];
                labels.extend([label("scope", scope.as_str()), label("reason", reason.as_str())]);
                Sample::new(labels, count)
            };
            counts.into_iter().map(sample).collect()
        }
        Family::ConfigGeneration => vec![Sample::new(Vec::new(), active.generation)],
        _ => Vec::new(),
    }
}

fn proxies(family: Family, proxies: &[ProxyState], now: u64) -> Vec<Sample> {
    if family == Family::ProxiesConnected {
        let connected = proxies.iter().filter(|proxy| proxy.is_connected(now)).count();
        return vec![Sample::new(vec![PROXY], connected)];
    }
    // The oldest report, the oldest generation and a failed reading speak for those that share an instance.
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    for (index, proxy) in proxies.iter().enumerate() {
        let known = proxy.is_known(now);
        let value = match family {
            Family::ProxyUp => proxy.is_up(now).map(u64::from),
            Family::ProxyConfigGeneration => proxy.confirmed.filter(|_| known),
            _ => proxy.last_report.filter(|_| known),
        };
        let Some(value) = value else { continue };
        let instance = if index < MAX_INSTANCES { proxy.name.as_str() } else { "other" };
        values.entry(instance).and_modify(|known| *known = value.min(*known)).or_insert(value);
    }
    let sample =
        |(instance, value): (&str, u64)| Sample::new(vec![PROXY, owned("proxy_instance", instance)], value);
    values.into_iter().map(sample).collect()
}

/// One counter per proxy that gets its rules over gRPC.
fn pushes(state: &State, now: u64, count: fn(&Node) -> u64) -> Vec<Sample> {
    let nodes = state.discovery.nodes(now);
    nodes.map(|(name, node)| Sample::new(vec![PROXY, owned("proxy_instance", name)], count(node))).collect()
}
