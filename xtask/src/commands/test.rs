//! `cargo xtask test`: every check there is, cheapest first, each with its duration.
//!
//! The tools of the suites are fetched from the first second on, beside formatting, lints and compiling. So a tool that
//! cannot be had is named at once, and not when its suite begins. Tests begin when all tools are there, because many
//! tests are about time.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use farebox_testkit::stack::{Durability, Postgres};
use farebox_testkit::{paths, shell, tools};

use super::dependencies;
use crate::{alerts, build, links};

/// One suite: its name and what it does.
struct Suite {
    name: &'static str,
    run: fn() -> Result<()>,
}

/// Where the companion's tests find the server in which they create databases.
const TEST_POSTGRES: &str = "FAREBOX_TEST_POSTGRES";

const SUITES: &[Suite] = &[
    Suite { name: "format", run: format },
    Suite { name: "lints, native", run: lints },
    Suite { name: "lints, filter", run: filter_lints },
    Suite { name: "documentation", run: documentation },
    Suite { name: "guests", run: guests },
    Suite { name: "tools", run: tools::fetched },
    Suite { name: "links", run: links::check },
    Suite { name: "spelling", run: spelling },
    Suite { name: "dependencies", run: dependencies::allowed },
    Suite { name: "unit tests", run: unit_tests },
    Suite { name: "core on wasm", run: wasm_tests },
    Suite { name: "core as a component", run: component },
    Suite { name: "alerts", run: alerts::check },
    Suite { name: "host tests and end to end", run: host_tests },
];

/// What came of a suite.
struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<()>,
}

pub(super) fn run() -> Result<ExitCode> {
    // Each suite asks for its tool itself and waits for it, so the result of the thread is not needed.
    std::thread::spawn(tools::fetch);
    let mut outcomes = Vec::new();
    for (number, suite) in SUITES.iter().enumerate() {
        eprintln!("\n=== {}/{} {} ===", number + 1, SUITES.len(), suite.name);
        let started = Instant::now();
        let result = (suite.run)();
        let took = started.elapsed();
        match &result {
            Ok(()) => shell::say(format_args!("{} passed in {}", suite.name, seconds(took))),
            Err(error) => shell::say(format_args!("{} FAILED in {}: {error:#}", suite.name, seconds(took))),
        }
        outcomes.push(Outcome { name: suite.name, took, result });
    }
    Ok(summary(&outcomes))
}

fn summary(outcomes: &[Outcome]) -> ExitCode {
    println!();
    for Outcome { name, took, result } in outcomes {
        println!("{name:<28}{:>9}  {}", seconds(*took), if result.is_ok() { "ok" } else { "FAILED" });
    }
    let failures = outcomes.iter().filter_map(|outcome| Some((outcome.name, outcome.result.as_ref().err()?)));
    failures.clone().for_each(|(name, error)| println!("{name}: {error:#}"));
    let failed = failures.count();
    println!("{} passed, {failed} failed, 0 skipped", outcomes.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

// --- the suites ---

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

fn lints() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// The guests as they are built: for the target and without what tests may do.
fn filter_lints() -> Result<()> {
    tools::wasm_targets()?;
    let guests = ["--package", "farebox-core", "--package", "farebox-envoy", "--package", "farebox-traefik"];
    let arguments =
        [&["clippy", "--target", "wasm32-wasip1"][..], &guests[..], &["--", "-D", "warnings"][..]];
    cargo(&arguments.concat())
}

/// With private items, because links between them are most of the links.
fn documentation() -> Result<()> {
    let mut command = shell::builder(paths::cargo());
    command
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    shell::run(&mut command)
}

fn guests() -> Result<()> {
    build::guests()?.iter().for_each(|artefact| println!("{artefact}"));
    Ok(())
}

/// By `_typos.toml`.
fn spelling() -> Result<()> {
    shell::run(Command::new(tools::typos()?).current_dir(paths::workspace()))
}

/// With a PostgreSQL server: the ledger's tests run on both databases.
fn unit_tests() -> Result<()> {
    let server = Postgres::start(Durability::Careless)?;
    nextest("not package(farebox-host-tests)", &[(TEST_POSTGRES, server.url())])
}

/// The core on a real WebAssembly engine, where integers and clocks are not those of this machine.
fn wasm_tests() -> Result<()> {
    tools::wasm_targets()?;
    let runner = tools::wasm_bindgen_test_runner()?;
    let mut command = shell::builder(paths::cargo());
    command
        .args(["test", "--target", "wasm32-unknown-unknown", "--package", "farebox-core"])
        .args(["--test", "*"])
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    shell::run(&mut command)
}

/// Apart from the other artefacts, because it has a toolchain of its own.
fn component() -> Result<()> {
    tools::wasm_targets()?;
    build::component_lints()?;
    println!("{}", build::component()?);
    Ok(())
}

fn host_tests() -> Result<()> {
    nextest("package(farebox-host-tests)", &[])
}

// --- running them ---

fn cargo(arguments: &[&str]) -> Result<()> {
    shell::run(shell::builder(paths::cargo()).args(arguments))
}

/// Runs the tests a filter chooses. Always built for the whole workspace: dependencies are compiled once
/// per set of features, and the set of a part would be another one.
fn nextest(filter: &str, environment: &[(&str, String)]) -> Result<()> {
    let program = tools::nextest()?;
    let status = shell::builder(program)
        .args(["nextest", "run", "--workspace", "--no-fail-fast", "--filterset", filter])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env(tools::FETCH, "no")
        .stdin(Stdio::null())
        .status()
        .context("cargo-nextest does not run")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
