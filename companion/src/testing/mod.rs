//! Stand-ins for the companion's neighbours.

mod dev;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use farebox_core::metrics::{HostSeries, host_name};
use farebox_core::rules::Tuple;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub(crate) use dev::{Dev, payment_call};

/// What a fake Envoy answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    pub(crate) uptime: u64,
    /// Takes effect between the two requests that frame a reading.
    pub(crate) uptime_after_stats: Option<u64>,
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
        let answers = Arc::new(Mutex::new(Answers { uptime: 100, ..Answers::default() }));
        let readings = Arc::new(AtomicUsize::new(0));
        let (info, stats, count) = (answers.clone(), answers.clone(), readings.clone());
        let router = Router::new()
            .route(
                "/server_info",
                get(async move || {
                    let uptime = info.lock().unwrap().uptime;
                    json!({"state": "LIVE", "uptime_current_epoch": format!("{uptime}s")}).to_string()
                }),
            )
            .route(
                "/stats",
                get(async move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    let delay = stats.lock().unwrap().delay;
                    tokio::time::sleep(delay).await;
                    let mut answers = stats.lock().unwrap();
                    if let Some(uptime) = answers.uptime_after_stats.take() {
                        answers.uptime = uptime;
                    }
                    answers.render()
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
    fn render(&self) -> String {
        let mut stats: Vec<Value> =
            self.stats.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        if let Some(generation) = self.generation {
            stats.push(json!({"name": "wasmcustom.farebox_config_generation", "value": generation}));
        }
        let rejected = "extension_config_discovery.http_filter.farebox.update_rejected";
        stats.push(json!({"name": rejected, "value": self.rejected}));
        stats.push(json!({"histograms": {"supported_quantiles": [0, 25]}}));
        json!({"stats": stats}).to_string()
    }
}

/// A facilitator that lists exact payments on base-sepolia, in both versions.
pub(crate) async fn fake_facilitator() -> String {
    let kinds = json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
    ], "extensions": [], "signers": {}});
    serve(Router::new().route("/supported", get(async move || kinds.to_string()))).await
}

async fn serve(router: Router) -> String {
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
