//! The commands of `cargo xtask`, one module each.

mod bench;
mod build;
mod component;
mod demo;
mod dependencies;
mod model;
mod test;
mod tools;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use farebox_testkit::stack::Shell;

/// Build, try and test Farebox.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the release artefacts into target/farebox/ and check them.
    Build(build::Args),
    /// Build the core as a WebAssembly component into target/farebox/ and check it.
    Component,
    /// Measure what Farebox costs: all parts, or those named.
    Bench(bench::Args),
    /// Explore every order of steps in a small world around a payment's life.
    Model(model::Args),
    /// Play the story of a payment through a real proxy.
    Demo(demo::Args),
    /// Run a proxy with your own pricing file, in the foreground.
    Up(up::Args),
    /// Format, lints, documents, dependencies, unit tests, wasm tests, host tests and end-to-end tests.
    Test,
    /// Look the dependencies up in the database of known faults, which is fetched from GitHub.
    Advisories,
    /// List what the other commands fetch, and whether it can be had right now.
    Tools(tools::Args),
}

/// The proxies Farebox runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Proxy {
    /// Envoy, with the filter in proxy-wasm.
    Envoy,
    /// Traefik, with the plugin in http-wasm, and the companion's gateway behind it.
    Traefik,
}

// === impl Proxy ===

impl Proxy {
    /// What decides in a stack with this proxy.
    const fn shell(self) -> Shell {
        match self {
            Self::Envoy => Shell::Envoy,
            Self::Traefik => Shell::Traefik,
        }
    }

    /// Its name, for people.
    const fn name(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy",
            Self::Traefik => "Traefik",
        }
    }
}

/// Runs the command of the process arguments.
pub(crate) fn run() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Build(args) => build::run(&args),
        Command::Component => component::run(),
        Command::Bench(args) => block_on(bench::run(args)),
        Command::Model(args) => model::run(&args),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Up(args) => block_on(up::run(args)),
        Command::Test => test::run(),
        Command::Advisories => dependencies::advisories(),
        Command::Tools(args) => tools::run(&args),
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}
