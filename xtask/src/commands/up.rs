//! `cargo xtask up`: a stack on somebody's own pricing file, in the foreground.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use farebox_testkit::stack::{Facilitator, Options, Pricing, Program, Stack, facilitator_error};
use farebox_testkit::{paths, shell};
use serde_json::Value;

use super::Proxy;
use crate::build;

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The proxy to run.
    #[arg(long, value_enum, default_value = "envoy")]
    proxy: Proxy,
    /// Your pricing file; watched while the proxy runs.
    #[arg(long, value_name = "FILE")]
    pricing: PathBuf,
    /// Who settles. Default: the facilitatorURL of the pricing file; if it has none, a development
    /// facilitator that moves no money.
    #[arg(long, value_name = "URL")]
    facilitator: Option<String>,
    /// Where buyers connect. Port 0 takes a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10000")]
    listen: SocketAddr,
    /// Where the companion serves /metrics, /status, /readyz and /healthz. Port 0 takes a free port.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9402")]
    companion: SocketAddr,
    /// Your upstream. Default: the demo origin on a free port.
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// Settings of the companion and the filter (farebox.yaml).
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Worker threads of the proxy.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: u32,
}

pub(super) async fn run(args: Args) -> Result<ExitCode> {
    let pricing = std::path::absolute(&args.pricing)?;
    build::stack(args.proxy.shell(), Program::Dev)?;
    if let Some(refused) = check(&pricing, args.proxy)? {
        return Ok(refused);
    }
    let facilitator = match args.facilitator.map(Ok).or_else(|| named_facilitator(&pricing).transpose()) {
        Some(url) => Facilitator::At(url?),
        None => Facilitator::Development(Vec::new()),
    };
    let mut options = Options {
        pricing: Pricing::File(pricing),
        facilitator,
        shell: args.proxy.shell(),
        upstream: args.origin,
        workers: args.workers,
        listen: fixed(args.listen),
        companion: fixed(args.companion),
        ..Options::priced(String::new())
    };
    if let Some(path) = &args.settings {
        options.settings = read_yaml(path)?;
    }
    serve(options, args.proxy).await
}

async fn serve(options: Options, proxy: Proxy) -> Result<ExitCode> {
    let own_facilitator = matches!(options.facilitator, Facilitator::Development(_));
    let settings = &options.settings;
    let own_ledger =
        settings["facilitator"]["settlement"] != "direct" && settings["relay"]["ledger"].is_null();
    let stack = Stack::start(options).await?;
    println!("proxy        {}", stack.proxy_url());
    println!("companion    {0}/metrics {0}/status", stack.companion_url());
    match proxy {
        Proxy::Envoy => println!("Envoy admin  {}", stack.admin_socket().display()),
        Proxy::Traefik => println!("Traefik API  {}/api/http/routers", stack.api_url()),
    }
    let kind = if own_facilitator { " (development: it moves no money)" } else { "" };
    println!("facilitator  {}{kind}", stack.facilitator_url());
    println!("upstream     {}", stack.upstream_url());
    if own_ledger {
        let ledger = stack.folder().join("farebox.db");
        println!(
            "ledger       {} (goes with this run; relay.ledger in --settings names one that stays)",
            ledger.display()
        );
    }
    let status = stack.status().await?;
    if status["facilitator"]["ready"] != true {
        let error = facilitator_error(&status).unwrap_or("it has not answered yet");
        println!("WARNING      the facilitator is not reachable, paid routes answer 503: {error}");
    }
    println!("logs         {}", stack.folder().display());
    println!("ready");
    Err(stack.stay().await)
}

/// Shows what is wrong with the pricing file; `Some` if it cannot be used.
fn check(pricing: &Path, proxy: Proxy) -> Result<Option<ExitCode>> {
    let mut command = Command::new(paths::dev_farebox()?);
    command.arg("check");
    if proxy == Proxy::Envoy {
        command.args(["--for", "envoy"]);
    }
    command.arg(pricing);
    let status = command.status().context("farebox check does not run")?;
    if status.success() {
        return Ok(None);
    }
    shell::say(format_args!("{} cannot be used", pricing.display()));
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Some(ExitCode::from(code)))
}

/// The `facilitatorURL` of a pricing file, where it has one.
fn named_facilitator(pricing: &Path) -> Result<Option<String>> {
    Ok(read_yaml(pricing)?["facilitatorURL"].as_str().filter(|url| !url.is_empty()).map(str::to_owned))
}

fn read_yaml(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))
}

fn fixed(address: SocketAddr) -> Option<SocketAddr> {
    (address.port() != 0).then_some(address)
}
