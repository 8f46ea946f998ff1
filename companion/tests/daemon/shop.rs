//! A running companion with its gateway, a development facilitator and an upstream.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use farebox_core::protocol::decode_base64;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::Port;
use farebox_testkit::wallet::{Wallet, Window, header_value};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Everything that runs. Programs end with their test.
pub(crate) struct Shop {
    pub(crate) client: reqwest::Client,
    pub(crate) ports: Ports,
    pub(crate) companion: Program,
    _facilitator: Program,
    folder: tempfile::TempDir,
    offer: Value,
    sold: u64,
    _ports: [Port; 5],
}

/// Where everything is.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) metrics: SocketAddr,
    pub(crate) relay: SocketAddr,
    pub(crate) gateway: SocketAddr,
    pub(crate) discovery: SocketAddr,
    pub(crate) facilitator: SocketAddr,
}

/// A program that ends with its test.
pub(crate) struct Program(Child);

/// What the gateway answered.
pub(crate) type Got = Result<(u16, String), reqwest::Error>;

/// More than the sockets between take in.
static FREE: &[u8] = &[b'x'; 16 << 20];
/// Files a program may open.
const FILES: u32 = 1_024;
const PATIENCE: Duration = Duration::from_secs(60);

// === impl Program ===

impl Program {
    /// A further facilitator, whose list of what it supports cannot be had.
    pub(crate) fn facilitator_that_fails(address: SocketAddr) -> Self {
        let arguments = ["facilitator", "--fail", "supported=http_500", "--listen", &address.to_string()];
        Self::farebox(&arguments, Path::new("."))
    }

    fn farebox(arguments: &[&str], folder: &Path) -> Self {
        let script = format!("ulimit -n {FILES} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_farebox")]).args(arguments).current_dir(folder);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// How it ends.
    pub(crate) async fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// === impl Shop ===

impl Shop {
    /// Starts everything and waits until it sells. `settings` are added to those of the shop.
    pub(crate) async fn start(settings: Value) -> Self {
        let mut shop = Self::begin(settings, None, "").await;
        shop.until("it is ready", async |shop| shop.readyz().await.is_ok_and(|(status, _)| status == 200))
            .await;
        shop.learn_terms().await;
        shop
    }

    /// Starts everything, with a ledger of its own or this one, and sells by these routes too.
    pub(crate) async fn begin(settings: Value, ledger: Option<&str>, routes: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let taken: [Port; 5] = std::array::from_fn(|_| Port::take().unwrap());
        let [metrics, relay, gateway, discovery, facilitator] =
            [0, 1, 2, 3, 4].map(|port| taken[port].address());
        let ports = Ports { metrics, relay, gateway, discovery, facilitator };
        let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream_url = format!("http://{}", upstream.local_addr().unwrap());
        let router = Router::new()
            .route("/paid", get(async || "sold"))
            .route("/base", get(async || "sold"))
            .route("/slow", get(async || tokio::time::sleep(Duration::from_secs(3_600)).await))
            .route("/free", get(async || Body::from(FREE)));
        tokio::spawn(async move { axum::serve(upstream, router).await });
        let mut all = json!({
            "listen": metrics, "pricing": "pricing.yaml",
            "relay": { "listen": relay, "ledger": ledger },
            "gateway": { "listen": gateway, "upstream": upstream_url, "grace": "2s" },
            "facilitator": { "settleTimeout": "2s" },
            "envoy": { "wasm": "filter.wasm", "publish": "filter.yaml", "discovery": { "listen": discovery } },
        });
        for (section, own) in settings.as_object().unwrap() {
            match (all[section].as_object_mut(), own.as_object()) {
                (Some(known), Some(own)) => known.extend(own.clone()),
                _ => all[section] = own.clone(),
            }
        }
        std::fs::write(folder.path().join("farebox.yaml"), all.to_string()).unwrap();
        let text = pricing("0.001", facilitator) + routes;
        std::fs::write(folder.path().join("pricing.yaml"), text).unwrap();
        let _facilitator =
            Program::farebox(&["facilitator", "--listen", &facilitator.to_string()], folder.path());
        let companion = Program::farebox(&["run", "--settings", "farebox.yaml"], folder.path());
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let client = client.timeout(Duration::from_secs(20)).build().unwrap();
        Self { client, ports, companion, _facilitator, folder, offer: Value::Null, sold: 0, _ports: taken }
    }

    /// What is asked now is what is paid from now on.
    pub(crate) async fn learn_terms(&mut self) {
        self.offer = self.terms().await;
    }

    /// How the gateway answers without a payment; `None` if it does not.
    pub(crate) async fn status(&self, path: &str) -> Option<u16> {
        let response = self.client.get(format!("http://{}{path}", self.ports.gateway)).send().await.ok()?;
        Some(response.status().as_u16())
    }

    /// Saves the pricing file, in one step.
    pub(crate) fn price(&self, price: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, pricing(price, self.ports.facilitator)).unwrap();
        std::fs::rename(next, self.folder.path().join("pricing.yaml")).unwrap();
    }

    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is asked of a buyer now.
    pub(crate) async fn terms(&self) -> Value {
        self.terms_of("/paid").await
    }

    pub(crate) async fn terms_of(&self, path: &str) -> Value {
        let response = self.client.get(format!("http://{}{path}", self.ports.gateway)).send().await.unwrap();
        assert_eq!(response.status(), 402);
        let terms = decode_base64(response.headers()["payment-required"].as_bytes()).unwrap();
        serde_json::from_slice::<Value>(&terms).unwrap()["accepts"][0].clone()
    }

    /// Buys once, over a connection of its own.
    pub(crate) async fn buy(&mut self) -> Got {
        let offer = self.offer.clone();
        self.buy_at("/paid", &offer).await
    }

    pub(crate) async fn buy_at(&mut self, path: &str, offer: &Value) -> Got {
        read(self.purchase(path, offer)).await
    }

    /// Begins to buy, and goes on while the test does other things.
    pub(crate) fn begin_to_buy(&mut self) -> tokio::task::JoinHandle<Got> {
        let offer = self.offer.clone();
        tokio::spawn(read(self.purchase("/paid", &offer).timeout(PATIENCE)))
    }

    fn purchase(&mut self, path: &str, offer: &Value) -> reqwest::RequestBuilder {
        self.sold += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let window = Window::numbered(self.sold, now, 300);
        let payment = header_value(&Wallet::development().pay_v2(offer, window).unwrap());
        let request = self.client.get(format!("http://{}{path}", self.ports.gateway));
        request.header("payment-signature", payment)
    }

    pub(crate) fn facilitator(&self) -> DevFacilitator {
        DevFacilitator::at(format!("http://{}", self.ports.facilitator), &self.client)
    }

    /// Every payment in the ledger, read as an operator does while no companion runs.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farebox"));
        command.args(["ledger", "export", "--format", "jsonl"]).current_dir(self.folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Has an operator say who settles.
    pub(crate) fn settle_by(&self, settlement: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farebox"));
        let said = command
            .args(["ledger", "settlement", settlement, "--forget"])
            .current_dir(self.folder.path())
            .status();
        assert!(said.unwrap().success());
    }

    /// Whether the ledger was left closed: what was written last is in the file itself.
    pub(crate) fn ledger_is_closed(&self) -> bool {
        self.folder.path().join("farebox.db").exists() && !self.folder.path().join("farebox.db-wal").exists()
    }

    pub(crate) async fn readyz(&self) -> Got {
        read(self.client.get(format!("http://{}/readyz", self.ports.metrics))).await
    }

    pub(crate) async fn page_of_status(&self) -> Value {
        let (_, text) = read(self.client.get(format!("http://{}/status", self.ports.metrics))).await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn metrics(&self) -> Got {
        read(self.client.get(format!("http://{}/metrics", self.ports.metrics))).await
    }
}

async fn read(request: reqwest::RequestBuilder) -> Got {
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

fn pricing(price: &str, facilitator: SocketAddr) -> String {
    format!(
        "wallet: '0x1111111111111111111111111111111111111111'\nchain: base-sepolia\n\
         facilitatorURL: http://{facilitator}\nroutes:\n\
         - {{pattern: /paid, price: '{price}', offerNamespace: ns, offerName: a}}\n\
         - {{pattern: /slow, gate: free}}\n- {{pattern: /free, gate: free}}\n"
    )
}
