//! Every public family with its samples, made from one state.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use farebox_core::metrics::{
    DURATION_BUCKETS, FailureReason, Family, LateResult, ReplayState, TupleCounter, UnchargedReason,
};
use farebox_core::protocol::Operation;
use farebox_core::rules::Gate;
use farebox_core::terms::Tuple;

use super::exposition::{Format, Labels, Page};
use super::facts::{Facts, Shared};
use crate::counts::{Counts, DropReason, Totals, TupleTotals};
use crate::facilitator::FacilitatorState;
use crate::publish::discovery::Node;
use crate::publish::{Proxies, ProxyState};
use crate::rules::{Active, ReloadResult};

/// The samples of a state. The page is written without a lock, because a page for ten thousand offers has 50 MB.
#[derive(Debug)]
pub(super) struct Families {
    totals: Totals,
    /// Samples of the companion and its proxies.
    own: Vec<(Family, Vec<Sample>)>,
}

/// One line about the companion or a proxy.
#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, Cow<'static, str>)>,
    value: String,
}

/// The labels of each tuple, with its totals.
type Tuples<'a> = Vec<(Labels, &'a TupleTotals)>;

const PROXY: (&str, Cow<'static, str>) = ("proxy", Cow::Borrowed("envoy"));
const SOURCE: (&str, Cow<'static, str>) = ("source", Cow::Borrowed("file"));

// === impl Families ===

impl Families {
    /// Copies the state. Payments wait for this lock, and reports for the lock of the counts, so slow work for many
    /// offers is done later.
    pub(super) fn of(shared: &Shared, now: u64) -> Self {
        let (counts, own, active) = {
            let counted = shared.counted.lock();
            let state = shared.lock();
            let own = Family::ALL.into_iter().map(|family| (family, own(family, &state, &counted, now)));
            (counted.clone(), own.collect(), state.rules.active.clone())
        };
        let mut families = Self { totals: counts.totals(), own };
        families.add_rules(active.as_ref());
        families
    }

    /// Adds the samples of the rules in force.
    fn add_rules(&mut self, active: Option<&Active>) {
        let Some(active) = active else { return };
        for (family, samples) in &mut self.own {
            samples.extend(of_rules(*family, active));
        }
    }

    /// The page, families in exposition order.
    pub(super) fn page(&self, format: Format) -> String {
        let mut page = Page::new(format);
        let tuples: Tuples<'_> =
            self.totals.tuples.iter().map(|(tuple, of)| (tuple_labels(tuple), of)).collect();
        for (family, own) in &self.own {
            match family {
                Family::FacilitatorRequestDurationSeconds => calls(&mut page, &self.totals),
                Family::BlockedRequestsTotal => blocked(&mut page, &self.totals),
                family if family.is_tuple() => of_tuples(&mut page, *family, &tuples),
                family => {
                    for Sample { labels, value } in own {
                        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
                        page.sample((*family, ""), &Labels::of(&labels), None, value);
                    }
                }
            }
        }
        page.finish()
    }
}

// === impl Sample ===

impl Sample {
    fn new(labels: Vec<(&'static str, Cow<'static, str>)>, value: impl ToString) -> Self {
        Self { labels, value: value.to_string() }
    }
}

fn label(name: &'static str, value: &'static str) -> (&'static str, Cow<'static, str>) {
    (name, Cow::Borrowed(value))
}

fn owned(name: &'static str, value: &str) -> (&'static str, Cow<'static, str>) {
    (name, Cow::Owned(value.to_owned()))
}

fn tuple_labels(tuple: &Tuple) -> Labels {
    Labels::of(&[
        ("offer_namespace", &tuple.offer_namespace),
        ("offer_name", &tuple.offer_name),
        ("chain", &tuple.chain),
        ("asset_symbol", &tuple.asset_symbol),
    ])
}

// --- what requests count ---

fn of_tuples(page: &mut Page, family: Family, tuples: &Tuples<'_>) {
    use TupleCounter as Counter;
    match family {
        Family::RequestsTotal => each(page, family, tuples, TupleTotals::requests),
        Family::PaymentFailedTotal => each(page, family, tuples, TupleTotals::failed),
        Family::ChargedRequestsTotal => each(page, family, tuples, |of| of.charged),
        Family::SettledAmountAtomicTotal => each(page, family, tuples, |of| of.amount),
        Family::SettlementsUnresolved => each(page, family, tuples, TupleTotals::unresolved),
        Family::PaymentRequiredTotal => each(page, family, tuples, |of| of.get(Counter::PaymentRequired)),
        Family::PaymentVerifiedTotal => each(page, family, tuples, |of| of.get(Counter::PaymentVerified)),
        Family::UpstreamFailedAfterVerifyTotal => {
            each(page, family, tuples, |of| of.get(Counter::UpstreamFailedAfterVerify));
        }
        Family::UpstreamFailedAfterChargeTotal => {
            each(page, family, tuples, |of| of.get(Counter::UpstreamFailedAfterCharge));
        }
        Family::PaymentFailureReasonsTotal => {
            let of = |reason: FailureReason| (reason.as_str(), Counter::PaymentFailed(reason));
            each_of(page, family, tuples, "reason", FailureReason::ALL, of);
        }
        Family::VerifiedUnchargedTotal => {
            let of = |reason: UnchargedReason| (reason.as_str(), Counter::VerifiedUncharged(reason));
            each_of(page, family, tuples, "reason", UnchargedReason::ALL, of);
        }
        Family::SettlementsResolvedLateTotal => {
            let of = |result: LateResult| (result.as_str(), Counter::ResolvedLate(result));
            each_of(page, family, tuples, "result", LateResult::ALL, of);
        }
        Family::ReplayRejectionsTotal => {
            let of = |state: ReplayState| (state.as_str(), Counter::ReplayRejected(state));
            each_of(page, family, tuples, "state", ReplayState::ALL, of);
        }
        Family::LastPaymentSuccessSeconds => {
            for (labels, of) in tuples {
                if let Some(at) = of.last_success {
                    page.sample((family, ""), labels, None, at);
                }
            }
        }
        _ => {}
    }
}

/// One series per tuple.
fn each<V: Display>(page: &mut Page, family: Family, tuples: &Tuples<'_>, value: fn(&TupleTotals) -> V) {
    for (labels, of) in tuples {
        page.sample((family, ""), labels, None, value(of));
    }
}

/// One series per tuple and value of a closed set, zeros included.
fn each_of<V: Copy>(
    page: &mut Page,
    family: Family,
    tuples: &Tuples<'_>,
    name: &'static str,
    values: &[V],
    counter: fn(V) -> (&'static str, TupleCounter),
) {
    for (labels, of) in tuples {
        for (text, counter) in values.iter().copied().map(counter) {
            page.sample((family, ""), labels, Some((name, text)), of.get(counter));
        }
    }
}

fn blocked(page: &mut Page, totals: &Totals) {
    for ((namespace, name, reason), count) in &totals.blocked {
        let labels = Labels::of(&[("offer_namespace", namespace), ("offer_name", name)]);
        page.sample((Family::BlockedRequestsTotal, ""), &labels, Some(("reason", reason.as_str())), count);
    }
}

fn calls(page: &mut Page, totals: &Totals) {
    let family = Family::FacilitatorRequestDurationSeconds;
    for ((operation, outcome), calls) in &totals.calls {
        let operation = match operation {
            Operation::Verify => "verify",
            Operation::Settle => "settle",
        };
        let labels = Labels::of(&[("operation", operation), ("outcome", outcome.as_str())]);
        let mut count = 0;
        for (bound, bucket) in DURATION_BUCKETS.into_iter().chain(["+Inf"]).zip(calls.buckets) {
            count += bucket;
            page.sample((family, "_bucket"), &labels, Some(("le", bound)), count);
        }
        let seconds = format_args!("{}.{:03}", calls.millis / 1000, calls.millis % 1000);
        page.sample((family, "_sum"), &labels, None, seconds);
        page.sample((family, "_count"), &labels, None, count);
    }
}

// --- the companion and its proxies ---

fn own(family: Family, state: &Facts<'_>, counts: &Counts, now: u64) -> Vec<Sample> {
    match family {
        Family::ProxyLastReportTimestampSeconds
        | Family::ProxyUp
        | Family::ProxyConfigGeneration
        | Family::ProxiesConnected => proxies(family, &state.published.proxies, now),
        Family::ProxyReachesCompanion => {
            of_proxies(&state.published.proxies, |proxy| proxy.reaches_relay(now).map(u8::from))
        }
        Family::ProxyClockDifferenceSeconds => {
            of_proxies(&state.published.proxies, |proxy| Some(proxy.clock()))
        }
        Family::BuildInfo => vec![Sample::new(vec![label("version", env!("CARGO_PKG_VERSION"))], 1)],
        Family::Ready => vec![Sample::new(Vec::new(), u8::from(state.not_ready().is_none()))],
        Family::LedgerUp => vec![Sample::new(Vec::new(), u8::from(state.ledger.error.is_none()))],
        Family::FacilitatorUp => {
            let is_up = |of: &FacilitatorState| u8::from(of.kinds.is_some() && of.failing_since.is_none());
            let sample = |of: &FacilitatorState| Sample::new(vec![owned("facilitator", &of.url)], is_up(of));
            state.facilitators.all.iter().map(sample).collect()
        }
        Family::GatewayReachable => {
            let tried = state.published.traefik.iter().filter(|traefik| traefik.gateway_tried);
            tried.map(|traefik| Sample::new(Vec::new(), u8::from(traefik.gateway_error.is_none()))).collect()
        }
        Family::ProxyPushesAcknowledgedTotal => pushes(state, now, |node| node.acknowledgements),
        Family::ProxyPushesRefusedTotal => pushes(state, now, |node| node.refusals),
        Family::ReportsDroppedTotal => DropReason::ALL
            .map(|reason| {
                Sample::new(vec![label("reason", reason.as_str())], state.spools.dropped(counts, reason))
            })
            .into(),
        family => config(family, state),
    }
}

fn config(family: Family, state: &Facts<'_>) -> Vec<Sample> {
    if family == Family::ConfigReloadsTotal {
        let result = |result: ReloadResult| {
            Sample::new(vec![SOURCE, label("result", result.as_str())], state.rules.reloads[result as usize])
        };
        return ReloadResult::ALL.map(result).into();
    }
    if family == Family::ConfigLastReloadSuccessful {
        let last =
            state.rules.last_attempt.as_ref().map(|last| u8::from(last.result != ReloadResult::Rejected));
        return last.map(|good| Sample::new(vec![SOURCE], good)).into_iter().collect();
    }
    if family == Family::ConfigLastReloadSuccessTimestampSeconds {
        return state.rules.last_success_at.map(|at| Sample::new(vec![SOURCE], at)).into_iter().collect();
    }
    Vec::new()
}

fn of_rules(family: Family, active: &Active) -> Vec<Sample> {
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
                let (scope, reason): (farebox_pricing::SkipScope, farebox_pricing::SkipReason) =
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

fn proxies(family: Family, proxies: &Proxies, now: u64) -> Vec<Sample> {
    if family == Family::ProxiesConnected && !proxies.are_pushed_to() {
        return Vec::new();
    }
    if family == Family::ProxiesConnected {
        let connected = proxies.iter().filter(|proxy| proxy.is_connected(now)).count();
        return vec![Sample::new(vec![PROXY], connected)];
    }
    let value = |proxy: &ProxyState| match family {
        Family::ProxyUp => u64::from(proxy.is_up(now)),
        Family::ProxyConfigGeneration => proxy.confirmed().unwrap_or(0),
        _ => proxy.last_report(),
    };
    of_proxies(proxies, |proxy| Some(value(proxy)))
}

fn of_proxies<T: Display>(proxies: &Proxies, value: impl Fn(&ProxyState) -> Option<T>) -> Vec<Sample> {
    let sample = |proxy: &ProxyState| {
        Some(Sample::new(vec![PROXY, owned("proxy_instance", &proxy.name)], value(proxy)?))
    };
    proxies.iter().filter_map(sample).collect()
}

/// One counter per proxy that gets its rules over gRPC.
fn pushes(state: &Facts<'_>, now: u64, count: fn(&Node) -> u64) -> Vec<Sample> {
    let nodes = state.published.discovery.nodes(now);
    nodes.map(|(name, node)| Sample::new(vec![PROXY, owned("proxy_instance", name)], count(node))).collect()
}
