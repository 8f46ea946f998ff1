//! `cargo xtask demo`: the story of a payment, told by a real client and a real proxy.

mod numbers;
mod report;
mod story;

use std::process::ExitCode;

use anyhow::Result;
use farebox_testkit::client::Client;
use farebox_testkit::shell;
use farebox_testkit::stack::{Options, Program, Stack};

use super::Proxy;
use crate::build;

/// What the demo sells.
const PRICING: &str = include_str!("pricing.yaml");

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Play the story, say what was expected and seen, and end.
    #[arg(long)]
    once: bool,
    /// The proxy to run.
    #[arg(long, value_enum, default_value = "envoy")]
    proxy: Proxy,
    /// Run the companion as it is released, which takes minutes more to compile.
    #[arg(long)]
    released: bool,
}

pub(super) async fn run(args: Args) -> Result<ExitCode> {
    let program = if args.released { Program::Released } else { Program::Dev };
    build::stack(args.proxy.shell(), program)?;
    let options = Options { shell: args.proxy.shell(), program, ..Options::priced(PRICING) };
    let starting = format!("starting origin, development facilitator, companion and {}", args.proxy.name());
    if args.once {
        let client = Client::install()?;
        shell::say(starting);
        let stack = Stack::start(options).await?;
        return story::play(&stack, &client, PRICING).await;
    }
    shell::say(starting);
    let stack = Stack::start(options).await?;
    println!("buy something      curl -i {}/joke", stack.proxy_url());
    println!("paid upstreams     /joke, /reports/today, /stream/events   free: /free/sample");
    println!("metrics, status    {0}/metrics  {0}/status", stack.companion_url());
    match args.proxy {
        Proxy::Envoy => println!("Envoy's own administration  {}", stack.admin_socket().display()),
        Proxy::Traefik => println!("Traefik's own API  {}/api/http/routers", stack.api_url()),
    }
    println!("facilitator        {} (development: it moves no money)", stack.facilitator_url());
    println!("origin             {0}  what reached it: {0}/origin/hits", stack.upstream_url());
    println!("prices             {} (edit it and ask again)", stack.pricing().display());
    println!("Ctrl-C stops all of it");
    Err(stack.stay().await)
}
