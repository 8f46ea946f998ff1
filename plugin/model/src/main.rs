//! Explores the worlds from the command line: `cargo xtask model`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use farebox_model::{Bounds, Explored, Fault, Model};

/// Explores the worlds of a payment's life.
#[derive(Debug, Parser)]
struct Args {
    /// Larger worlds, until every state or so many steps were seen.
    #[arg(long)]
    deep: bool,
    /// Number of states after which a larger world is left, in millions.
    #[arg(long, default_value_t = 70)]
    millions: usize,
    /// Show that each fault is found: all, or the one of this name.
    #[arg(long, num_args = 0..=1, default_missing_value = "all")]
    faults: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(name) = &args.faults {
        return show_faults(name, args.threads);
    }
    let (worlds, states) =
        if args.deep { (Bounds::large(), Some(args.millions * 1_000_000)) } else { (Bounds::small(), None) };
    let mut holds = true;
    for bounds in worlds {
        let name = bounds.name;
        let started = Instant::now();
        let explored = Model { fault: None, bounds }.explore(args.threads, states);
        let Explored { states, depth, .. } = explored;
        println!("{name}: {states} states, {depth} steps deep, {:.1} s", started.elapsed().as_secs_f64());
        holds &= show(&explored) && explored.missing.is_empty();
        for missing in &explored.missing {
            println!("  never happened: {missing}");
        }
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show_faults(name: &str, threads: usize) -> ExitCode {
    let mut all_found = true;
    for fault in Fault::ALL.iter().copied().filter(|fault| name == "all" || format!("{fault:?}") == name) {
        println!("{fault:?}: {}", fault.text().trim());
        let explored = Model { fault: Some(fault), bounds: fault.world() }.explore(threads, None);
        all_found &= !show(&explored);
    }
    if all_found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the broken laws. Returns whether there are none.
fn show(explored: &Explored) -> bool {
    for (law, history) in &explored.broken {
        println!("  broken: {}", law.trim());
        history.iter().for_each(|action| println!("    {action:?}"));
    }
    explored.broken.is_empty()
}
