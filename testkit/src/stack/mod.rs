//! Origin, development facilitator, companion and proxy as one running whole, on free ports and in a
//! temporary folder. The demo, `up`, the benchmark and the end-to-end tests all run this.
//!
//! A stack stops with its owner: when it is dropped, and when a signal ends the process.

pub mod bootstrap;
mod fleet;
mod grpc;
mod guard;
mod options;
mod port;
mod postgres;
mod process;
mod readers;
mod reference;
mod relay;
mod scrape;
mod traefik;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::origin::Origin;
use crate::{http, paths, tools};

use fleet::Sibling;
pub use grpc::{GrpcDiscovery, ProxyCertificate};
pub use options::{Facilitator, Options, Pricing, Shell};
pub use port::Port;
pub use postgres::{Durability, Postgres};
pub use process::Process;
pub use readers::{Place, Reader, Readers};
pub use reference::{Implementation, Reference};
pub use relay::{install_relay_secret, install_relay_socket, install_relay_tls};
pub use scrape::{Scrape, Series};

/// How long the whole may take to be ready. A cold machine under load compiles the filter in seconds.
const READY: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// The longest a request of the stack's own client may take; settlements may take 60 s.
const REQUEST: Duration = Duration::from_secs(90);
/// How long a count of a proxy may be on its way.
const REPORTED: Duration = Duration::from_millis(1_300);
/// Lines of each log shown with a failure.
const TAIL: usize = 30;
/// Name of the proxy towards the companion.
const PROXY_NAME: &str = "envoy-0";

/// The programs of a stack that can be stopped and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The development facilitator.
    Facilitator,
    /// `farebox run`.
    Companion,
    /// Envoy or Traefik.
    Proxy,
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    // Stopped in this order: nothing is left calling something that is gone.
    siblings: Vec<Sibling>,
    proxy: Option<Process>,
    companion: Option<Process>,
    facilitator: Option<Process>,
    origin: Option<Origin>,
    options: Options,
    addresses: Addresses,
    programs: Programs,
    folder: Folder,
    client: reqwest::Client,
    _ports: Vec<Port>,
}

#[derive(Debug)]
struct Addresses {
    proxy: SocketAddr,
    /// Traefik's own API.
    api: SocketAddr,
    companion: SocketAddr,
    relay: SocketAddr,
    gateway: SocketAddr,
    facilitator: SocketAddr,
}

#[derive(Debug)]
struct Programs {
    farebox: PathBuf,
    /// The filter, or the folder with the plugin.
    guest: PathBuf,
    proxy: PathBuf,
}

/// The temporary folder, removed when dropped, by a signal too.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

// === impl Stack ===

impl Stack {
    /// Starts everything and waits until paid requests can be answered. Needs the built artefacts.
    pub async fn start(options: Options) -> Result<Self> {
        Self::prepare(options)?.start_all().await
    }

    /// What [`Self::start`] does with a stack that is prepared.
    pub async fn start_all(mut self) -> Result<Self> {
        match self.start_parts().await {
            Ok(()) => Ok(self),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Everything but the programs: for tests about how they start.
    pub fn prepare(options: Options) -> Result<Self> {
        guard::install();
        let farebox = built(paths::farebox()?)?;
        let programs = match options.shell {
            Shell::Envoy => {
                Programs { farebox, guest: built(paths::envoy_filter()?)?, proxy: tools::envoy()? }
            }
            Shell::Traefik => {
                let guest = paths::traefik_plugin()?;
                built(paths::traefik_module(&guest))?;
                Programs { farebox, guest, proxy: tools::traefik()? }
            }
            Shell::Gateway => Programs { proxy: farebox.clone(), guest: PathBuf::new(), farebox },
        };
        let mut ports = Vec::new();
        let mut address = |wanted: Option<SocketAddr>| match wanted {
            Some(address) => Ok::<_, anyhow::Error>(address),
            None => {
                ports.push(Port::take()?);
                Ok(ports[ports.len() - 1].address())
            }
        };
        let proxy = address(options.listen)?;
        let addresses = Addresses {
            proxy,
            api: address(None)?,
            companion: address(options.companion)?,
            relay: address(None)?,
            gateway: if options.shell == Shell::Gateway { proxy } else { address(None)? },
            facilitator: address(None)?,
        };
        let siblings = (1..=options.siblings)
            .map(|number| Ok(Sibling::new(number, address(None)?)))
            .collect::<Result<_>>()?;
        let origin = match &options.upstream {
            Some(_) => None,
            None => Some(Origin::start(SocketAddr::from(([127, 0, 0, 1], 0)))?),
        };
        let client = http::client_builder().timeout(REQUEST).build()?;
        let stack = Self {
            siblings,
            proxy: None,
            companion: None,
            facilitator: None,
            origin,
            options,
            addresses,
            programs,
            folder: Folder::create()?,
            client,
            _ports: ports,
        };
        std::fs::create_dir(stack.folder().join("discovery"))?;
        std::fs::write(stack.folder().join("farebox.yaml"), stack.settings().to_string())?;
        if let Pricing::Text(text) = &stack.options.pricing {
            std::fs::write(stack.pricing(), text)?;
        }
        Ok(stack)
    }

    async fn start_parts(&mut self) -> Result<()> {
        if let Facilitator::Development(_) = self.options.facilitator {
            self.start_part(Part::Facilitator)?;
            let record = format!("{}/dev/record", self.facilitator_url());
            self.until("the facilitator answers", async |stack| stack.is_ok(&record).await).await?;
        }
        self.start_part(Part::Companion)?;
        match self.options.shell {
            Shell::Envoy => {
                // Envoy does not start without the file it discovers its filter configuration from.
                self.until("the companion publishes", async |stack| stack.discovery().is_file()).await?;
                self.start_part(Part::Proxy)?;
                self.start_siblings()?;
            }
            Shell::Traefik => self.start_part(Part::Proxy)?,
            Shell::Gateway => {}
        }
        self.ready().await
    }

    /// Waits until the current rules are enforced, and the facilitator is known unless that does not answer.
    pub async fn ready(&self) -> Result<()> {
        self.until("the current rules are enforced", async |stack| stack.is_ready().await).await
    }

    async fn is_ready(&self) -> bool {
        let Ok(status) = self.status().await else { return false };
        let generation = status["config_generation"].as_u64();
        let facilitator = &status["facilitator"];
        let is_current =
            |number: usize| status["proxies"][number]["generation_confirmed"].as_u64() == generation;
        let are_current = match self.options.shell {
            Shell::Envoy => (0..=self.siblings.len()).all(is_current),
            Shell::Traefik => status["traefik"]["api"]["generation"].as_u64() == generation,
            Shell::Gateway => true,
        };
        generation.is_some()
            && are_current
            && (facilitator["ready"] == true || facilitator_error(&status).is_some())
    }

    /// Starts one program, without waiting for it.
    pub fn start_part(&mut self, part: Part) -> Result<()> {
        let command = match part {
            Part::Facilitator => self.facilitator_command()?,
            Part::Companion => self.companion_command(),
            Part::Proxy => match self.options.shell {
                Shell::Envoy => self.envoy_command(PROXY_NAME, self.addresses.proxy)?,
                Shell::Traefik => self.traefik_command()?,
                Shell::Gateway => bail!("the companion is the proxy of this stack"),
            },
        };
        let name = part.name();
        let process = Process::spawn(name, command, &self.folder().join(format!("{name}.log")))?;
        *self.slot(part) = Some(process);
        Ok(())
    }

    /// Stops one program in an orderly way.
    pub fn stop_part(&mut self, part: Part) {
        drop(self.slot(part).take());
    }

    /// Ends one program as a crash would.
    pub fn kill_part(&mut self, part: Part) {
        if let Some(mut process) = self.slot(part).take() {
            process.kill();
        }
    }

    /// A program, while it is there.
    pub const fn part(&self, part: Part) -> Option<&Process> {
        match part {
            Part::Facilitator => self.facilitator.as_ref(),
            Part::Companion => self.companion.as_ref(),
            Part::Proxy => self.proxy.as_ref(),
        }
    }

    const fn slot(&mut self, part: Part) -> &mut Option<Process> {
        match part {
            Part::Facilitator => &mut self.facilitator,
            Part::Companion => &mut self.companion,
            Part::Proxy => &mut self.proxy,
        }
    }

    /// What decides about requests.
    pub const fn shell(&self) -> Shell {
        self.options.shell
    }

    // --- addresses ---

    /// Where clients connect: `http://127.0.0.1:PORT`.
    pub fn proxy_url(&self) -> String {
        format!("http://{}", self.addresses.proxy)
    }

    /// The companion: `/metrics`, `/healthz`, `/readyz`, `/status`.
    pub fn companion_url(&self) -> String {
        format!("http://{}", self.addresses.companion)
    }

    /// The companion's relay, which only the proxy is to call.
    pub fn relay_url(&self) -> String {
        format!("http://{}", self.addresses.relay)
    }

    /// Traefik's own API.
    pub fn api_url(&self) -> String {
        format!("http://{}", self.addresses.api)
    }

    /// The socket of Envoy's administration.
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_of(PROXY_NAME)
    }

    fn admin_of(&self, proxy: &str) -> PathBuf {
        self.folder().join(format!("{proxy}.sock"))
    }

    /// Envoy's own statistics whose names match an expression.
    pub async fn envoy_stats(&self, names: &str) -> Result<BTreeMap<String, u64>> {
        envoy_stats(&self.admin_socket(), names).await
    }

    /// The facilitator in use.
    pub fn facilitator_url(&self) -> String {
        match &self.options.facilitator {
            Facilitator::Development(_) => format!("http://{}", self.addresses.facilitator),
            Facilitator::At(url) => url.trim_end_matches('/').to_owned(),
        }
    }

    /// The upstream in use.
    pub fn upstream_url(&self) -> String {
        let own = || self.origin.as_ref().map_or_else(String::new, Origin::url);
        self.options.upstream.clone().unwrap_or_else(own)
    }

    /// The demo origin, where the stack started it.
    pub const fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Where clients connect, for tests that write their own bytes.
    pub const fn proxy_address(&self) -> SocketAddr {
        self.addresses.proxy
    }

    /// The temporary folder with logs and configuration.
    pub fn folder(&self) -> &Path {
        self.folder.0.path()
    }

    /// The pricing file in use.
    pub fn pricing(&self) -> PathBuf {
        match &self.options.pricing {
            Pricing::Text(_) => self.folder().join("pricing.yaml"),
            Pricing::File(path) => path.clone(),
        }
    }

    fn discovery(&self) -> PathBuf {
        self.folder().join("discovery/filter.yaml")
    }

    // --- requests ---

    /// The client of the stack: no redirects, no proxies.
    pub const fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// A request through the proxy.
    pub fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.proxy_url()))
    }

    /// The challenge of a path: the decoded `PAYMENT-REQUIRED` header of its 402.
    pub async fn challenge(&self, path: &str) -> Result<Value> {
        let response = self.get(path).send().await?;
        let header = response.headers().get("payment-required");
        let header = header.with_context(|| format!("{path}: {} without a challenge", response.status()))?;
        let json = farebox_core::protocol::decode_base64(header.as_bytes())?;
        serde_json::from_slice(&json).with_context(|| format!("{path}: the challenge is not JSON"))
    }

    /// The companion's metrics.
    pub async fn metrics(&self) -> Result<Scrape> {
        let response = self.client.get(format!("{}/metrics", self.companion_url())).send().await?;
        Scrape::parse(&response.error_for_status()?.text().await?)
    }

    /// The companion's metrics, once the proxies have reported what they have counted by now.
    pub async fn counted(&self) -> Result<Scrape> {
        tokio::time::sleep(REPORTED).await;
        self.metrics().await
    }

    /// The companion's `/status`.
    pub async fn status(&self) -> Result<Value> {
        let response = self.client.get(format!("{}/status", self.companion_url())).send().await?;
        Ok(serde_json::from_slice(&response.error_for_status()?.bytes().await?)?)
    }

    /// Every payment in the ledger, as `farebox ledger export` writes it.
    pub fn ledger(&self) -> Result<Vec<Value>> {
        let lines = self.ledger_says(&["export", "--format", "jsonl"])?;
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What `farebox ledger` says.
    pub fn ledger_says(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.programs.farebox);
        let output = command.arg("ledger").args(arguments).current_dir(self.folder()).output()?;
        if !output.status.success() {
            bail!("farebox ledger fails: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The generation of rules Envoy says it enforces; `None` before the first.
    pub async fn enforced(&self) -> Result<Option<u64>> {
        let status = self.status().await?;
        let proxies = status["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
        let own = proxies.iter().find(|proxy| proxy["name"] == PROXY_NAME);
        Ok(own.and_then(|proxy| proxy["generation_confirmed"].as_u64()))
    }

    async fn is_ok(&self, url: &str) -> bool {
        self.client.get(url).send().await.is_ok_and(|response| response.status().is_success())
    }

    // --- rules ---

    /// Replaces the stack's own pricing file, by rename as editors do.
    pub fn rewrite_pricing(&self, text: &str) -> Result<()> {
        if let Pricing::File(path) = &self.options.pricing {
            bail!("{} is not this stack's to change", path.display());
        }
        let next = self.folder().join(".pricing.next");
        std::fs::write(&next, text)?;
        Ok(std::fs::rename(next, self.pricing())?)
    }

    /// Waits until Envoy enforces a later generation than `after`, and returns it.
    pub async fn later_generation(&self, after: u64) -> Result<u64> {
        let is_later = async |stack: &Self| matches!(stack.enforced().await, Ok(Some(now)) if now > after);
        self.until("Envoy takes the new rules", is_later).await?;
        self.enforced().await?.context("the generation is gone again")
    }

    /// Waits for a condition, and fails when the programs end or the time is over.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            if holds(self).await {
                return Ok(());
            }
            self.check_alive()?;
            if Instant::now() >= deadline {
                bail!("waited {READY:?} in vain until {what}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stays up until a signal ends this process, which then succeeds, or a program ends by itself.
    pub async fn stay(&self) -> anyhow::Error {
        guard::await_signal();
        loop {
            tokio::time::sleep(LOOK * 8).await;
            if let Err(error) = self.check_alive() {
                return self.explain(error);
            }
        }
    }

    /// Fails when a program that should run has ended.
    pub fn check_alive(&self) -> Result<()> {
        for process in self.processes() {
            if let Some(status) = process.ended() {
                bail!("{} ended: {status}", process.name());
            }
        }
        Ok(())
    }

    /// The end of every log.
    pub fn tails(&self) -> String {
        let tails = self.processes().map(|process| {
            format!("--- {} ({})\n{}\n", process.name(), process.log().display(), process.tail(TAIL))
        });
        tails.collect()
    }

    /// Adds the end of every log to an error, while they are there.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        anyhow!("{error:#}\n{}", self.tails())
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        let siblings = self.siblings.iter().filter_map(Sibling::process);
        [&self.facilitator, &self.companion, &self.proxy].into_iter().flatten().chain(siblings)
    }

    // --- programs ---

    fn facilitator_command(&self) -> Result<Command> {
        let Facilitator::Development(arguments) = &self.options.facilitator else {
            bail!("the facilitator of this stack is not its own");
        };
        let mut command = Command::new(&self.programs.farebox);
        command.arg("facilitator").arg("--listen").arg(self.addresses.facilitator.to_string());
        command.args(arguments);
        Ok(command)
    }

    fn companion_command(&self) -> Command {
        let mut command = Command::new(&self.programs.farebox);
        command.arg("run").current_dir(self.folder());
        command.arg("--settings").arg(self.folder().join("farebox.yaml"));
        command.arg("--pricing").arg(self.pricing());
        command.arg("--listen").arg(self.addresses.companion.to_string());
        command.arg("--facilitator").arg(self.facilitator_url());
        if self.options.settings["relay"]["listen"].is_null() {
            command.arg("--relay-listen").arg(self.addresses.relay.to_string());
        }
        if self.options.shell == Shell::Envoy {
            command.arg("--envoy-wasm").arg(&self.programs.guest);
            command.arg("--envoy-publish").arg(self.discovery());
        }
        command
    }

    /// `farebox.yaml`: the options' own settings, with the addresses of what the shell needs.
    fn settings(&self) -> Value {
        let mut settings = self.options.settings.clone();
        if settings["shutdown"].is_null() {
            // No load balancer stands before a stack.
            settings["shutdown"] = json!({ "delay": "0s" });
        }
        let mut fill = |section: &str, members: Value| {
            let members = members.as_object().cloned().unwrap_or_default();
            if let Some(section) = settings[section].as_object_mut() {
                section.extend(members);
            } else {
                settings[section] = members.into();
            }
        };
        if self.options.shell != Shell::Envoy {
            fill("gateway", json!({ "listen": self.addresses.gateway, "upstream": self.upstream_url() }));
        }
        if self.options.shell == Shell::Traefik {
            fill("traefik", self.traefik_settings());
        }
        settings
    }

    fn envoy_command(&self, name: &str, proxy: SocketAddr) -> Result<Command> {
        let shipped = paths::workspace().join("envoy/bootstrap.yaml");
        let text = std::fs::read_to_string(&shipped).with_context(|| format!("{}", shipped.display()))?;
        let places = bootstrap::Places {
            proxy,
            admin: self.admin_of(name),
            discovery: self.discovery(),
            wasm: self.programs.guest.clone(),
            upstream: self.upstream_url(),
            relay: self.relay_url(),
            facilitator: self.facilitator_url(),
            authorities: bootstrap::system_authorities(),
        };
        let mut rendered = bootstrap::render(&text, &places).context("envoy/bootstrap.yaml")?;
        *bootstrap::at(&mut rendered, "/node/id")? = name.into();
        (self.options.tweak)(&mut rendered);
        let path = self.folder().join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(&rendered)?)?;
        let mut command = Command::new(&self.programs.proxy);
        command.arg("-c").arg(path).arg("--use-dynamic-base-id");
        command.arg("--concurrency").arg(self.options.workers.to_string());
        // Its long lists of what is compiled in are of no use here.
        command.args(["--component-log-level", "main:warning"]);
        command.args(["--log-level", "info", "--log-format", "[%Y-%m-%d %T.%e][%l][%n] %v"]);
        Ok(command)
    }
}

/// Statistics of the Envoy whose administration is on a socket, by name, of those whose names match an expression.
pub async fn envoy_stats(admin: &Path, names: &str) -> Result<BTreeMap<String, u64>> {
    let client = http::client_builder().timeout(REQUEST).unix_socket(admin.to_owned()).build()?;
    let url = reqwest::Url::parse_with_params("http://envoy/stats", [("format", "json"), ("filter", names)])?;
    let response = client.get(url).send().await?;
    let page: Value = serde_json::from_slice(&response.error_for_status()?.bytes().await?)?;
    let stats = page["stats"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |stat: &Value| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?));
    Ok(stats.iter().filter_map(read).collect())
}

/// Why a facilitator is not known, of a companion's `/status`.
pub fn facilitator_error(status: &Value) -> Option<&str> {
    let used = status["facilitator"]["used"].as_array()?;
    used.iter().find_map(|facilitator| facilitator["last_error"].as_str())
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
        // Fields drop in their order, programs before what they use.
    }
}

// === impl Part ===

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Facilitator => "facilitator",
            Self::Companion => "companion",
            Self::Proxy => "proxy",
        }
    }
}

// === impl Folder ===

impl Folder {
    /// Makes one.
    pub fn create() -> Result<Self> {
        guard::install();
        let folder = tempfile::Builder::new().prefix("farebox-stack-").tempdir()?;
        guard::watch_folder(folder.path());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        guard::forget_folder(self.0.path());
    }
}

fn built(artefact: PathBuf) -> Result<PathBuf> {
    if !artefact.is_file() {
        bail!("{} is not there: run `cargo xtask build` first", artefact.display());
    }
    Ok(artefact)
}
