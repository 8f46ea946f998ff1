//! Goals and table of the plugin's figures.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Turn;
use crate::commands::bench::report::{Goal, median};

/// The goals, from the figures.
pub(super) fn goals(figures: &Value) -> Result<Vec<Goal>> {
    let bytes = figures["artefact_bytes"].as_f64().context("no size")?;
    let pass = ratio(figures, "pass plugin", "pass bare", Turn::together)?;
    Ok(vec![
        Goal::at_most("pass, CPU: with the plugin / without", pass, 2.0, ""),
        Goal::at_most("signature check in the plugin", middle(in_plugin(figures)?)?, 3_000.0, "µs"),
        Goal::at_most("plugin", bytes / 1e3, 400.0, "kB"),
    ])
}

/// Processor time of a signature check in the plugin, microseconds, for each round.
fn in_plugin(figures: &Value) -> Result<Vec<f64>> {
    pair(figures, "forged guest", "underpaid plugin", Turn::traefik, |forged, underpaid| forged - underpaid)
}

/// The same while Traefik waits for the gateway between two checks, and has forgotten what it used for the last.
fn in_purchase(figures: &Value) -> Result<Vec<f64>> {
    pair(figures, "paid guest", "paid gateway", Turn::traefik, |checked, passed| checked - passed)
}

/// The same in the gateway.
fn in_gateway(figures: &Value) -> Result<Vec<f64>> {
    pair(figures, "forged bare", "underpaid bare", Turn::companion, |forged, underpaid| forged - underpaid)
}

/// Median over the rounds of one contender's figure over another's in the same round.
fn ratio(figures: &Value, this: &str, that: &str, of: fn(&Turn) -> f64) -> Result<f64> {
    middle(pair(figures, this, that, of, |this, that| this / that)?)
}

fn pair(
    figures: &Value,
    this: &str,
    that: &str,
    of: fn(&Turn) -> f64,
    compare: fn(f64, f64) -> f64,
) -> Result<Vec<f64>> {
    let [this, that] = [turns(figures, this)?, turns(figures, that)?];
    Ok(this.iter().zip(&that).map(|(this, that)| compare(of(this), of(that))).collect())
}

fn middle(values: Vec<f64>) -> Result<f64> {
    median(values).context("no samples")
}

fn turns(figures: &Value, contender: &str) -> Result<Vec<Turn>> {
    let turns = &figures["proxy"]["turns"][contender];
    serde_json::from_value(turns.clone()).with_context(|| format!("no samples of {contender}"))
}

/// The table people read.
pub(super) fn table(figures: &Value) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{:<20}{:>9}{:>9}{:>10}{:>10}{:>12}{:>11}{:>10}{:>9}",
        "through Traefik",
        "p50 µs",
        "p99 µs",
        "req/s",
        "of bare",
        "CPU Traefik",
        "companion",
        "together",
        "of bare",
    )?;
    for contender in [
        "pass bare",
        "pass plugin",
        "402 bare",
        "402 plugin",
        "underpaid bare",
        "underpaid plugin",
        "forged bare",
        "forged guest",
        "forged gateway",
        "paid bare",
        "paid guest",
        "paid gateway",
    ] {
        let all = turns(figures, contender)?;
        let middle = |of: fn(&Turn) -> f64| middle(all.iter().map(of).collect());
        let bare = format!("{} bare", contender.split(' ').next().unwrap_or_default());
        writeln!(
            out,
            "{contender:<20}{:>9.0}{:>9.0}{:>10.0}{:>10.3}{:>12.1}{:>11.1}{:>10.1}{:>9.3}",
            middle(|turn| turn.single.p50 as f64)?,
            middle(|turn| turn.single.p99 as f64)?,
            middle(|turn| turn.many.per_second())?,
            ratio(figures, contender, &bare, |turn| turn.many.per_second())?,
            middle(Turn::traefik)?,
            middle(Turn::companion)?,
            middle(Turn::together)?,
            ratio(figures, contender, &bare, Turn::together)?,
        )?;
    }
    writeln!(out, "p50 and p99 at one connection, the rest at 32; CPU in µs for a request")?;
    let gateway = in_gateway(figures)?;
    writeln!(out, "\n{:<34}{:>12}{:>16}", "signature check", "CPU µs", "of the gateway")?;
    for (name, times) in [
        ("in the gateway", in_gateway(figures)?),
        ("in the plugin", in_plugin(figures)?),
        ("in the plugin, in a purchase", in_purchase(figures)?),
    ] {
        let ratio = middle(times.iter().zip(&gateway).map(|(time, gateway)| time / gateway).collect())?;
        writeln!(out, "{name:<34}{:>12.0}{ratio:>16.2}", middle(times)?)?;
    }
    writeln!(out, "\n{:<34}{:>12}{:>12}{:>10}", "signature: guest / gateway", "of rate", "of CPU", "of p50")?;
    for (name, request) in [("a forged payment", "forged"), ("a good payment", "paid")] {
        let of = |what| ratio(figures, &format!("{request} guest"), &format!("{request} gateway"), what);
        let (rate, cpu, p50) =
            (of(|turn| turn.many.per_second())?, of(Turn::together)?, of(|turn| turn.single.p50 as f64)?);
        writeln!(out, "{name:<34}{rate:>12.3}{cpu:>12.3}{p50:>10.3}")?;
    }
    writeln!(out, "\nplugin: {} bytes", figures["artefact_bytes"])?;
    for (name, bytes) in figures["proxy"]["resident_bytes"].as_object().into_iter().flatten() {
        writeln!(out, "Traefik in RAM, {name}: {:.0} MB", bytes.as_f64().unwrap_or_default() / 1e6)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A turn of 10 requests with these costs, microseconds a request.
    fn turn(traefik: u64, companion: u64) -> Value {
        let sample = json!({
            "requests": 10, "microseconds": 1, "refused": 0, "lost": 0, "p50": 1, "p99": 1,
            "processor_microseconds": traefik * 10,
        });
        json!({ "single": sample, "many": sample, "companion_microseconds": companion * 10 })
    }

    #[test]
    fn a_signature_check_is_what_a_forgery_costs_more_than_an_underpayment_in_the_same_round() {
        // The machine was three times slower in the second round.
        let figures = json!({ "proxy": { "turns": {
            "underpaid plugin": [turn(100, 0), turn(300, 0)],
            "forged guest": [turn(500, 1), turn(1_500, 1)],
            "underpaid bare": [turn(50, 30), turn(150, 90)],
            "forged bare": [turn(50, 130), turn(150, 390)],
        }}});
        assert_eq!(in_plugin(&figures).unwrap(), [400.0, 1_200.0]);
        assert_eq!(in_gateway(&figures).unwrap(), [100.0, 300.0]);
        assert_eq!(ratio(&figures, "forged guest", "underpaid plugin", Turn::traefik).unwrap(), 5.0);
        assert_eq!(ratio(&figures, "forged bare", "underpaid bare", Turn::together).unwrap(), 2.25);
    }

    #[test]
    fn a_contender_without_samples_is_an_error_that_names_it() {
        let error = turns(&json!({}), "paid guest").unwrap_err();
        assert_eq!(error.to_string(), "no samples of paid guest");
    }
}
