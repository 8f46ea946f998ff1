//! Medians, ratios, goals: the table and `target/farebox/bench.json`.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Args;
use super::load::Sample;
use crate::{paths, shell, tools};

/// A ratio and the least it should be.
pub(super) struct Goal {
    name: &'static str,
    ratio: f64,
    at_least: f64,
}

// === impl Goal ===

impl Goal {
    pub(super) fn is_met(&self) -> bool {
        self.ratio >= self.at_least
    }

    const fn verdict(&self) -> &'static str {
        if self.ratio >= self.at_least { "met" } else { "MISSED" }
    }
}

/// The goals, from the figures.
pub(super) fn goals(figures: &Value) -> Result<Vec<Goal>> {
    let core = |few: &str, many: &str| -> Result<f64> {
        let ratios = zip(&numbers(&figures["core"][few])?, &numbers(&figures["core"][many])?);
        median(ratios).context("no samples")
    };
    Ok(vec![
        Goal {
            name: "402: farebox / floor",
            ratio: rates(figures, "402 farebox", "402 floor")?,
            at_least: 0.8,
        },
        Goal {
            name: "pass: farebox / floor",
            ratio: rates(figures, "pass farebox", "pass floor")?,
            at_least: 0.9,
        },
        Goal {
            name: "402: 10,000 routes / 10",
            ratio: rates(figures, "402 farebox 10000", "402 farebox")?,
            at_least: 0.9,
        },
        Goal {
            name: "V8, decide, exact: 10,000 / 10",
            ratio: core("v8_decide_exact_10", "v8_decide_exact_10000")?,
            at_least: 0.9,
        },
        Goal {
            name: "V8, decide, prefix: 10,000 / 10",
            ratio: core("v8_decide_prefix_10", "v8_decide_prefix_10000")?,
            at_least: 0.9,
        },
    ])
}

/// Median over the rounds of one contender's rate over another's in the same round.
fn rates(figures: &Value, this: &str, that: &str) -> Result<f64> {
    compare(figures, this, that, Sample::per_second)
}

/// As [`rates`], for the processor time of a request.
fn costs(figures: &Value, this: &str, that: &str) -> Result<f64> {
    compare(figures, this, that, Sample::cost)
}

fn compare(figures: &Value, this: &str, that: &str, of: fn(&Sample) -> f64) -> Result<f64> {
    let all = |name: &str| -> Result<Vec<f64>> { Ok(samples(figures, name)?.iter().map(of).collect()) };
    median(zip(&all(this)?, &all(that)?)).context("no samples")
}

fn samples(figures: &Value, contender: &str) -> Result<Vec<Sample>> {
    let samples = &figures["proxy"]["samples"][contender];
    serde_json::from_value(samples.clone()).with_context(|| format!("no samples of {contender}"))
}

fn numbers(list: &Value) -> Result<Vec<f64>> {
    serde_json::from_value(list.clone()).context("no samples")
}

fn zip(this: &[f64], that: &[f64]) -> Vec<f64> {
    this.iter().zip(that).map(|(this, that)| this / that).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

pub(super) fn print(figures: &Value, goals: &[Goal]) -> Result<()> {
    println!(
        "\n{:<20}{:>9}{:>9}{:>9}{:>10}{:>10}{:>14}{:>14}",
        "through Envoy", "req/s", "p50 µs", "p99 µs", "of floor", "of bare", "CPU µs/req", "CPU of floor",
    );
    for contender in [
        "402 farebox",
        "402 farebox 10000",
        "402 floor",
        "402 bare",
        "pass farebox",
        "pass floor",
        "pass bare",
    ] {
        let all = samples(figures, contender)?;
        let middle = |of: fn(&Sample) -> f64| median(all.iter().map(of).collect()).context("no samples");
        let kind = contender.split(' ').next().unwrap_or_default();
        println!(
            "{contender:<20}{:>9.0}{:>9.0}{:>9.0}{:>10.3}{:>10.3}{:>14.1}{:>14.3}",
            middle(Sample::per_second)?,
            middle(|sample| sample.p50 as f64)?,
            middle(|sample| sample.p99 as f64)?,
            rates(figures, contender, &format!("{kind} floor"))?,
            rates(figures, contender, &format!("{kind} bare"))?,
            middle(Sample::cost)?,
            costs(figures, contender, &format!("{kind} floor"))?,
        );
    }
    let core = |name: &str| -> Result<f64> {
        median(numbers(&figures["core"][name])?).with_context(|| format!("no samples of {name}"))
    };
    let (v8, k256, c) = (core("v8_recover")?, core("native_recover")?, core("native_recover_libsecp256k1")?);
    println!("\n{:<34}{:>12}{:>16}{:>18}", "signer recovery", "µs", "of native k256", "of libsecp256k1");
    for (name, time) in [("k256 in V8", v8), ("k256 native", k256), ("libsecp256k1 native", c)] {
        println!("{name:<34}{:>12.0}{:>16.2}{:>18.2}", time / 1e3, time / k256, time / c);
    }
    println!(
        "\n{:<34}{:>10}{:>10}{:>10}{:>16}",
        "ns, by number of routes", "10", "1,000", "10,000", "10,000 / 10"
    );
    for engine in ["native", "v8"] {
        for (operation, what) in [
            ("match_exact", "match, exact"),
            ("match_prefix", "match, prefix"),
            ("decide_exact", "decide, exact"),
            ("decide_prefix", "decide, prefix"),
        ] {
            let [few, some, many] =
                [10, 1_000, 10_000].map(|count| core(&format!("{engine}_{operation}_{count}")));
            let (few, some, many) = (few?, some?, many?);
            let name = format!("{what}, {engine}");
            println!("{name:<34}{few:>10.0}{some:>10.0}{many:>10.0}{:>16.2}", many / few);
        }
    }
    println!("\n{:<34}{:>10}{:>10}{:>10}", "by number of routes", "10", "1,000", "10,000");
    let configure = |count: u32| {
        median(numbers(&figures["proxy"]["configure_microseconds"][count.to_string()])?).context("no samples")
    };
    println!(
        "{:<34}{:>10.1}{:>10.1}{:>10.1}",
        "published to confirmed, ms",
        configure(10)? / 1e3,
        configure(1_000)? / 1e3,
        configure(10_000)? / 1e3
    );
    println!(
        "{:<34}{:>10.1}{:>10.1}{:>10.1}",
        "compiled by one VM (V8), ms",
        core("v8_compile_10")? / 1e6,
        core("v8_compile_1000")? / 1e6,
        core("v8_compile_10000")? / 1e6
    );
    println!(
        "{:<34}{:>10.1}{:>10.1}{:>10.1}",
        "memory grown in a VM by it, MB",
        core("v8_memory_10")? / 1e6,
        core("v8_memory_1000")? / 1e6,
        core("v8_memory_10000")? / 1e6
    );
    println!("\nfilter: {} bytes", figures["artefact_bytes"]);
    for (name, bytes) in figures["proxy"]["resident_bytes"].as_object().into_iter().flatten() {
        println!("Envoy in RAM, {name}: {:.0} MB", bytes.as_f64().unwrap_or_default() / 1e6);
    }
    println!("load average at the end: {:.1}", load_average());
    println!("\n{:<34}{:>10}{:>10}", "goal", "ratio", "at least");
    for goal in goals {
        println!("{:<34}{:>10.3}{:>10.2}  {}", goal.name, goal.ratio, goal.at_least, goal.verdict());
    }
    Ok(())
}

/// Writes everything measured, so that another run can be compared with it.
pub(super) fn write(figures: &Value, goals: &[Goal]) -> Result<()> {
    let goals: Vec<Value> = goals
        .iter()
        .map(|goal| json!({ "name": goal.name, "ratio": goal.ratio, "at_least": goal.at_least, "met": goal.is_met() }))
        .collect();
    let mut all = figures.clone();
    all["goals"] = json!(goals);
    let path = paths::artefacts()?.join("bench.json");
    std::fs::write(&path, format!("{all:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("every sample: {}", path.display());
    println!("repeat: {}", all["machine"]["command"].as_str().unwrap_or_default());
    Ok(())
}

/// On what and with what it was measured.
pub(super) fn machine(args: &Args) -> Result<Value> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let command: Vec<String> = std::env::args().skip(1).collect();
    Ok(json!({
        "command": format!("cargo xtask {}", command.join(" ")),
        "cpu": cpu.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism()?.get(),
        "envoy": tools::ENVOY_VERSION,
        "node": shell::capture(Command::new("node").arg("--version"))?,
        "workers": args.workers,
        "connections": args.connections,
        "load_average_at_start": load_average(),
    }))
}

/// Processes that want to run, averaged over a minute. Above the number of cores, others were measured too.
pub(super) fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(vec![3.0, 1.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn rounds_are_compared_with_themselves() {
        // The machine was ten times slower in the second round; the ratio does not show it.
        assert_eq!(median(zip(&[90.0, 9.0], &[100.0, 10.0])), Some(0.9));
    }

    #[test]
    fn a_goal_just_reached_is_met() {
        assert!(Goal { name: "", ratio: 0.8, at_least: 0.8 }.is_met());
        assert!(!Goal { name: "", ratio: 0.799, at_least: 0.8 }.is_met());
    }
}
