//! A Prometheus for one stack, with the shipped configuration and rules.

use std::process::Command;
use std::time::{Duration, Instant};

use farebox_testkit::stack::{Port, Process, Stack};
use farebox_testkit::{paths, tools};
use serde_json::Value;
use tempfile::TempDir;

/// The rules of `deploy/prometheus`, and the configuration that loads them.
const RULES: &str = "rules.yaml";
const CONFIGURATION: &str = "prometheus.yaml";
/// How long a result may take. A machine under load starts slowly.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is checked.
const LOOK: Duration = Duration::from_millis(100);
/// Lines of the log shown with a failure.
const TAIL: usize = 40;

/// A running Prometheus. Dropping it ends it and removes what it stored.
#[derive(Debug)]
pub(super) struct Prometheus {
    process: Process,
    client: reqwest::Client,
    url: String,
    // Gone after the process that writes to it.
    _folder: TempDir,
    _port: Port,
}

/// One series of a result.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: Value,
    pub(super) value: f64,
}

// === impl Prometheus ===

impl Prometheus {
    /// Starts a Prometheus that scrapes the companion of a stack. It scrapes and evaluates every second
    /// instead of every 30 s, and is otherwise the same as an operator's.
    pub(super) async fn start(stack: &Stack) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let shipped_in = paths::workspace().join("deploy/prometheus");
        let shipped =
            |name: &str| std::fs::read_to_string(shipped_in.join(name)).expect("the file is shipped");
        let companion = stack.companion_url();
        let companion = companion.trim_start_matches("http://");
        let configuration = replaced(
            shipped(CONFIGURATION),
            &[
                ("scrape_interval: 30s", "scrape_interval: 1s"),
                ("evaluation_interval: 30s", "evaluation_interval: 1s"),
                ("scrape_timeout: 10s", "scrape_timeout: 1s"),
                ("127.0.0.1:9402", companion),
            ],
        );
        let rules = replaced(shipped(RULES), &[("interval: 30s", "interval: 1s")]);
        let configuration_path = folder.path().join(CONFIGURATION);
        std::fs::write(&configuration_path, configuration).expect("the folder can be written");
        std::fs::write(folder.path().join(RULES), rules).expect("the folder can be written");

        let port = Port::take().expect("a free port");
        let mut command = Command::new(tools::prometheus().expect("Prometheus can be had"));
        command.arg(format!("--config.file={}", configuration_path.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={}", port.address()));
        let process = Process::spawn("prometheus", command, &folder.path().join("log"));
        let prometheus = Self {
            process: process.expect("Prometheus starts"),
            client: stack.client().clone(),
            url: format!("http://{}", port.address()),
            _folder: folder,
            _port: port,
        };
        prometheus.until("it is ready", async |prometheus| prometheus.get("/-/ready").await.is_some()).await;
        prometheus
    }

    /// The result of an expression now, which is a vector.
    pub(super) async fn query(&self, expression: &str) -> Vec<Sample> {
        let escaped: String = expression
            .bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() || b"_:.".contains(&byte) => {
                    char::from(byte).to_string()
                }
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let result = self.api(&format!("query?query={escaped}")).await["result"].take();
        let Value::Array(series) = result else { panic!("{expression}: {result}") };
        series.into_iter().map(Sample::of).collect()
    }

    /// `data` of an endpoint of the API.
    pub(super) async fn api(&self, path: &str) -> Value {
        let body = self.get(&format!("/api/v1/{path}")).await;
        let mut answer: Value =
            serde_json::from_slice(&body.unwrap_or_else(|| panic!("{path}"))).expect("the API speaks JSON");
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    async fn get(&self, path: &str) -> Option<Vec<u8>> {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.ok()?;
        let response = response.error_for_status().ok()?;
        Some(response.bytes().await.ok()?.to_vec())
    }

    /// Waits for a condition.
    pub(super) async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self).await {
            if let Some(status) = self.process.ended() {
                panic!("Prometheus ended: {status}");
            }
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- prometheus\n{}", self.process.tail(TAIL));
        }
    }
}

// === impl Sample ===

impl Sample {
    fn of(mut series: Value) -> Self {
        let value = series["value"][1].as_str().expect("values are texts");
        let value = value.parse().expect("a number");
        Self { labels: series["metric"].take(), value }
    }

    /// A label; empty if it is not there, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels[name].as_str().unwrap_or_default()
    }
}

/// Replaces texts that must each occur once, so that changes of the shipped files are noticed.
fn replaced(mut text: String, changes: &[(&str, &str)]) -> String {
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from:?} in:\n{text}");
        text = text.replace(from, to);
    }
    text
}
