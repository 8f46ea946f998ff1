//! Goals, the table and `target/farebox/bench.json`.

use anyhow::{Context, Result};
use farebox_testkit::{paths, shell, tools};
use serde_json::{Map, Value, json};

use super::Part;

/// What a part has measured.
pub(super) struct Measured {
    /// Every sample, for `bench.json`.
    pub(super) figures: Value,
    pub(super) goals: Vec<Goal>,
    /// The same for people.
    pub(super) table: String,
}

/// A figure and what it should be.
pub(super) struct Goal {
    name: String,
    figure: f64,
    bound: Bound,
    unit: &'static str,
}

/// On which side of a number a figure should be. The number itself is good.
#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

// === impl Goal ===

impl Goal {
    /// A figure that should be no lower than a bound.
    pub(super) fn at_least(name: impl Into<String>, figure: f64, bound: f64, unit: &'static str) -> Self {
        Self { name: name.into(), figure, bound: Bound::AtLeast(bound), unit }
    }

    /// A figure that should be no higher than a bound.
    pub(super) fn at_most(name: impl Into<String>, figure: f64, bound: f64, unit: &'static str) -> Self {
        Self { name: name.into(), figure, bound: Bound::AtMost(bound), unit }
    }

    /// A ratio of two rates that should be no lower than a bound.
    pub(super) fn ratio(name: impl Into<String>, figure: f64, bound: f64) -> Self {
        Self::at_least(name, figure, bound, "")
    }

    pub(super) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtLeast(bound) => self.figure >= bound,
            Bound::AtMost(bound) => self.figure <= bound,
        }
    }

    fn line(&self) -> String {
        let (side, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        // Ratios need their third digit.
        let digits = if self.unit.is_empty() { 3 } else { 1 };
        let bound = format!("{bound} {}", self.unit);
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        format!("{:<46}{:>10.digits$}  {side:<8} {bound:<10}{verdict}", self.name, self.figure)
    }

    fn json(&self) -> Value {
        let (side, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at_least", bound),
            Bound::AtMost(bound) => ("at_most", bound),
        };
        json!({ "name": self.name, "figure": self.figure, side: bound, "unit": self.unit, "met": self.is_met() })
    }
}

/// Whether every goal is met, after everything was printed and written down.
pub(super) fn finish(machine: Value, seconds: u64, parts: &[(Part, Measured)]) -> Result<bool> {
    for (_, measured) in parts {
        println!("\n{}", measured.table.trim_end());
    }
    println!("\nload average at the end: {:.1}", load_average());
    println!("\n{:<46}{:>10}", "goal", "figure");
    let goals: Vec<&Goal> = parts.iter().flat_map(|(_, measured)| &measured.goals).collect();
    goals.iter().for_each(|goal| println!("{}", goal.line()));

    let command = machine["command"].as_str().unwrap_or_default().to_owned();
    let mut all = Map::from_iter([
        ("machine".to_owned(), machine),
        ("load_average_at_end".to_owned(), json!(load_average())),
        ("seconds".to_owned(), json!(seconds)),
        ("goals".to_owned(), goals.iter().map(|goal| goal.json()).collect()),
    ]);
    all.extend(parts.iter().map(|(part, measured)| (part.name(), measured.figures.clone())));
    let path = paths::artefacts()?.join("bench.json");
    std::fs::write(&path, format!("{:#}\n", Value::Object(all)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("every sample: {}", path.display());
    println!("repeat: {command}");
    Ok(goals.iter().all(|goal| goal.is_met()))
}

/// On what it is measured.
pub(super) fn machine() -> Result<Value> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let command: Vec<String> = std::env::args().skip(1).collect();
    Ok(json!({
        "command": format!("cargo xtask {}", command.join(" ")),
        "cpu": cpu.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism()?.get(),
        "envoy": tools::ENVOY_VERSION,
        "load_average_at_start": load_average(),
    }))
}

/// Tells of a round that is over, with the rate of every contender, requests a second.
pub(super) fn tell_round<'a>(round: u32, of: u32, rates: impl Iterator<Item = (&'a str, f64)>) {
    let rates: Vec<String> = rates.map(|(name, rate)| format!("{name} {:.1}k", rate / 1000.0)).collect();
    let load = load_average();
    shell::say(format_args!("round {round}/{of} (load {load:.1}): {}", rates.join(" · ")));
}

/// Processes that want to run, averaged over a minute. Above the number of cores, others were measured too.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// A list of numbers among the figures.
pub(super) fn numbers(list: &Value) -> Result<Vec<f64>> {
    serde_json::from_value(list.clone()).context("no samples")
}

/// The middle one, or between the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
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
    fn a_goal_just_reached_is_met() {
        assert!(Goal::ratio("", 0.8, 0.8).is_met());
        assert!(!Goal::ratio("", 0.799, 0.8).is_met());
        assert!(Goal::at_most("", 300.0, 300.0, "ms").is_met());
        assert!(!Goal::at_most("", 300.1, 300.0, "ms").is_met());
    }
}
