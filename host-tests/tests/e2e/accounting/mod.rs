//! A scripted run of a few hundred mixed requests over two workers. Afterwards every series of every
//! family of the companion's metrics, in both text formats, is compared with the script's own counts.

mod script;
pub(crate) mod shop;
pub(crate) mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Scrape, Stack};
use serde_json::Value;

use script::Script;
use shop::{OBOL, PRICING, RECIPIENTS, TUPLES};
use tally::{Key, PREFIX, Tally, series};

use crate::common::Settlement;
use crate::support::{Answer, connections_by_worker, now};

/// How long the last counts may take to arrive.
const SETTLED: Duration = Duration::from_secs(10);
/// Families whose values depend on the clock or on chance; each has its own check.
const INEXACT: [&str; 8] = [
    "last_payment_success_seconds",
    "facilitator_request_duration_seconds_bucket",
    "facilitator_request_duration_seconds_sum",
    "config_generation",
    "config_last_reload_success_timestamp_seconds",
    "proxy_last_report_timestamp_seconds",
    "proxy_config_generation",
    "proxy_clock_difference_seconds",
];
/// Families that tell of the relay.
const OF_THE_RELAY: [&str; 2] = ["ledger_up", "proxy_reaches_companion"];
const BOUNDS: [&str; 14] =
    ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf"];
const FAMILIES: [(&str, &str); 34] = [
    ("requests_total", "counter"),
    ("payment_required_total", "counter"),
    ("payment_verified_total", "counter"),
    ("payment_failed_total", "counter"),
    ("charged_requests_total", "counter"),
    ("last_payment_success_seconds", "gauge"),
    ("payment_failure_reasons_total", "counter"),
    ("upstream_failed_after_verify_total", "counter"),
    ("settled_amount_atomic_total", "counter"),
    ("verified_uncharged_total", "counter"),
    ("upstream_failed_after_charge_total", "counter"),
    ("settlements_unresolved", "gauge"),
    ("settlements_resolved_late_total", "counter"),
    ("replay_rejections_total", "counter"),
    ("facilitator_request_duration_seconds", "histogram"),
    ("blocked_requests_total", "counter"),
    ("offers_loaded", "gauge"),
    ("routes_loaded", "gauge"),
    ("skipped_offers", "gauge"),
    ("config_generation", "gauge"),
    ("config_last_reload_successful", "gauge"),
    ("config_last_reload_success_timestamp_seconds", "gauge"),
    ("config_reloads_total", "counter"),
    ("proxy_last_report_timestamp_seconds", "gauge"),
    ("proxy_up", "gauge"),
    ("proxy_config_generation", "gauge"),
    ("proxies_connected", "gauge"),
    ("reports_dropped_total", "counter"),
    ("ready", "gauge"),
    ("facilitator_up", "gauge"),
    ("ledger_up", "gauge"),
    ("proxy_reaches_companion", "gauge"),
    ("proxy_clock_difference_seconds", "gauge"),
    ("build_info", "gauge"),
];

/// The two text formats.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_series_is_exactly_what_a_scripted_run_over_two_workers_did() {
    scripted_run(Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_every_series_is_what_a_scripted_run_did_too() {
    scripted_run(Settlement::Direct).await;
}

async fn scripted_run(settlement: Settlement) {
    let mut options = Options::priced(PRICING);
    options.settings = settlement.settings(2_000, 4_000);
    let stack = Stack::start(options).await.unwrap();
    let started = now();

    let mut script = Script::new(&stack, settlement, expected_at_start(&stack));
    check(&stack, &script.tally, started).await;
    script.play().await;

    assert!(script.requests >= 200, "{} requests", script.requests);
    check(&stack, &script.tally, started).await;
    identities_hold(&script.tally);
    the_facilitator_agrees(&stack, &script).await;
    assert_eq!(stack.origin().unwrap().hits().total(), script.reached);
    for connections in connections_by_worker(&stack).await {
        assert!(connections > 20, "a worker had {connections} connections");
    }
    stack.check_alive().unwrap();
}

/// The expected counts of a stack without requests.
fn expected_at_start(stack: &Stack) -> Tally {
    let mut tally = Tally::new(&TUPLES);
    tally.fixed("offers_loaded", &[], 6);
    for (gate, routes) in [("paid", 6), ("free", 1), ("auth", 1), ("blocked", 1)] {
        tally.fixed("routes_loaded", &[("gate", gate)], routes);
    }
    for (name, scope) in [("multi", "option"), ("broken", "route")] {
        let labels =
            [("offer_namespace", "shop"), ("offer_name", name), ("scope", scope), ("reason", "zero_price")];
        tally.fixed("skipped_offers", &labels, 1);
    }
    tally.fixed("config_last_reload_successful", &[("source", "file")], 1);
    for (result, attempts) in [("applied", 1), ("unchanged", 0), ("rejected", 0)] {
        tally.fixed("config_reloads_total", &[("source", "file"), ("result", result)], attempts);
    }
    let proxy = [("proxy", "envoy"), ("proxy_instance", "envoy-0")];
    tally.fixed("proxy_up", &proxy, 1);
    tally.fixed("ledger_up", &[], 1);
    tally.fixed("proxy_reaches_companion", &proxy, 1);
    tally.fixed("ready", &[], 1);
    tally.fixed("facilitator_up", &[("facilitator", &stack.facilitator_url())], 1);
    tally.fixed("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    tally.fixed("proxies_connected", &[("proxy", "envoy")], 1);
    for reason in ["pruned", "stale_generation", "malformed", "lost"] {
        tally.fixed("reports_dropped_total", &[("reason", reason)], 0);
    }
    tally
}

/// Every series of both formats, and again in later readings: nothing grows without a request.
async fn check(stack: &Stack, tally: &Tally, started: u64) {
    let deadline = Instant::now() + SETTLED;
    let mut page = Page::read(stack, TEXT).await;
    while page.exact() != shown(tally) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        page = Page::read(stack, TEXT).await;
    }
    let open = Page::read(stack, OPEN).await;
    let again = Page::read(stack, TEXT).await;
    for page in [&page, &open, &again] {
        let (seen, expected) = (page.exact(), shown(tally));
        let differences: Vec<_> = seen
            .keys()
            .chain(expected.keys())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|key| seen.get(*key) != expected.get(*key))
            .map(|key| format!("{key:?}: {:?}, expected {:?}", seen.get(key), expected.get(key)))
            .collect();
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        page.check_inexact(stack, tally, started).await;
    }
    let families = |counters: &str| -> Vec<String> {
        let names = FAMILIES
            .iter()
            .filter(|(name, _)| *name != "last_payment_success_seconds" || !tally.charged_at.is_empty())
            .filter(|(name, _)| {
                !OF_THE_RELAY.contains(name) || tally.values().keys().any(|(known, _)| known == name)
            });
        names
            .map(|(name, kind)| match *kind {
                "counter" => format!("{PREFIX}{}{counters} counter", name.trim_end_matches("_total")),
                kind => format!("{PREFIX}{name} {kind}"),
            })
            .collect()
    };
    assert_eq!(page.types, families("_total"));
    assert_eq!(open.types, families(""));
}

/// The tally as a page shows it.
fn shown(tally: &Tally) -> BTreeMap<Key, String> {
    tally.values().iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
}

/// One reading of the companion's metrics.
struct Page {
    series: BTreeMap<Key, String>,
    /// `name kind` of every family, in order.
    types: Vec<String>,
    read_at: u64,
}

// === impl Page ===

impl Page {
    async fn read(stack: &Stack, format: &str) -> Self {
        let request =
            stack.client().get(format!("{}/metrics", stack.companion_url())).header("accept", format);
        let answer = Answer::to(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(format)));
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(text.ends_with("# EOF\n"), format == OPEN);
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect();
        let mut series = series(&Scrape::parse(&text).unwrap());
        if format == OPEN {
            // Whole bounds are written as floats there.
            series = series
                .into_iter()
                .map(|((name, mut labels), value)| {
                    if let Some(bound) = labels.get_mut("le") {
                        *bound = bound.trim_end_matches(".0").to_owned();
                    }
                    ((name, labels), value)
                })
                .collect();
        }
        Self { series, types, read_at: now() }
    }

    fn exact(&self) -> BTreeMap<Key, String> {
        let exact = self.series.iter().filter(|((name, _), _)| !INEXACT.contains(&name.as_str()));
        exact.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn of(&self, family: &str) -> Vec<(&BTreeMap<String, String>, &str)> {
        let of = self.series.iter().filter(|((name, _), _)| name == family);
        of.map(|((_, labels), value)| (labels, value.as_str())).collect()
    }

    async fn check_inexact(&self, stack: &Stack, tally: &Tally, started: u64) {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let charged = self.of("last_payment_success_seconds");
        assert_eq!(charged.len(), tally.charged_at.len());
        for (tuple, at) in &tally.charged_at {
            let gauge = charged.iter().find(|(of, _)| **of == labels(&tuple.labels())).unwrap().1;
            let gauge: u64 = gauge.parse().unwrap();
            assert!((at.saturating_sub(5)..=*at).contains(&gauge), "{tuple:?}: {gauge}, charged at {at}");
        }

        let generation = stack.status().await.unwrap()["config_generation"].to_string();
        assert_eq!(self.of("config_generation"), [(&labels(&[]), generation.as_str())]);
        let proxy = labels(&[("proxy", "envoy"), ("proxy_instance", "envoy-0")]);
        assert_eq!(self.of("proxy_config_generation"), [(&proxy, generation.as_str())]);
        let [(of, apart)] = self.of("proxy_clock_difference_seconds")[..] else { panic!("one proxy") };
        assert!(*of == proxy && (-2..=2).contains(&apart.parse::<i64>().unwrap()), "{apart}");
        let [(of, reported)] = self.of("proxy_last_report_timestamp_seconds")[..] else {
            panic!("one proxy")
        };
        let reported: u64 = reported.parse().unwrap();
        assert_eq!(*of, proxy);
        assert!((self.read_at - 6..=self.read_at).contains(&reported), "{reported} at {}", self.read_at);
        let [(of, loaded)] = self.of("config_last_reload_success_timestamp_seconds")[..] else {
            panic!("one source")
        };
        let loaded: u64 = loaded.parse().unwrap();
        assert_eq!(*of, labels(&[("source", "file")]));
        assert!((started - 120..=started).contains(&loaded), "{loaded}, started {started}");

        for ((name, of), calls) in shown(tally) {
            if name == "facilitator_request_duration_seconds_count" {
                self.check_histogram(&of, &calls);
            }
        }
        assert_eq!(self.of("facilitator_request_duration_seconds_bucket").len(), 12 * BOUNDS.len());
        assert_eq!(self.of("facilitator_request_duration_seconds_sum").len(), 12);
    }

    /// Checks that buckets grow to the count, and that the sum is between the least value that the
    /// buckets permit and an upper bound.
    fn check_histogram(&self, of: &BTreeMap<String, String>, calls: &str) {
        let family = "facilitator_request_duration_seconds";
        let buckets = BOUNDS.map(|bound| {
            let mut labels = of.clone();
            labels.insert("le".to_owned(), bound.to_owned());
            self.series[&(format!("{family}_bucket"), labels)].parse::<u64>().unwrap()
        });
        assert!(buckets.is_sorted(), "{of:?}: {buckets:?}");
        assert_eq!(buckets[13].to_string(), calls);
        let sum: f64 = self.series[&(format!("{family}_sum"), of.clone())].parse().unwrap();
        let at_least: f64 = buckets
            .windows(2)
            .zip(BOUNDS)
            .map(|(pair, bound)| (pair[1] - pair[0]) as f64 * bound.parse::<f64>().unwrap())
            .sum();
        assert!(sum >= at_least * 0.99, "{of:?}: {sum} s in {buckets:?}");
        if of["outcome"] == "timeout" {
            let deadline = if of["operation"] == "verify" { 2.0 } else { 4.0 };
            let calls: f64 = calls.parse().unwrap();
            assert!(sum >= calls * deadline * 0.99, "{of:?}: {sum} s for {calls} calls");
        }
    }
}

/// Checks the identities of the contract, on the numbers of the pages.
fn identities_hold(tally: &Tally) {
    let offers: BTreeSet<_> = TUPLES.iter().map(|tuple| (tuple.namespace, tuple.name)).collect();
    for (namespace, name) in offers {
        let of_offer = |family: &str| -> u128 {
            let tuples = TUPLES.iter().filter(|tuple| (tuple.namespace, tuple.name) == (namespace, name));
            tuples.map(|tuple| tally.of(family, *tuple)).sum()
        };
        let ends = [
            "payment_required_total",
            "payment_failed_total",
            "payment_verified_total",
            "upstream_failed_after_verify_total",
        ];
        assert_eq!(of_offer("requests_total"), ends.map(of_offer).iter().sum(), "{namespace}/{name}");
    }
    for tuple in TUPLES {
        let split = |family: &str| -> u128 {
            let of_tuple = |labels: &BTreeMap<String, String>| {
                tuple.labels().iter().all(|(name, value)| labels.get(*name).is_some_and(|has| has == value))
            };
            tally
                .values()
                .iter()
                .filter(|((name, labels), _)| name == family && of_tuple(labels))
                .map(|(_, value)| value)
                .sum()
        };
        assert_eq!(
            tally.of("payment_failed_total", tuple),
            split("payment_failure_reasons_total"),
            "{tuple:?}"
        );
        let charged = tally.of("payment_verified_total", tuple) - split("verified_uncharged_total");
        let late = tally.late(tuple);
        assert_eq!(tally.of("charged_requests_total", tuple), charged + late, "{tuple:?}");
    }
}

/// Charges and amounts are those the facilitator settled, and every call reached it.
async fn the_facilitator_agrees(stack: &Stack, script: &Script<'_>) {
    let (settlement, tally) = (script.settlement, &script.tally);
    let facilitator = DevFacilitator::of(stack);
    let record = facilitator.record().await;
    let settled = record["settled"].as_array().unwrap();
    for (recipient, tuples) in RECIPIENTS {
        let to_recipient =
            |payment: &&Value| payment["payTo"].as_str().unwrap().eq_ignore_ascii_case(recipient);
        let amounts: Vec<u128> = settled
            .iter()
            .filter(to_recipient)
            .map(|payment| payment["amount"].as_str().unwrap().parse().unwrap())
            .collect();
        let sum = |family: &str| -> u128 { tuples.iter().map(|tuple| tally.of(family, *tuple)).sum() };
        assert_eq!(amounts.len() as u128, sum("charged_requests_total"), "{recipient}");
        assert_eq!(amounts.iter().sum::<u128>(), sum("settled_amount_atomic_total"), "{recipient}");
    }
    assert_eq!(settled.len() as u128, tally.sum("charged_requests_total"));
    assert!(
        tally.of("settled_amount_atomic_total", OBOL) > u128::from(u64::MAX),
        "the test of large amounts has one"
    );
    let verified = u128::from(facilitator.calls("verify").await);
    // The proxy did not get the end of one call, because its client had left.
    assert_eq!(verified + script.looked_up, tally.calls("verify") + 1);
    // The number of the relay's questions about open settlements is not fixed.
    if settlement == Settlement::Direct {
        assert_eq!(u128::from(facilitator.calls("settle").await), tally.calls("settle"));
    }
}
