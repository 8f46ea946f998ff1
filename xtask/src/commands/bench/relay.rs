//! What the ledger costs a paid request in Envoy: the same load through an Envoy that calls the companion's relay and
//! through one that calls the facilitator itself.
//!
//! Both run side by side, each with a development facilitator of its own that answers at once, and take turns. Every
//! request brings a payment nobody has seen.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use farebox_testkit::shell;
use farebox_testkit::stack::{Options, Part, Program, Stack};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::load::{self, Load, Sample};
use super::purse::Purse;
use super::report::{Goal, Measured, median, tell_round};
use super::{Args, workload};
use crate::build;

/// The relay is to reach this much of what is possible without it.
const GOAL: f64 = 0.7;
/// Payments made ready for a second of load.
const PAYMENTS: u32 = 3_000;
/// Paid routes of the table.
const ROUTES: usize = 10;
/// In the order of their names here.
const MODES: [&str; 2] = ["direct", "relay"];

/// A turn of a stack.
#[derive(Debug, Serialize, Deserialize)]
struct Turn {
    /// With the processor time of Envoy.
    sample: Sample,
    /// What the companion used of the processor.
    companion_microseconds: u64,
}

pub(super) async fn measure(args: &Args) -> Result<Measured> {
    load::check_installed()?;
    build::native()?;
    build::filter()?;
    let figures = json!({ "connections": args.connections, "turns": turns(args).await? });
    let share = share(&figures)?;
    let goals = vec![Goal::ratio("paid: with the relay / direct", share, GOAL)];
    Ok(Measured { goals, table: table(&figures)?, figures })
}

async fn turns(args: &Args) -> Result<Value> {
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 15 });
    ensure!(rounds > 0, "--rounds must be at least 1");
    let turn = Duration::from_millis(args.turn_ms.unwrap_or(1_000));
    shell::say("starting the proxies");
    let mut stacks = Vec::new();
    for mode in MODES {
        let settings = json!({ "facilitator": { "settlement": mode } });
        let options = Options {
            settings,
            workers: 2,
            program: Program::Released,
            ..Options::priced(workload::pricing(ROUTES))
        };
        stacks.push(Stack::start(options).await?);
    }
    let path = &workload::paid_paths(ROUTES)[0];
    let purse = Purse::of(&stacks[0], path).await?;
    shell::say("warming up");
    for stack in &stacks {
        one(args, stack, &purse, path, turn).await?;
    }
    let mut turns: [Vec<Turn>; 2] = Default::default();
    for round in 0..rounds {
        // Each begins as often as the other.
        let order = if round.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for place in order {
            let turn = one(args, &stacks[place], &purse, path, turn).await?;
            turns[place].push(turn);
        }
        let rates = MODES.iter().zip(&turns);
        tell_round(
            round + 1,
            rounds,
            rates.map(|(mode, turns)| (*mode, turns.last().map_or(0.0, |turn| turn.sample.per_second()))),
        );
    }
    let [direct, relay] = turns;
    Ok(json!({ "direct": direct, "relay": relay }))
}

async fn one(args: &Args, stack: &Stack, purse: &Purse, path: &str, turn: Duration) -> Result<Turn> {
    let payments = purse.good((f64::from(PAYMENTS) * turn.as_secs_f64()) as usize)?;
    let load = Load::with_payments(args.connections, 200, path, &payments)?;
    let part = |part| stack.part(part).context("a program of the stack is not there");
    let used = || -> Result<[Duration; 2]> {
        Ok([part(Part::Proxy)?.processor_time()?, part(Part::Companion)?.processor_time()?])
    };
    let before = used()?;
    let mut sample = load.run(stack.proxy_address(), turn)?;
    let after = used()?;
    let microseconds = |at: usize| (after[at] - before[at]).as_micros() as u64;
    sample.processor_microseconds = microseconds(0);
    Ok(Turn { sample, companion_microseconds: microseconds(1) })
}

fn of(figures: &Value, mode: &str) -> Result<Vec<Turn>> {
    serde_json::from_value(figures["turns"][mode].clone()).with_context(|| format!("no samples of {mode}"))
}

/// Rate with the relay over that without, of the same round; the median.
fn share(figures: &Value) -> Result<f64> {
    let [direct, relay] = [of(figures, "direct")?, of(figures, "relay")?];
    let rate = |turn: &Turn| turn.sample.per_second();
    let shares = relay.iter().zip(&direct).map(|(relay, direct)| rate(relay) / rate(direct));
    median(shares.collect()).context("no samples")
}

fn table(figures: &Value) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{:<20}{:>10}{:>10}{:>10}{:>12}{:>12}",
        "paid, in Envoy", "req/s", "p50 µs", "p99 µs", "CPU Envoy", "companion"
    )?;
    for mode in MODES {
        let turns = of(figures, mode)?;
        let middle = |of: fn(&Turn) -> f64| median(turns.iter().map(of).collect()).context("no samples");
        writeln!(
            out,
            "{mode:<20}{:>10.0}{:>10.0}{:>10.0}{:>12.1}{:>12.1}",
            middle(|turn| turn.sample.per_second())?,
            middle(|turn| turn.sample.p50 as f64)?,
            middle(|turn| turn.sample.p99 as f64)?,
            middle(|turn| turn.sample.cost())?,
            middle(|turn| turn.companion_microseconds as f64 / turn.sample.requests.max(1) as f64)?,
        )?;
    }
    writeln!(out, "at {} connections; CPU in µs for a request", figures["connections"])?;
    writeln!(out, "with the relay / direct: {:.3}", share(figures)?)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_compares_turns_of_one_round() {
        let turn = |requests: u64| {
            json!({ "companion_microseconds": 0, "sample": {
                "requests": requests, "microseconds": 1_000_000, "refused": 0, "lost": 0, "p50": 1, "p99": 1,
            }})
        };
        // The machine was three times slower in the second round.
        let figures = json!({ "turns": {
            "direct": [turn(900), turn(300)],
            "relay": [turn(720), turn(240)],
        }});
        assert!((share(&figures).unwrap() - 0.8).abs() < 1e-9);
    }
}
