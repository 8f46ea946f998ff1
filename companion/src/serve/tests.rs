use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use farebox_core::evm::Amount;
use farebox_core::metrics::{
    BlockedReason, CallOutcome, FailureReason, Family, Kind, MetricSeries, ReplayState, TupleCounter,
};
use farebox_core::protocol::Operation;
use farebox_core::rules;
use farebox_core::terms;
use tower::ServiceExt;

use super::facts::Facts;
use super::parser::{Read, parse};
use super::*;
use crate::counts::{Counts, Keys, SpoolState};
use crate::facilitator::{BadReply, CredentialState, FacilitatorState, FailedCall};
use crate::gateway::{Deployments, GatewayState};
use crate::ledger::Ledger;
use crate::publish::discovery::Discovery;
use crate::publish::{Loaded, TraefikState};
use crate::rules::{Active, Attempt, ReloadResult};
use crate::settings::Listen;
use crate::testing::{pricing, standing, tuple};

/// Generation of the rules in force.
const GENERATION: u64 = 1000;

/// A companion without reports of proxies.
fn silent() -> Shared {
    let shared = shared();
    shared.lock().published.proxies = Default::default();
    shared
}

/// A companion with a paid offer, a skipped offer, and reports of two proxies.
fn shared() -> Shared {
    let text = pricing("https://pay.example.com", &["a", "b"]).replacen(
        "price: \"0.001\"\n  offerNamespace: ns\n  offerName: b",
        "price: \"0\"\n  offerNamespace: ns\n  offerName: b",
        1,
    );
    let loaded = farebox_pricing::load(&text);
    let snapshot = Arc::new(loaded.snapshot.unwrap());
    let mut counts = Counts::default();
    let keys = Keys::from(&*snapshot);
    counts.apply(keys.births(0, &BTreeMap::new()), keys.offers);
    let a = || tuple("ns", "a", 0);
    let count = |counter, value| (MetricSeries::Tuple(a(), counter), value);
    let counters = [
        count(TupleCounter::PaymentPresented, 5),
        count(TupleCounter::PaymentRequired, 4),
        count(TupleCounter::PaymentVerified, 3),
        count(TupleCounter::PaymentFailed(FailureReason::PaymentInvalid), 2),
        count(TupleCounter::ReplayRejected(ReplayState::InFlight), 1),
        (MetricSeries::Charged(a(), Amount::from_u64(1000)), 3),
        (MetricSeries::LastSuccess(a()), 1_700_000_000),
        (MetricSeries::Blocked("ns".into(), "b".into(), BlockedReason::RouteSkipped), 6),
        (MetricSeries::CallBucket(Operation::Settle, CallOutcome::Success, 0), 2),
        (MetricSeries::CallBucket(Operation::Settle, CallOutcome::Success, 7), 1),
        (MetricSeries::CallMillis(Operation::Settle, CallOutcome::Success), 1_009),
    ];
    counts.read(counters.into());
    let shared = Shared::new("pricing.yaml".into());
    *shared.counted.lock() = counts;
    let mut state = shared.lock();
    hear(&mut state, "e0", GENERATION);
    state.rules.active =
        Some(Active { generation: GENERATION, hash: "0xabc".into(), snapshot, applied_at: 77 });
    state.rules.attempted(Attempt {
        result: ReloadResult::Applied,
        at: 77,
        took: Duration::from_millis(12),
        error: None,
        findings: loaded.findings,
    });
    state.facilitators.all = vec![FacilitatorState {
        url: "https://pay.example.com".into(),
        networks: vec!["eip155:84532".into()],
        kinds: Some(vec!["v2 exact eip155:84532".into()]),
        is_for_development: false,
        loaded_at: Some(76),
        last_error: None,
        failing_since: None,
    }];
    let refused = "https://pay.example.com answered 401".to_owned();
    let credential = CredentialState { refused: Some(refused), ..CredentialState::default() };
    state.facilitators.credentials = [("https://pay.example.com".to_owned(), credential)].into();
    let bad = BadReply {
        operation: "verify",
        status: 400,
        malformed: true,
        words: "no scheme".into(),
        correlation: Some("c-1".into()),
        at: 78,
        logged_at: 0,
    };
    state.facilitators.bad_replies = [("https://pay.example.com".to_owned(), bad)].into();
    let failed = FailedCall { operation: "settle", error: "connection refused".into(), at: 79 };
    state.facilitators.failed_calls = [("https://pay.example.com".to_owned(), failed)].into();
    state.published.discovery = Discovery::with_answers("e0", unix_seconds());
    drop(state);
    shared
}

/// A proxy reports that it enforces a generation.
fn hear(state: &mut Facts<'_>, proxy: &str, generation: u64) {
    let standing = standing(proxy, generation);
    state.published.proxies.heard(proxy, &standing, 0, standing.unix_ms);
}

/// The same companion, with every possible state of proxies.
fn complete() -> Shared {
    let shared = shared();
    shared.lock().published.proxies.pushing(GENERATION, unix_seconds());
    shared.lock().published.traefik = Some(TraefikState { gateway_tried: true, ..TraefikState::default() });
    shared
}

fn page(shared: &Shared, now: u64, format: Format) -> String {
    Families::of(shared, now).page(format)
}

fn exposed(format: Format) -> BTreeMap<String, Read> {
    parse(&page(&complete(), unix_seconds(), format), format)
}

/// Values of a family by the labels named, joined with `,`.
fn values(family: &Read, labels: &[&str]) -> BTreeMap<String, String> {
    let key = |of: &[(String, String)]| {
        let value = |name: &&str| {
            of.iter().find(|(label, _)| label == name).map_or("-", |(_, value)| value).to_owned()
        };
        labels.iter().map(value).collect::<Vec<_>>().join(",")
    };
    family.samples.iter().map(|(_, of, value)| (key(of), value.clone())).collect()
}

#[test]
fn every_family_has_its_name_type_help_and_labels() {
    let read = exposed(Format::Prometheus);
    for family in Family::ALL {
        let known = &read[family.name()];
        assert_eq!(known.help, family.help());
        let kind = match family.kind() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!(known.kind, kind, "{family:?}");
        let tuple: &[&str] = match family {
            family if family.is_tuple() => &["offer_namespace", "offer_name", "chain", "asset_symbol"],
            family if family.is_offer() => &["offer_namespace", "offer_name"],
            _ => &[],
        };
        let mut expected: Vec<_> = tuple.iter().chain(family.extra_labels()).copied().collect();
        for (name, labels, _) in &known.samples {
            if name.ends_with("_bucket") && !expected.contains(&"le") {
                expected.push("le");
            }
            let expected = expected.iter().filter(|label| **label != "le" || name.ends_with("_bucket"));
            let names: Vec<_> = labels.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, expected.copied().collect::<Vec<_>>(), "{family:?}");
        }
    }
    assert_eq!(read.len(), Family::ALL.len());
}

#[test]
fn values_are_exact() {
    let read = exposed(Format::Prometheus);
    let of = |name: &str, labels: &[&str]| values(&read[&format!("obol_x402_verifier_{name}")], labels);
    let one = |name: &str| of(name, &["offer_name"]);
    let a = |value: &str| BTreeMap::from([("a".to_owned(), value.to_owned())]);
    assert_eq!(one("requests_total"), a("9"));
    assert_eq!(one("payment_required_total"), a("4"));
    assert_eq!(one("payment_verified_total"), a("3"));
    assert_eq!(one("payment_failed_total"), a("2"));
    assert_eq!(one("charged_requests_total"), a("3"));
    assert_eq!(one("settled_amount_atomic_total"), a("3000"));
    assert_eq!(one("last_payment_success_seconds"), a("1700000000"));
    assert_eq!(one("settlements_unresolved"), a("0"));
    let reasons = of("payment_failure_reasons_total", &["reason"]);
    assert_eq!(reasons.len(), FailureReason::ALL.len());
    assert_eq!(reasons["payment_invalid"], "2");
    assert_eq!(reasons.values().filter(|value| *value != "0").count(), 1);
    assert_eq!(
        of("replay_rejections_total", &["state"]),
        [("in_flight", "1"), ("settled", "0"), ("other_route", "0")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    );
    assert_eq!(of("blocked_requests_total", &["offer_name", "reason"])["b,route_skipped"], "6");
    assert_eq!(of("skipped_offers", &["offer_name", "scope", "reason"])["b,route,zero_price"], "1");
    assert_eq!(of("offers_loaded", &[])[""], "1");
    let routes = of("routes_loaded", &["gate"]);
    assert_eq!((&*routes["paid"], &*routes["free"], &*routes["blocked"]), ("1", "0", "1"));
    assert_eq!(of("config_generation", &[])[""], "1000");
    assert_eq!(of("config_reloads_total", &["source", "result"])["file,applied"], "1");
    assert_eq!(of("config_last_reload_successful", &["source"])["file"], "1");
    assert_eq!(of("config_last_reload_success_timestamp_seconds", &["source"])["file"], "77");
    assert_eq!(of("proxy_config_generation", &["proxy", "proxy_instance"])["envoy,e0"], "1000");
    assert_eq!(of("proxy_last_report_timestamp_seconds", &["proxy_instance"]).len(), 1);
    assert_eq!(
        of("proxy_up", &["proxy", "proxy_instance"]),
        [("envoy,e0".to_owned(), "1".to_owned())].into()
    );
    assert_eq!(of("proxies_connected", &["proxy"])["envoy"], "1");
    let proxy = &["proxy", "proxy_instance"];
    assert_eq!(of("proxy_pushes_acknowledged_total", proxy)["envoy,e0"], "2");
    assert_eq!(of("proxy_pushes_refused_total", proxy)["envoy,e0"], "1");
    assert_eq!(of("reports_dropped_total", &["reason"])["pruned"], "0");
}

#[test]
fn the_histogram_is_cumulative_and_its_sum_in_seconds() {
    let text = page(&shared(), unix_seconds(), Format::Prometheus);
    let of = |rest: &str| {
        let line = format!("obol_x402_verifier_facilitator_request_duration_seconds{rest} ");
        text.lines()
            .find_map(|found| found.strip_prefix(&line))
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned()
    };
    let settled = r#"{operation="settle",outcome="success""#;
    assert_eq!(of(&format!(r#"_bucket{settled},le="0.005"}}"#)), "2");
    assert_eq!(of(&format!(r#"_bucket{settled},le="0.5"}}"#)), "2");
    assert_eq!(of(&format!(r#"_bucket{settled},le="1"}}"#)), "3");
    assert_eq!(of(&format!(r#"_bucket{settled},le="+Inf"}}"#)), "3");
    assert_eq!(of(&format!("_sum{settled}}}")), "1.009");
    assert_eq!(of(&format!("_count{settled}}}")), "3");
    assert_eq!(of(r#"_count{operation="verify",outcome="timeout"}"#), "0");
}

#[test]
fn openmetrics_names_counters_without_total_and_bounds_as_floats() {
    let text = page(&complete(), unix_seconds(), Format::OpenMetrics);
    let read = parse(&text, Format::OpenMetrics);
    assert_eq!(read.len(), Family::ALL.len());
    assert!(text.contains("# TYPE obol_x402_verifier_requests counter\n"));
    assert!(text.contains("\nobol_x402_verifier_requests_total{"));
    assert!(
        text.contains(r#",le="1.0"}"#) && text.contains(r#",le="0.005"}"#) && text.contains(r#",le="+Inf"}"#)
    );
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn label_values_are_escaped() {
    let odd = "a\"b\\c\nd é";
    let state = shared();
    state.counted.lock().apply([(tuple(odd, odd, 0), 2000)].into(), [].into());
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let read = parse(&page(&state, 0, format), format);
        let name = if format == Format::OpenMetrics { "requests" } else { "requests_total" };
        let family = &read[&format!("obol_x402_verifier_{name}")];
        assert_eq!(family.samples[0].1[0], ("offer_namespace".to_owned(), odd.to_owned()));
    }
}

#[test]
fn before_the_first_load_only_what_is_known_is_exposed() {
    let state = Shared::new("pricing.yaml".into());
    let read = parse(&page(&state, 0, Format::Prometheus), Format::Prometheus);
    assert!(!read.contains_key("obol_x402_verifier_config_generation"));
    assert!(!read.contains_key("obol_x402_verifier_requests_total"));
    assert!(read.contains_key("obol_x402_verifier_config_reloads_total"));
}

#[test]
fn a_silent_proxy_is_down_at_once_disconnected_after_a_minute_and_loses_its_series_after_ten() {
    let state = complete();
    let at = |seconds| {
        let now = unix_seconds() + seconds;
        state.lock().published.proxies.watch(now);
        let read = parse(&page(&state, now, Format::Prometheus), Format::Prometheus);
        let value = |name: &str| {
            let family = read.get(&format!("obol_x402_verifier_{name}"))?;
            Some(values(family, &["proxy"])["envoy"].clone())
        };
        [value("proxies_connected"), value("proxy_up"), value("proxy_config_generation")]
    };
    let says = |values: [&str; 3]| values.map(|value| Some(value.to_owned()));
    assert_eq!(at(0), says(["1", "1", "1000"]));
    assert_eq!(at(15), says(["1", "0", "1000"]));
    assert_eq!(at(65), says(["0", "0", "1000"]));
    assert_eq!(at(610), [Some("0".to_owned()), None, None]);
}

#[test]
fn instances_beyond_the_cap_share_one_series_with_the_lowest_generation() {
    let state = shared();
    for index in 0..502 {
        hear(&mut state.lock(), &format!("f{index}"), 2000 - index);
    }
    let read = parse(&page(&state, unix_seconds(), Format::Prometheus), Format::Prometheus);
    let generations = values(&read["obol_x402_verifier_proxy_config_generation"], &["proxy_instance"]);
    assert_eq!(generations.len(), 501);
    assert_eq!((&*generations["f498"], &*generations["other"]), ("1502", "1499"));
}

#[test]
fn the_accept_header_chooses_the_format() {
    let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, format) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain", Format::Prometheus),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("application/openmetrics-text; version=1.0.0", Format::OpenMetrics),
        ("application/openmetrics-text; version=2.0.0", Format::Prometheus),
        ("application/openmetrics-text;q=0", Format::Prometheus),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.5", Format::Prometheus),
        (prometheus_3, Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

async fn ask(state: &Shared, method: &str, path: &str, accept: &str) -> (u16, HeaderMap, String) {
    ask_with(None, state, method, path, accept).await
}

async fn ask_with(
    gatherer: Option<Arc<Gatherer>>,
    state: &Shared,
    method: &str,
    path: &str,
    accept: &str,
) -> (u16, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).header("accept", accept).body(Body::empty());
    let response = router(state.clone(), gatherer, None).oneshot(request.unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn endpoints_answer_get_and_nothing_else() {
    let state = shared();
    for path in ["/metrics", "/healthz", "/readyz", "/status"] {
        assert_eq!(ask(&state, "GET", path, "").await.0, 200, "{path}");
        let (status, _, body) = ask(&state, "HEAD", path, "").await;
        assert_eq!((status, body.as_str()), (200, ""), "HEAD {path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let (status, headers, body) = ask(&state, method, path, "").await;
            assert_eq!((status, body.as_str()), (405, ""), "{method} {path}");
            assert_eq!(headers["allow"], "GET, HEAD");
        }
    }
    assert_eq!(ask(&state, "GET", "/", "").await.0, 404);
}

#[tokio::test]
async fn content_types_name_the_format() {
    let state = shared();
    let kind = async |accept: &str| ask(&state, "GET", "/metrics", accept).await.1["content-type"].clone();
    assert_eq!(kind("").await, "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(
        kind("application/openmetrics-text").await,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
}

#[tokio::test]
async fn health_is_always_ok_and_readiness_names_its_cause() {
    let state = Shared::new("pricing.yaml".into());
    let (status, _, body) = ask(&state, "GET", "/healthz", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, body.as_str()), (503, "configuration not loaded: no attempt has finished yet\n"));
    let state = shared();
    for _ in 0..2 {
        let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
        assert_eq!((status, body.as_str()), (200, r#"{"status":"ready"}"#));
    }
    state.lock().published.publish_error = Some("x cannot be written".into());
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, body.as_str()), (503, "configuration not published: x cannot be written\n"));
    state.lock().published.publish_error = None;
}

#[tokio::test]
async fn proxies_that_keep_their_payments_themselves_are_named_where_there_are_two() {
    let state = shared();
    let settlement = async || {
        let status: serde_json::Value =
            serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
        status["settlement"].clone()
    };
    assert_eq!(settlement().await, serde_json::json!({ "mode": "relay", "error": null }));
    state.lock().ledger.settles_direct = true;
    hear(&mut state.lock(), "e0", GENERATION);
    assert_eq!(settlement().await, serde_json::json!({ "mode": "direct", "error": null }));
    hear(&mut state.lock(), "e1", GENERATION);
    let error = settlement().await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("e0, e1") && error.contains("use settlement: relay"), "{error}");
    // Two proxies of one name count as two, too.
    let state = shared();
    state.lock().ledger.settles_direct = true;
    let other = farebox_core::metrics::Standing { process: "q".to_owned(), ..standing("x", GENERATION) };
    state.lock().published.proxies.heard("e0", &other, 0, other.unix_ms);
    let error = state.lock().published.settlement_error(true, unix_seconds()).unwrap();
    assert!(error.contains("e0, e0"), "{error}");
}

#[tokio::test]
async fn no_page_of_metrics_lacks_the_families_of_what_is_for_sale() {
    let folder = tempfile::tempdir().unwrap();
    let url = Ledger::file_url(&folder.path().join("l.db"));
    let ledger = Ledger::open(&url, "c1", Default::default()).await.unwrap();
    let state = Shared::new("pricing.yaml".into());
    ledger.close().await;
    let page = async |ledger| {
        let gatherer = Some(Arc::new(Gatherer::new(ledger, state.for_counts())));
        ask_with(gatherer, &state, "GET", "/metrics", "").await
    };
    assert_eq!(page(ledger.clone()).await.0, 200, "nothing is for sale yet");
    let keys = Keys { tuples: [tuple("ns", "a", 0)].into(), ..Keys::default() };
    state.counted.lock().apply(keys.births(1, &BTreeMap::new()), keys.offers);
    let (status, _, cause) = page(ledger).await;
    assert_eq!((status, &*cause), (503, "the counters of the ledger have not been read yet\n"));
    let again = Ledger::open(&url, "c1", Default::default()).await.unwrap();
    let (status, _, body) = page(again).await;
    assert_eq!((status, body.contains("obol_x402_verifier_requests_total{")), (200, true));
}

#[tokio::test]
async fn reading_the_metrics_reads_the_ledger_first_and_shows_the_last_numbers_where_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let url = Ledger::file_url(&folder.path().join("l.db"));
    let ledger = Ledger::open(&url, "c1", Default::default()).await.unwrap();
    let state = shared();
    let gatherer = Arc::new(Gatherer::new(ledger.clone(), state.for_counts()));
    let requests = async || {
        let body = ask_with(Some(gatherer.clone()), &state, "GET", "/metrics", "").await.2;
        values(&parse(&body, Format::Prometheus)["obol_x402_verifier_requests_total"], &["offer_name"])["a"]
            .clone()
    };
    assert_eq!(requests().await, "0");
    let series = MetricSeries::Tuple(tuple("ns", "a", 0), TupleCounter::PaymentPresented);
    let report = farebox_core::metrics::Counted {
        reporter: "r".to_owned(),
        sequence: 1,
        changes: [(series, 30)].into(),
        malformed: 0,
    };
    assert!(ledger.apply(&report).await.unwrap());
    assert_eq!(requests().await, "30");
    ledger.close().await;
    assert_eq!(requests().await, "30");
}

#[tokio::test]
async fn a_chain_without_a_known_facilitator_is_named_and_keeps_back_readiness_once() {
    let state = shared();
    let known = |kinds: Option<&str>, error: Option<&str>| FacilitatorState {
        url: "https://down.example.com".into(),
        networks: vec!["eip155:84532".into()],
        kinds: kinds.map(|kind| vec![kind.to_owned()]),
        is_for_development: false,
        loaded_at: None,
        failing_since: None,
        last_error: error.map(str::to_owned),
    };
    let cause = "no payment on eip155:84532 is taken: no facilitator has said what it supports: \
                 https://down.example.com (answered 500)";
    let closed = vec![known(None, Some("answered 500"))];
    state.lock().facilitators.are(closed.clone(), Vec::new());
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, body), (503, format!("{cause}\n")));
    let status: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert_eq!(status["ready"], false);
    assert_eq!(status["facilitator"]["ready"], false);
    let chain = serde_json::json!([{ "network": "eip155:84532", "cause": cause, "offers": ["ns/a"] }]);
    assert_eq!(status["facilitator"]["closed"], chain);

    state.lock().facilitators.are(vec![known(Some("v2 exact eip155:84532"), None)], Vec::new());
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"ready"}"#));
    // A companion that sells already stays ready, even if a changed file adds a chain.
    state.lock().facilitators.are(closed, Vec::new());
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!(status, 200);
    assert!(body.contains(cause), "{body}");
}

/// The answer of /readyz, and the values of a family on /metrics by its last label.
async fn told(state: &Shared, family: Family) -> (u16, String, Vec<String>) {
    let (status, _, body) = ask(state, "GET", "/readyz", "").await;
    let page = page(state, unix_seconds(), Format::Prometheus);
    let read = parse(&page, Format::Prometheus);
    let values = read[family.name()].samples.iter().map(|(_, _, value)| value.clone()).collect();
    let ready: Vec<_> =
        read[Family::Ready.name()].samples.iter().map(|(_, _, value)| value.clone()).collect();
    assert_eq!(ready, [u8::from(status == 200).to_string()], "the gauge says what the page says");
    (status, body, values)
}

#[tokio::test]
async fn where_every_facilitator_is_dead_nothing_is_ready_and_one_that_restarts_is_no_reason() {
    let state = shared();
    let failing = |since: u64| {
        let mut state = state.lock();
        state.facilitators.all[0].failing_since = Some(since);
        state.facilitators.all[0].last_error = Some("connection refused".into());
    };
    failing(unix_seconds() - 10);
    let (status, _, up) = told(&state, Family::FacilitatorUp).await;
    assert_eq!((status, up), (200, vec!["0".to_owned()]));
    failing(unix_seconds() - 31);
    let (status, body, _) = told(&state, Family::FacilitatorUp).await;
    let cause =
        "no payment can be verified: no facilitator answers: https://pay.example.com (connection refused)\n";
    assert_eq!((status, body.as_str()), (503, cause));
    // Another chain sells.
    let other = FacilitatorState {
        url: "https://other.example.com".into(),
        networks: vec!["eip155:8453".into()],
        kinds: Some(Vec::new()),
        ..FacilitatorState::default()
    };
    state.lock().facilitators.all.push(other);
    let (status, _, up) = told(&state, Family::FacilitatorUp).await;
    assert_eq!((status, up), (200, vec!["0".to_owned(), "1".to_owned()]));
}

#[tokio::test]
async fn where_no_proxy_sells_nothing_is_ready_and_each_that_does_not_is_named() {
    let state = shared();
    let unheard = standing("e0", GENERATION);
    state.lock().published.proxies = Default::default();
    for before in [11_000, 4_000, 0] {
        state.lock().published.proxies.heard("e0", &unheard, 3, unheard.unix_ms - before);
    }
    let (status, body, reaches) = told(&state, Family::ProxyReachesCompanion).await;
    let start = "no proxy sells: e0 got no answer from the companion's relay about payments, ";
    assert!(status == 503 && body.starts_with(start), "{body}");
    assert_eq!(reaches, ["0"]);
    let page: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert_eq!((&page["ready"], &page["proxies"][0]["reaches_relay"]), (&false.into(), &false.into()));
    assert!(page["proxies"][0]["trouble"].as_str().unwrap().starts_with("got no answer"), "{page}");
    // Another proxy sells, and the proxy that does not is named.
    hear(&mut state.lock(), "e1", GENERATION);
    let (status, _, _) = told(&state, Family::ProxyReachesCompanion).await;
    assert_eq!(status, 200);
    let page: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert_eq!(page["proxies"][1]["trouble"], serde_json::Value::Null);
}

#[tokio::test]
async fn where_no_proxy_has_ever_reported_nothing_is_ready_half_a_minute_after_the_push() {
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    let ready = || state.lock().not_ready();
    assert_eq!(ready(), None, "nothing was pushed to an Envoy");
    state.lock().published.proxies.pushing(GENERATION, unix_seconds());
    assert_eq!(ready(), None, "it may report any moment");
    state.lock().published.proxies.pushing(GENERATION + 1, unix_seconds() - 31);
    assert!(ready().unwrap().starts_with("no proxy sells: none reports; "), "{:?}", ready());
    // Proxies that get their rules over gRPC may wait for the companion to be ready. A proxy that took rules does
    // not wait.
    state.lock().published.discovery.address = Some(Listen::Tcp(([127, 0, 0, 1], 9403).into()));
    assert_eq!(ready(), None);
    state.lock().published.discovery = Discovery::with_answers("e0", unix_seconds());
    assert!(ready().unwrap().starts_with("no proxy sells: none reports; "), "{:?}", ready());
    hear(&mut state.lock(), "e0", GENERATION + 1);
    assert_eq!(ready(), None);
}

#[tokio::test]
async fn a_proxy_that_refused_its_first_rules_or_never_took_them_is_not_ready() {
    let state = silent();
    let never = |refusal: &str| {
        let standing = farebox_core::metrics::Standing { refusal: refusal.to_owned(), ..standing("e0", 0) };
        state.lock().published.proxies.heard("e0", &standing, 0, standing.unix_ms);
    };
    state.lock().published.proxies.pushing(GENERATION, unix_seconds());
    never("");
    let (status, _, generation) = told(&state, Family::ProxyConfigGeneration).await;
    assert_eq!((status, generation), (200, vec!["0".to_owned()]), "it may take them any moment");
    state.lock().published.proxies.pushing(GENERATION + 1, unix_seconds() - 31);
    let (status, body, _) = told(&state, Family::ProxyConfigGeneration).await;
    assert!(status == 503 && body.starts_with("no proxy sells: e0 has taken no rules: "), "{body}");
    never("format is 9");
    let (status, body, generation) = told(&state, Family::ProxyConfigGeneration).await;
    let start = "no proxy sells: e0 refused its first rules and serves nothing: format is 9";
    assert!(status == 503 && body.starts_with(start), "{body}");
    assert_eq!(generation, ["0"], "older than any, for the alert");
}

#[tokio::test]
async fn where_every_proxy_is_silent_or_gone_nothing_is_ready() {
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    let hear = |proxy: &str, ago: u64| {
        let standing = standing(proxy, GENERATION);
        state.lock().published.proxies.heard(proxy, &standing, 0, standing.unix_ms - ago * 1_000);
    };
    state.lock().published.proxies.pushing(GENERATION, unix_seconds() - 700);
    hear("e0", 300);
    hear("e1", 33);
    let (status, body, _) = told(&state, Family::ProxyUp).await;
    assert!(status == 503 && body.starts_with("no proxy sells: e0 has not been heard for 30"), "{body}");
    let page: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert!(page["proxies"][1]["trouble"].as_str().unwrap().contains("relay.listen"), "{page}");
    // Over gRPC the proxy may wait for the companion to be ready.
    state.lock().published.discovery.address = Some(Listen::Tcp(([127, 0, 0, 1], 9403).into()));
    assert_eq!(state.lock().not_ready(), None);
    state.lock().published.discovery.address = None;
    hear("e1", 0);
    assert_eq!(told(&state, Family::ProxyUp).await.0, 200);
    state.lock().published.proxies.watch(unix_seconds() + 601);
    assert!(state.lock().not_ready().unwrap().starts_with("no proxy sells: none reports; "));
}

#[tokio::test]
async fn rules_a_proxy_did_not_take_keep_back_no_readiness_while_it_sells() {
    let state = silent();
    let now = unix_seconds();
    state.lock().published.proxies.pushing(GENERATION, now - 60);
    hear(&mut state.lock(), "e0", GENERATION);
    state.lock().published.proxies.pushing(GENERATION + 1, now - 35);
    hear(&mut state.lock(), "e0", GENERATION);
    assert_eq!(ask(&state, "GET", "/readyz", "").await.0, 200);
    let page: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert!(page["proxies"][0]["trouble"].as_str().unwrap().contains("envoy.wasm"), "{page}");
}

#[tokio::test]
async fn a_relay_that_refused_a_call_for_its_secret_is_named_where_no_proxy_reports() {
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    state.lock().published.proxies.pushing(GENERATION, unix_seconds() - 31);
    let body = async || ask(&state, "GET", "/readyz", "").await.2;
    state.lock().published.proxies.refused(unix_seconds() - 62);
    assert!(body().await.contains("envoy.wasm") && !body().await.contains("relay.secret"));
    state.lock().published.proxies.refused(unix_seconds() - 1);
    assert!(body().await.contains("without the words of relay.secret"), "{}", body().await);
}

#[tokio::test]
async fn while_every_proxy_is_refused_at_the_door_nothing_is_ready_and_a_proxy_that_reports_ends_that() {
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    let now = unix_seconds();
    let ready = || state.lock().not_ready();
    state.lock().published.proxies.pushing(GENERATION, now);
    assert_eq!(ready(), None, "it may report any moment");
    state.lock().published.proxies.refused(now);
    let cause = ready().unwrap();
    assert!(cause.starts_with("no proxy sells: none reports; ") && cause.contains("relay.secret"), "{cause}");
    // A new file makes no difference.
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    state.lock().published.proxies.pushing(GENERATION, now - 40);
    state.lock().published.proxies.pushing(GENERATION + 1, now);
    assert!(state.lock().not_ready().is_some());
    // A caller with a wrong secret does not matter if a proxy sells, or if proxies may wait for the companion.
    hear(&mut state.lock(), "e0", GENERATION + 1);
    state.lock().published.proxies.refused(now);
    assert_eq!(state.lock().not_ready(), None);
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    state.lock().published.discovery.address = Some(Listen::Tcp(([127, 0, 0, 1], 9403).into()));
    state.lock().published.proxies.pushing(GENERATION, now);
    state.lock().published.proxies.refused(now);
    assert_eq!(state.lock().not_ready(), None);
}

#[tokio::test]
async fn what_keeps_back_readiness_is_logged_when_it_appears_changes_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let lines = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
    let lines = lines.with_writer(Arc::new(std::fs::File::create(&path).unwrap()));
    tracing::subscriber::with_default(lines.finish(), || {
        let mut told = None;
        for found in [None, Some("a"), Some("a"), Some("b"), None, None] {
            log_change(&mut told, found.map(str::to_owned), "not ready: ");
        }
    });
    let said = std::fs::read_to_string(path).unwrap();
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    assert_eq!(said, ["WARN not ready: a", "WARN not ready: b", "INFO no longer so: b"]);
    // Known proxies have their own log lines.
    let state = silent();
    state.lock().published.discovery = Discovery::default();
    state.lock().published.proxies.pushing(GENERATION, unix_seconds() - 31);
    let now = unix_seconds();
    let mut state = state.lock();
    assert!(state.unlogged(now).is_some_and(|cause| Some(cause) == state.not_ready()));
    hear(&mut state, "e0", 0);
    assert_eq!(state.unlogged(now), None);
}

#[tokio::test]
async fn a_ledger_a_clock_and_a_gateway_that_are_wrong_are_told_apart() {
    let state = shared();
    let (_, _, up) = told(&state, Family::LedgerUp).await;
    assert_eq!(up, ["1"]);
    state.lock().ledger.error = Some("the ledger is full".into());
    let (status, body, up) = told(&state, Family::LedgerUp).await;
    assert_eq!((status, body.as_str(), up), (503, "the ledger is full\n", vec!["0".to_owned()]));
    let page: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert_eq!(page["ledger_error"], "the ledger is full");
    state.lock().ledger.error = None;

    let mut late = standing("e0", GENERATION);
    let now = late.unix_ms;
    late.unix_ms -= 90_000;
    state.lock().published.proxies.heard("e0", &late, 0, now);
    let (status, _, clocks) = told(&state, Family::ProxyClockDifferenceSeconds).await;
    assert_eq!((status, clocks), (200, vec!["-90".to_owned()]));
    let page: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert_eq!(page["proxies"][0]["clock_difference_seconds"], -90);

    let deployments = Arc::new(Deployments::new(None, Duration::ZERO));
    let address = Listen::Tcp(([127, 0, 0, 1], 1).into());
    *state.lock().gateway = Some(GatewayState { address, deployments: deployments.clone() });
    let unreached = Some("traefik.gateway: the companion does not reach it".to_owned());
    state.lock().published.traefik =
        Some(TraefikState { gateway_error: unreached, gateway_tried: true, ..TraefikState::default() });
    let (status, body, reachable) = told(&state, Family::GatewayReachable).await;
    assert!(status == 503 && body.starts_with("traefik.gateway: "), "{body}");
    assert_eq!(reachable, ["0"]);
    // A request has come to the gateway.
    deployments.reached();
    assert_eq!(told(&state, Family::GatewayReachable).await.0, 200);
}

#[tokio::test]
async fn a_traefik_that_refused_the_rules_is_not_ready() {
    let state = shared();
    state.lock().published.proxies = Default::default();
    let api = |error: Option<&str>| {
        let loaded = Loaded { generation: Some(1000), error: error.map(str::to_owned) };
        Some(TraefikState { pushed: Some(1000), api: Some(Ok(loaded)), ..TraefikState::default() })
    };
    state.lock().published.traefik = api(Some("unknown plugin type: farebox"));
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, body.as_str()), (503, "Traefik refused the rules: unknown plugin type: farebox\n"));
    state.lock().published.traefik = api(None);
    assert_eq!(ask(&state, "GET", "/readyz", "").await.0, 200);
}

#[tokio::test]
async fn a_gateway_that_leads_nowhere_is_not_ready() {
    let state = shared();
    let snapshot = state.lock().rules.active.as_ref().unwrap().snapshot.clone();
    let facilitator = rules::Facilitator {
        cluster: "f".into(),
        authority: "f".into(),
        path_prefix: String::new(),
        verify_timeout_ms: 1,
        settle_timeout_ms: 1,
        ready: true,
        relay: true,
    };
    let (none, settings) = (Default::default(), terms::Settings::default());
    let pushed = snapshot.push(1000, &settings, &facilitator, &BTreeMap::new(), &none);
    let compiled = Arc::new(rules::RuleSet::compile(pushed).unwrap());
    let gateway = |default: Option<&str>| {
        let default = default.map(|url| farebox_pricing::HttpUrl::parse(url).unwrap());
        let deployments = Arc::new(Deployments::new(default, Duration::ZERO));
        deployments.apply(compiled.clone(), &snapshot);
        GatewayState { address: Listen::Tcp(([127, 0, 0, 1], 9405).into()), deployments }
    };
    state.lock().published.proxies = Default::default();
    *state.lock().gateway = Some(gateway(None));
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    let start = "the gateway at 127.0.0.1:9405 sells nothing: no route has an upstream";
    assert!(status == 503 && body.starts_with(start), "{body}");
    *state.lock().gateway = Some(gateway(Some("http://127.0.0.1:8000")));
    assert_eq!(ask(&state, "GET", "/readyz", "").await.0, 200);
}

#[tokio::test]
async fn a_companion_that_stops_says_so_before_it_does() {
    let state = shared();
    state.stop();
    let (status, _, body) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, body.as_str()), (503, "the companion is stopping\n"));
    assert_eq!(ask(&state, "GET", "/healthz", "").await.0, 200);
}

#[tokio::test]
async fn the_status_tells_generation_findings_skips_facilitator_and_proxies() {
    let state = shared();
    let (_, headers, body) = ask(&state, "GET", "/status", "").await;
    assert_eq!(headers["content-type"], "application/json");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["config_generation"], 1000);
    assert_eq!(status["config_applied_at"], 77);
    assert_eq!(status["config_err_since"], serde_json::Value::Null);
    assert_eq!(status["last_reload"]["result"], "applied");
    assert_eq!(status["skipped"][0]["reason"], "zero_price");
    assert_eq!(status["skipped"][0]["offer_name"], "b");
    assert!(status["skipped"][0]["place"].as_str().unwrap().starts_with("pricing.yaml:"));
    assert_eq!(
        status["facilitator"],
        serde_json::json!({
            "ready": true,
            "closed": [],
            "unlisted_networks": [],
            "used": [{
                "url": "https://pay.example.com",
                "networks": ["eip155:84532"],
                "kinds": ["v2 exact eip155:84532"],
                "for_development": false,
                "loaded_at": 76,
                "last_error": null,
                "failing_since": null,
                "credential_error": "https://pay.example.com answered 401",
                "last_failed_call": { "operation": "settle", "error": "connection refused", "at": 79 },
                "last_bad_reply": {
                    "operation": "verify",
                    "status": 400,
                    "malformed": true,
                    "words": "no scheme",
                    "correlation_id": "c-1",
                    "at": 78,
                },
            }],
        })
    );
    assert_eq!(status["proxies"][0]["generation_confirmed"], 1000);
    assert_eq!(status["proxies"][0]["reporters"][0]["generation"], 1000);
    assert_eq!(status["discovery"]["listen"], "127.0.0.1:9403");
    let node = &status["discovery"]["proxies"][0];
    assert_eq!(
        (&node["node"], &node["sent"], &node["acknowledged"]),
        (&"e0".into(), &"12".into(), &"11".into())
    );
    assert_eq!(node["refused"]["version"], "12");
    assert_eq!(node["refused"]["message"], "no such filter");
    assert!(node["connected_since"].as_u64().unwrap() > 1_700_000_000);
    assert!(status["started_at"].as_u64().unwrap() > 1_700_000_000);
}

#[tokio::test]
async fn what_traefik_took_and_what_spools_lost_is_told() {
    let state = shared();
    let status: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    assert_eq!(status["traefik"], serde_json::Value::Null, "it is not among the proxies");
    assert_eq!(ask(&state, "GET", "/traefik", "").await.0, 404);
    {
        let mut state = state.lock();
        state.published.traefik =
            Some(TraefikState { pushed: Some(9), polled_at: Some(80), ..TraefikState::default() });
        let spool = |name: &str, generation, lost| SpoolState {
            name: name.into(),
            generation,
            lost,
            malformed: 2,
            last_error: None,
        };
        state.spools.all = vec![spool("t0/farebox", Some(9), 4), spool("t1/farebox", None, 3)];
        let address = Listen::Tcp(([127, 0, 0, 1], 1).into());
        *state.gateway =
            Some(GatewayState { address, deployments: Arc::new(Deployments::new(None, Duration::ZERO)) });
    }
    let status: serde_json::Value = serde_json::from_str(&ask(&state, "GET", "/status", "").await.2).unwrap();
    let traefik = &status["traefik"];
    assert_eq!((&traefik["state"], &traefik["generation_pushed"]), (&"confirmed".into(), &9.into()));
    assert_eq!((&traefik["generation_started"], &traefik["polled_at"]), (&9.into(), &80.into()));
    assert_eq!(
        (&traefik["spools"][0]["name"], &traefik["spools"][0]["lost"]),
        (&"t0/farebox".into(), &4.into())
    );
    assert_eq!(traefik["spools"][1]["lost"], 3);
    let page = ask(&state, "GET", "/metrics", "").await.2;
    for line in ["reports_dropped_total{reason=\"lost\"} 7", "reports_dropped_total{reason=\"malformed\"} 4"]
    {
        assert!(page.contains(line), "{line}");
    }
    state.lock().published.traefik.as_mut().unwrap().publish_error = Some("no space".into());
    let (status, _, cause) = ask(&state, "GET", "/readyz", "").await;
    assert_eq!((status, cause.contains("no space")), (503, true), "{cause}");
}
