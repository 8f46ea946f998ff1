//! How many whole payments the ledger takes a second, from reservation to delivery: on SQLite and on PostgreSQL, one
//! at a time and many. Both wait for the disk as in production.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use farebox_testkit::stack::{Durability, Postgres};
use farebox_testkit::{shell, tools};
use serde_json::{Map, Value, json};

use super::Args;
use super::report::{Goal, Measured, median, numbers};
use crate::build;

const IN_FLIGHT: [u32; 2] = [1, 32];
const DATABASES: [(&str, &str); 2] = [("sqlite", "SQLite"), ("postgresql", "PostgreSQL")];
/// What each is promised to take with many in flight.
const PAYMENTS: [f64; 2] = [4_000.0, 2_000.0];

/// Builds the program that pays, and has it pay.
pub(super) fn measure(args: &Args) -> Result<Measured> {
    let program = build::release("farebox-bench-ledger", &[])?;
    let (rounds, millis) = if args.quick { (1, 500) } else { (5, 2_000) };
    let server = Postgres::start(Durability::Full)?;
    let mut samples = Map::new();
    for round in 1..=rounds {
        shell::say(format_args!("ledger, round {round}/{rounds}"));
        for in_flight in IN_FLIGHT {
            // A fresh file: it is on the disk where build products are, which a tmpfs is not.
            let folder = tempfile::tempdir_in(farebox_testkit::paths::target()?)?;
            let file = format!("sqlite:{}", folder.path().join("ledger.db").display());
            for ((database, _), url) in DATABASES.into_iter().zip([file, server.url()]) {
                let figures = run(&program, &url, in_flight, millis)?;
                let list = samples.entry(format!("{database}_{in_flight}")).or_insert_with(|| json!([]));
                list.as_array_mut().context("a list")?.push(figures["payments"].clone());
            }
        }
    }
    let figures = json!({
        "postgresql": tools::POSTGRES_VERSION,
        "payments_per_second": samples,
        "flush_microseconds": flush_microseconds()?,
    });
    let (goals, table) = (goals(&figures)?, table(&figures)?);
    Ok(Measured { figures, goals, table })
}

/// What the disk takes to keep a batch, the median: no payment is quicker than three of these after each other.
fn flush_microseconds() -> Result<f64> {
    const TIMES: usize = 50;
    let mut file = tempfile::tempfile_in(farebox_testkit::paths::target()?)?;
    let batch = vec![b'x'; 64 << 10];
    let mut took = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        file.write_all(&batch)?;
        let began = Instant::now();
        file.sync_data()?;
        took.push(began.elapsed().as_micros() as f64);
    }
    median(took).context("no flushes")
}

fn run(program: &Path, url: &str, in_flight: u32, millis: u32) -> Result<Value> {
    let arguments = [url, &in_flight.to_string(), &millis.to_string()];
    let answer = shell::capture(Command::new(program).args(arguments))?;
    serde_json::from_str(&answer).context("the answer of farebox-bench-ledger is not JSON")
}

fn rate(figures: &Value, database: &str, in_flight: u32) -> Result<f64> {
    let samples = &figures["payments_per_second"][format!("{database}_{in_flight}")];
    median(numbers(samples)?).context("no samples")
}

fn goals(figures: &Value) -> Result<Vec<Goal>> {
    let [_, many] = IN_FLIGHT;
    let goal = |((database, shown), least)| {
        let rate = rate(figures, database, many)?;
        Ok(Goal::at_least(format!("{shown}, payments, {many} in flight"), rate, least, "/s"))
    };
    DATABASES.into_iter().zip(PAYMENTS).map(goal).collect()
}

fn table(figures: &Value) -> Result<String> {
    let [few, many] = IN_FLIGHT;
    let mut table = format!("{:<34}{few:>12}{many:>12}\n", "ledger, payments in flight");
    for (database, shown) in DATABASES {
        table.push_str(&format!(
            "{:<34}{:>12.0}{:>12.0}\n",
            format!("{shown}, payments a second"),
            rate(figures, database, few)?,
            rate(figures, database, many)?
        ));
    }
    let flush = figures["flush_microseconds"].as_f64().context("no flushes")?;
    table.push_str(&format!("{:<34}{flush:>12.0}\n", "a flush of the disk, µs"));
    Ok(table)
}
