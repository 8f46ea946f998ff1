//! How many payments the ledger takes a second: on SQLite and on PostgreSQL, with one writer and with many. Both
//! wait for the disk as in production.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::Args;
use super::report::{Goal, Measured, median, numbers};
use crate::stack::{Durability, Postgres};
use crate::{build, shell, tools};

const WRITERS: [u32; 2] = [1, 16];
/// What SQLite is promised to take, whatever the number of writers.
const RESERVATIONS: f64 = 2_000.0;

/// Builds the program that writes, and has it write.
pub(super) fn measure(args: &Args) -> Result<Measured> {
    let program = build::release("farebox-bench-ledger", &[])?;
    let (rounds, millis) = if args.quick { (1, 500) } else { (5, 2_000) };
    let server = Postgres::start(Durability::Full)?;
    let mut samples = Map::new();
    for round in 1..=rounds {
        shell::say(format_args!("ledger, round {round}/{rounds}"));
        for writers in WRITERS {
            // A fresh file: it is on the disk where build products are, which a tmpfs is not.
            let folder = tempfile::tempdir_in(crate::paths::target()?)?;
            let file = format!("sqlite:{}", folder.path().join("ledger.db").display());
            for (database, url) in [("sqlite", file), ("postgresql", server.url())] {
                let figures = run(&program, &url, writers, millis)?;
                for what in ["reservations", "settlements"] {
                    let list =
                        samples.entry(format!("{database}_{what}_{writers}")).or_insert_with(|| json!([]));
                    list.as_array_mut().context("a list")?.push(figures[what].clone());
                }
            }
        }
    }
    let figures = json!({ "postgresql": tools::POSTGRES_VERSION, "per_second": samples });
    let (goals, table) = (goals(&figures)?, table(&figures)?);
    Ok(Measured { figures, goals, table })
}

fn run(program: &Path, url: &str, writers: u32, millis: u32) -> Result<Value> {
    let arguments = [url, &writers.to_string(), &millis.to_string()];
    let answer = shell::capture(Command::new(program).args(arguments))?;
    serde_json::from_str(&answer).context("the answer of farebox-bench-ledger is not JSON")
}

fn rate(figures: &Value, name: &str) -> Result<f64> {
    median(numbers(&figures["per_second"][name])?).context("no samples")
}

fn goals(figures: &Value) -> Result<Vec<Goal>> {
    let goal = |writers: u32| {
        let rate = rate(figures, &format!("sqlite_reservations_{writers}"))?;
        Ok(Goal::at_least(format!("SQLite, reservations, {writers} writers"), rate, RESERVATIONS, "/s"))
    };
    WRITERS.into_iter().map(goal).collect()
}

fn table(figures: &Value) -> Result<String> {
    let mut table = format!("{:<34}{:>12}{:>12}\n", "ledger, by number of writers", WRITERS[0], WRITERS[1]);
    for (database, shown) in [("sqlite", "SQLite"), ("postgresql", "PostgreSQL")] {
        for what in ["reservations", "settlements"] {
            let rates = WRITERS.map(|writers| rate(figures, &format!("{database}_{what}_{writers}")));
            let [few, many] = rates;
            table.push_str(&format!(
                "{:<34}{:>12.0}{:>12.0}\n",
                format!("{shown}, {what} a second"),
                few?,
                many?
            ));
        }
    }
    Ok(table)
}
