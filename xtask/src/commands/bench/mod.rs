//! `cargo xtask bench`: what Farebox costs, in parts that can be measured one by one.

mod filter;
mod gc;
mod ledger;
mod load;
mod probe;
mod proxy;
mod purse;
mod relay;
mod report;
mod traefik;
mod workload;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use farebox_testkit::{shell, tools};

use self::report::Measured;

/// A part of the benchmark: a module with a `measure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What the filter costs in the path of a request, against what any filter costs.
    Filter,
    /// How soon the series of removed offers are gone, what that costs, and what is left behind.
    Gc,
    /// How many payments the ledger takes, on either database.
    Ledger,
    /// What the ledger costs a paid request in Envoy.
    Relay,
    /// What the plugin costs in Traefik, and where a signature is checked for less.
    Traefik,
}

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to measure. Default: all of it.
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// A minute instead of several: shows that everything works, its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Fail if a goal is missed.
    #[arg(long)]
    check: bool,
    /// Rounds in which every contender has one turn under load. Default: 41, in Traefik 15, or 3 with --quick.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Length of a turn. Default: 400, or 1000 with --quick but in Traefik.
    #[arg(long, value_name = "MS")]
    turn_ms: Option<u64>,
    /// Offers of the part `gc`.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    offers: usize,
    /// Connections of the load generator; in Traefik it has 1 and 32.
    #[arg(long, value_name = "N", default_value_t = 16)]
    connections: u32,
    /// Worker threads of each Envoy.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: u32,
}

pub(super) async fn run(args: Args) -> Result<ExitCode> {
    let started = Instant::now();
    let machine = report::machine()?;
    tools::envoy()?;
    let all = Part::value_variants();
    let parts: Vec<Part> =
        all.iter().copied().filter(|part| args.parts.is_empty() || args.parts.contains(part)).collect();
    let mut measured = Vec::new();
    for part in parts {
        shell::say(format_args!("measuring: {}", part.name()));
        measured.push((part, part.measure(&args).await?));
    }
    let met = report::finish(machine, started.elapsed().as_secs(), &measured)?;
    Ok(if args.check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

// === impl Part ===

impl Part {
    async fn measure(self, args: &Args) -> Result<Measured> {
        match self {
            Self::Filter => filter::measure(args).await,
            Self::Gc => gc::measure(args).await,
            Self::Ledger => ledger::measure(args),
            Self::Relay => relay::measure(args).await,
            Self::Traefik => traefik::measure(args).await,
        }
    }

    /// As it is called on the command line and in the report.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
