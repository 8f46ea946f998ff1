//! One Envoy under measurement: the shipped bootstrap with our filter, another one, or none.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use farebox_core::rules::PushedRules;
use farebox_testkit::stack::bootstrap::{self, Places};
use farebox_testkit::stack::{Folder, Port, Process, envoy_stats, shipped};
use farebox_testkit::{paths, tools};
use serde_json::{Value, json};

const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(1);

/// What stands in the place of the filter.
pub(super) enum Shape<'a> {
    /// Our filter with these rules.
    Farebox(&'a PushedRules),
    /// The constant filter: it answers, or passes everything, and may read the head of each request before.
    Floor { filter: &'a Path, answer: Option<&'a Answer>, reads: bool },
    /// No filter; requests go upstream.
    Bare,
    /// No filter; Envoy itself answers.
    BareAnswer(&'a Answer),
    /// The upstream of the others: an Envoy that answers 200 by itself.
    Origin,
}

/// A response with everything the filter makes of it; the rest is Envoy's.
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// A running Envoy.
pub(super) struct Proxy {
    process: Process,
    address: SocketAddr,
    folder: Folder,
    client: reqwest::Client,
    _port: Port,
}

// === impl Answer ===

impl Answer {
    /// What a proxy answers to a request.
    pub(super) async fn of(proxy: &Proxy, path: &str) -> Result<Self> {
        let response = proxy.client.get(format!("http://{}{path}", proxy.address)).send().await?;
        let status = response.status().as_u16();
        let made_by_envoy = ["content-length", "date", "server"];
        let headers = response.headers().iter();
        let headers = headers.filter(|(name, _)| !made_by_envoy.contains(&name.as_str()));
        let headers = headers
            .map(|(name, value)| Ok((name.to_string(), value.to_str()?.to_owned())))
            .collect::<Result<_>>()?;
        Ok(Self { status, headers, body: response.text().await? })
    }

    /// The configuration of the constant filter.
    fn configuration(&self) -> String {
        let lines = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        format!("{}\n{}\n{}", self.status, lines.collect::<String>(), self.body)
    }

    /// The route that makes Envoy answer this by itself.
    fn route(&self) -> Value {
        let headers = self.headers.iter().map(|(name, value)| {
            json!({
                "header": { "key": name, "value": value },
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            })
        });
        json!({
            "match": { "prefix": "/" },
            "direct_response": { "status": self.status, "body": { "inline_string": self.body } },
            "response_headers_to_add": headers.collect::<Vec<_>>(),
        })
    }
}

// === impl Proxy ===

impl Proxy {
    /// Starts one and waits until it serves what its shape says.
    pub(super) async fn start(
        name: &str,
        shape: Shape<'_>,
        workers: u32,
        upstream: Option<SocketAddr>,
    ) -> Result<Self> {
        let folder = Folder::create()?;
        let port = Port::take()?;
        let address = port.address();
        let places = Places {
            proxy: address,
            admin: folder.path().join("admin.sock"),
            discovery: discovery(&folder),
            wasm: shape.filter()?,
            upstream: format!("http://{}", upstream.unwrap_or(address)),
            // Only the companion is called, with reports, and the upstream takes them.
            relay: format!("http://{}", upstream.unwrap_or(address)),
            facilitator: format!("http://{}", upstream.unwrap_or(address)),
            authorities: None,
        };
        let mut rendered =
            bootstrap::render(shipped("envoy/bootstrap.yaml")?, &places).context("envoy/bootstrap.yaml")?;
        std::fs::create_dir(folder.path().join("discovery"))?;
        shape.apply(&mut rendered, &folder)?;
        let config = folder.path().join("bootstrap.json");
        std::fs::write(&config, serde_json::to_vec_pretty(&rendered)?)?;
        let mut command = Command::new(tools::envoy()?);
        command.arg("-c").arg(config).arg("--use-dynamic-base-id").args(["--log-level", "warning"]);
        command.arg("--concurrency").arg(workers.to_string());
        let process = Process::spawn(name, command, &folder.path().join("envoy.log"))?;
        let client = farebox_testkit::http::client_builder().timeout(Duration::from_secs(10)).build()?;
        let proxy = Self { process, address, folder, client, _port: port };
        match shape {
            Shape::Farebox(_) => proxy.until_taken(1).await?,
            _ => proxy.until(async |proxy| proxy.answers().await).await?,
        }
        Ok(proxy)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Publishes rules as the companion does, and returns how long it took until Envoy confirms them.
    pub(super) async fn take(&self, rules: &PushedRules) -> Result<Duration> {
        let resource = resource(&paths::envoy_filter()?, &rules.to_lines());
        let next = self.folder.path().join("next");
        std::fs::write(&next, resource)?;
        let before = self.taken().await?;
        let started = Instant::now();
        std::fs::rename(next, discovery(&self.folder))?;
        self.until_taken(before + 1).await?;
        Ok(started.elapsed())
    }

    /// The program itself.
    pub(super) const fn process(&self) -> &Process {
        &self.process
    }

    async fn answers(&self) -> bool {
        let response = self.client.get(format!("http://{}/ready", self.address)).send().await;
        // Before the first configuration Envoy answers 500, and so does one whose upstream is not there yet.
        response.is_ok_and(|response| response.status().as_u16() < 500)
    }

    async fn until_taken(&self, times: u64) -> Result<()> {
        self.until(async |proxy| proxy.taken().await.is_ok_and(|taken| taken >= times)).await
    }

    /// How many configurations of the filter Envoy has taken.
    async fn taken(&self) -> Result<u64> {
        let admin = self.folder.path().join("admin.sock");
        let stats = envoy_stats(&admin, "extension_config_discovery.*config_reload$").await?;
        Ok(stats.into_values().sum())
    }

    async fn until(&self, holds: impl AsyncFn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + READY;
        while !holds(self).await {
            if self.process.ended().is_some() || Instant::now() >= deadline {
                bail!("{} is not ready:\n{}", self.process.name(), self.process.tail(30));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

// === impl Shape ===

impl Shape<'_> {
    fn filter(&self) -> Result<PathBuf> {
        match self {
            Self::Floor { filter, .. } => Ok(filter.to_path_buf()),
            _ => paths::envoy_filter(),
        }
    }

    fn apply(&self, bootstrap: &mut Value, folder: &Folder) -> Result<()> {
        let write = |filter: &Path, configuration: &str| {
            std::fs::write(discovery(folder), resource(filter, configuration))
        };
        match self {
            Self::Farebox(rules) => write(&self.filter()?, &rules.to_lines())?,
            Self::Floor { filter, answer, reads } => {
                let first = if *reads { "read\n" } else { "" };
                let answer = answer.map(Answer::configuration).unwrap_or_default();
                write(filter, &format!("{first}{answer}"))?;
            }
            Self::Bare => without_filter(bootstrap)?,
            Self::BareAnswer(answer) => {
                without_filter(bootstrap)?;
                *at(bootstrap, "/route_config/virtual_hosts/0/routes")? = json!([answer.route()]);
            }
            Self::Origin => {
                let answer = Answer {
                    status: 200,
                    headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                    body: json!({ "answer": "x".repeat(1000) }).to_string(),
                };
                // It takes reports as a companion does.
                let reports = json!({ "match": { "path": "/report" }, "direct_response": { "status": 204 } });
                without_filter(bootstrap)?;
                *at(bootstrap, "/route_config/virtual_hosts/0/routes")? = json!([reports, answer.route()]);
            }
        }
        Ok(())
    }
}

fn without_filter(bootstrap: &mut Value) -> Result<()> {
    let filters = at(bootstrap, "/http_filters")?.as_array_mut().context("http_filters is not a list")?;
    let before = filters.len();
    filters.retain(|filter| filter["name"] != "farebox");
    if filters.len() + 1 != before {
        bail!("the bootstrap has no filter `farebox`");
    }
    Ok(())
}

/// A place in the connection manager clients connect to.
fn at<'a>(bootstrap: &'a mut Value, place: &str) -> Result<&'a mut Value> {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    bootstrap
        .pointer_mut(&format!("{manager}{place}"))
        .with_context(|| format!("the bootstrap has no {place}"))
}

fn discovery(folder: &Folder) -> PathBuf {
    folder.path().join("discovery/filter.yaml")
}

/// What the companion publishes, for any filter.
fn resource(filter: &Path, configuration: &str) -> String {
    let mut config = json!({
        "name": "farebox",
        "root_id": "farebox",
        "failure_policy": "FAIL_RELOAD",
        "vm_config": {
            "vm_id": "farebox",
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": filter } },
        },
    });
    if !configuration.is_empty() {
        config["configuration"] =
            json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration });
    }
    let resource = json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "farebox",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": config,
        },
    });
    json!({ "resources": [resource] }).to_string()
}
