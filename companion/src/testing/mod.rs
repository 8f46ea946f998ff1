//! Stand-ins for the companion's neighbours.

mod database;
mod dev;
mod gate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use farebox_core::metrics::{HostSeries, host_name};
use farebox_core::rules::Tuple;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::aggregate::{Interval, Process, Report};
use crate::collect::Reading;
use crate::settings::{FacilitatorSettings, Listen, Settings, Settlement};

pub(crate) use database::{Database, on_every_database};
pub(crate) use dev::{Dev, payment_call, upfront_call};
pub(crate) use gate::{Gate, Lost};

/// Settings of a companion without proxies, by which settlements are made like this.
pub(crate) fn settings(settlement: Settlement) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        shutdown_delay: Duration::ZERO,
        pricing: "pricing.yaml".into(),
        watch: true,
        facilitator: FacilitatorSettings {
            allow_plain_http: false,
            url: None,
            cluster: "facilitator".into(),
            verify_timeout: Duration::from_secs(5),
            settle_timeout: Duration::from_secs(60),
            settlement,
        },
        relay: None,
        gateway: None,
        filter: farebox_core::rules::Settings::default(),
        envoy: None,
        traefik: None,
    }
}

/// The address of a port that is no Unix socket.
pub(crate) fn tcp(listen: &Listen) -> SocketAddr {
    match listen {
        Listen::Tcp(address) => *address,
        Listen::Unix(path) => panic!("{}", path.display()),
    }
}

/// What a fake Envoy answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// Unix seconds, by its own clock.
    pub(crate) started: i64,
    /// Takes effect between the two requests that frame a reading.
    pub(crate) started_after_stats: Option<i64>,
    /// Seconds its clock differs from ours.
    pub(crate) clock_ahead: i64,
    pub(crate) restart_epoch: u32,
    /// Where another process answers for the statistics.
    pub(crate) epoch_in_stats: Option<u32>,
    pub(crate) is_initializing: bool,
    /// Answers nothing of use.
    pub(crate) is_gone: bool,
    pub(crate) generation: Option<u64>,
    pub(crate) rejected: u64,
    /// Names as `/stats` shows them.
    pub(crate) stats: BTreeMap<String, Value>,
    pub(crate) delay: Duration,
}

/// An Envoy's statistics listener.
#[derive(Debug, Clone)]
pub(crate) struct FakeEnvoy {
    pub(crate) url: String,
    pub(crate) answers: Arc<Mutex<Answers>>,
    pub(crate) readings: Arc<AtomicUsize>,
}

impl FakeEnvoy {
    pub(crate) async fn start() -> Self {
        let answers = Arc::new(Mutex::new(Answers { started: now() - 100, ..Answers::default() }));
        let readings = Arc::new(AtomicUsize::new(0));
        let (info, stats, count) = (answers.clone(), answers.clone(), readings.clone());
        let router = Router::new()
            .route(
                "/server_info",
                get(async move || {
                    let answers = info.lock().unwrap();
                    let status = if answers.is_gone { StatusCode::NOT_FOUND } else { StatusCode::OK };
                    (status, [("date", answers.date())], answers.server_info())
                }),
            )
            .route(
                "/stats",
                get(async move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    let delay = stats.lock().unwrap().delay;
                    tokio::time::sleep(delay).await;
                    let mut answers = stats.lock().unwrap();
                    if let Some(started) = answers.started_after_stats.take() {
                        answers.started = started;
                    }
                    ([("date", answers.date())], answers.render())
                }),
            );
        Self { url: serve(router).await, answers, readings }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap());
    }

    pub(crate) fn count(&self, series: &HostSeries, value: u64) {
        self.set(|answers| {
            answers.stats.insert(format!("wasmcustom.{}", host_name(series)), json!(value));
        });
    }
}

impl Answers {
    fn time(&self) -> i64 {
        now() + self.clock_ahead
    }

    fn date(&self) -> String {
        let since = Duration::from_secs(u64::try_from(self.time()).unwrap());
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since)
    }

    fn server_info(&self) -> String {
        json!({
            "state": if self.is_initializing { "INITIALIZING" } else { "LIVE" },
            "uptime_current_epoch": format!("{}s", self.time() - self.started),
            "command_line_options": {"restart_epoch": self.restart_epoch},
        })
        .to_string()
    }

    fn render(&self) -> String {
        let mut stats: Vec<Value> =
            self.stats.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        if let Some(generation) = self.generation {
            stats.push(json!({"name": "wasmcustom.farebox_config_generation", "value": generation}));
        }
        let rejected = "extension_config_discovery.http_filter.farebox.update_rejected";
        stats.push(json!({"name": rejected, "value": self.rejected}));
        let epoch = self.epoch_in_stats.unwrap_or(self.restart_epoch);
        stats.push(json!({"name": "server.hot_restart_epoch", "value": epoch}));
        stats.push(json!({"histograms": {"supported_quantiles": [0, 25]}}));
        json!({"stats": stats}).to_string()
    }
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    i64::try_from(crate::state::unix_seconds()).unwrap()
}

/// A reading of a process that started at this Unix second.
pub(crate) fn report(started: i64, values: Vec<(HostSeries, u64)>) -> Report {
    let interval = Interval { low: started * 1_000, high: started * 1_000 + 1_000 };
    let process =
        Process { proxy_clock: Some(interval), own_clock: interval, restart_epoch: 0, inherits: false };
    Report { process, read_at: 0, values, malformed: Vec::new() }
}

/// A reading of a proxy that enforces a generation and has counted nothing.
pub(crate) fn reading(generation: Option<u64>) -> Reading {
    Reading { generation, rejected: 0, clock: None, relay_is_healthy: None, report: report(0, Vec::new()) }
}

/// A facilitator that lists exact payments on base-sepolia, in both versions.
pub(crate) async fn fake_facilitator() -> String {
    let kinds = json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
    ], "extensions": [], "signers": {}});
    serve(Router::new().route("/supported", get(async move || kinds.to_string()))).await
}

/// Serves on a free port; the address.
pub(crate) async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A tuple on base-sepolia, paid in USDC.
pub(crate) fn tuple(namespace: &str, name: &str, born: u64) -> Tuple {
    Tuple {
        offer_namespace: namespace.into(),
        offer_name: name.into(),
        chain: "eip155:84532".into(),
        asset_symbol: "USDC".into(),
        born,
    }
}

/// A pricing file with one paid route per offer of namespace `ns`.
pub(crate) fn pricing(facilitator: &str, offers: &[&str]) -> String {
    let mut text = format!(
        "wallet: \"0x1111111111111111111111111111111111111111\"\nchain: base-sepolia\nfacilitatorURL: {facilitator}\n"
    );
    text.push_str(if offers.is_empty() { "routes: []\n" } else { "routes:\n" });
    for offer in offers {
        text.push_str(&format!(
            "- pattern: /services/{offer}/*\n  price: \"0.001\"\n  offerNamespace: ns\n  offerName: {offer}\n"
        ));
    }
    text
}

/// Polls until `check` holds; fails after five seconds.
pub(crate) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true: {what}");
}
