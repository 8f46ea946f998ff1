//! Goals and table of the filter's figures.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::commands::bench::load::Sample;
use crate::commands::bench::report::{Goal, median, numbers};

/// The goals, from the figures.
pub(super) fn goals(figures: &Value) -> Result<Vec<Goal>> {
    let core = |few: &str, many: &str| -> Result<f64> {
        let ratios = zip(&numbers(&figures["core"][few])?, &numbers(&figures["core"][many])?);
        median(ratios).context("no samples")
    };
    Ok(vec![
        Goal::ratio("402: farebox / floor", rates(figures, "402 farebox", "402 floor")?, 0.9),
        Goal::ratio("pass: farebox / floor", rates(figures, "pass farebox", "pass floor")?, 0.95),
        Goal::ratio("402: farebox / reading", rates(figures, "402 farebox", "402 reading")?, 0.9),
        Goal::ratio("pass: farebox / reading", rates(figures, "pass farebox", "pass reading")?, 0.95),
        Goal::ratio("402: 10,000 routes / 10", rates(figures, "402 farebox 10000", "402 farebox")?, 0.9),
        Goal::ratio(
            "V8, decide, exact: 10,000 / 10",
            core("v8_decide_exact_10", "v8_decide_exact_10000")?,
            0.9,
        ),
        Goal::ratio(
            "V8, decide, prefix: 10,000 / 10",
            core("v8_decide_prefix_10", "v8_decide_prefix_10000")?,
            0.9,
        ),
        Goal::at_most("filter", figures["artefact_bytes"].as_f64().context("no size")? / 1e3, 400.0, "kB"),
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

fn zip(this: &[f64], that: &[f64]) -> Vec<f64> {
    this.iter().zip(that).map(|(this, that)| this / that).collect()
}

/// The table people read.
pub(super) fn table(figures: &Value) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{:<20}{:>9}{:>9}{:>9}{:>10}{:>10}{:>14}{:>14}",
        "through Envoy", "req/s", "p50 µs", "p99 µs", "of floor", "of bare", "CPU µs/req", "CPU of floor",
    )?;
    for contender in [
        "402 farebox",
        "402 farebox 10000",
        "402 floor",
        "402 reading",
        "402 bare",
        "pass farebox",
        "pass floor",
        "pass reading",
        "pass bare",
    ] {
        let all = samples(figures, contender)?;
        let middle = |of: fn(&Sample) -> f64| median(all.iter().map(of).collect()).context("no samples");
        let kind = contender.split(' ').next().unwrap_or_default();
        writeln!(
            out,
            "{contender:<20}{:>9.0}{:>9.0}{:>9.0}{:>10.3}{:>10.3}{:>14.1}{:>14.3}",
            middle(Sample::per_second)?,
            middle(|sample| sample.p50 as f64)?,
            middle(|sample| sample.p99 as f64)?,
            rates(figures, contender, &format!("{kind} floor"))?,
            rates(figures, contender, &format!("{kind} bare"))?,
            middle(Sample::cost)?,
            costs(figures, contender, &format!("{kind} floor"))?,
        )?;
    }
    let core = |name: &str| -> Result<f64> {
        median(numbers(&figures["core"][name])?).with_context(|| format!("no samples of {name}"))
    };
    let (v8, k256, c) = (core("v8_recover")?, core("native_recover")?, core("native_recover_libsecp256k1")?);
    writeln!(
        out,
        "\n{:<34}{:>12}{:>16}{:>18}",
        "signer recovery", "µs", "of native k256", "of libsecp256k1"
    )?;
    for (name, time) in [("k256 in V8", v8), ("k256 native", k256), ("libsecp256k1 native", c)] {
        writeln!(out, "{name:<34}{:>12.0}{:>16.2}{:>18.2}", time / 1e3, time / k256, time / c)?;
    }
    writeln!(
        out,
        "\n{:<34}{:>10}{:>10}{:>10}{:>16}",
        "ns, by number of routes", "10", "1,000", "10,000", "10,000 / 10"
    )?;
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
            writeln!(out, "{name:<34}{few:>10.0}{some:>10.0}{many:>10.0}{:>16.2}", many / few)?;
        }
    }
    writeln!(out, "\n{:<34}{:>10}{:>10}{:>10}", "by number of routes", "10", "1,000", "10,000")?;
    let configure = |count: u32| {
        median(numbers(&figures["proxy"]["configure_microseconds"][count.to_string()])?).context("no samples")
    };
    writeln!(
        out,
        "{:<34}{:>10.1}{:>10.1}{:>10.1}",
        "published to confirmed, ms",
        configure(10)? / 1e3,
        configure(1_000)? / 1e3,
        configure(10_000)? / 1e3
    )?;
    writeln!(
        out,
        "{:<34}{:>10.1}{:>10.1}{:>10.1}",
        "compiled by one VM (V8), ms",
        core("v8_compile_10")? / 1e6,
        core("v8_compile_1000")? / 1e6,
        core("v8_compile_10000")? / 1e6
    )?;
    writeln!(
        out,
        "{:<34}{:>10.1}{:>10.1}{:>10.1}",
        "memory grown in a VM by it, MB",
        core("v8_memory_10")? / 1e6,
        core("v8_memory_1000")? / 1e6,
        core("v8_memory_10000")? / 1e6
    )?;
    writeln!(out, "\nfilter: {} bytes", figures["artefact_bytes"])?;
    for (name, bytes) in figures["proxy"]["resident_bytes"].as_object().into_iter().flatten() {
        writeln!(out, "Envoy in RAM, {name}: {:.0} MB", bytes.as_f64().unwrap_or_default() / 1e6)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_compared_with_themselves() {
        // The machine was ten times slower in the second round; the ratio does not show it.
        assert_eq!(median(zip(&[90.0, 9.0], &[100.0, 10.0])), Some(0.9));
    }
}
