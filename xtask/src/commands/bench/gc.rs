//! Offers that go, by the thousand: how soon their series are gone, what that costs, and that nothing is left
//! behind.
//!
//! One route and one offer each. A cycle removes every second offer from the pricing file and adds it again.
//! A real Envoy that was asked for each offer once reports to a real companion, so that every offer has counted.
//!
//! * Few cycles with all offers and an Envoy, in which every figure with a bound is taken.
//! * Many cycles with all offers and no Envoy: memory of the companion.
//! * Many cycles with a tenth of the offers and an Envoy under light load: memory of both.

use std::cell::Cell;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use farebox_testkit::shell;
use farebox_testkit::stack::{Options, Part, Process, Program, Stack};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::{Value, json};

use super::Args;
use super::report::{Goal, Measured, median, numbers};
use crate::build;
use farebox_core::metrics::PREFIX;

/// The promises: from the write to the last series, of the reload, and of a reading of the metrics.
const GONE_MS: f64 = 2_000.0;
const RELOAD_MS: f64 = 300.0;
const METRICS_MS: f64 = 200.0;
/// And of a request for an offer that stays.
const WAIT_MS: f64 = 20.0;
/// Memory after the last cycle, against the memory when a tenth of the cycles was over.
const GROWTH: f64 = 1.1;

/// Names of the offers that stay, and of those that come and go, up to their number.
const KEPT: &str = "kept-";
const GOES: &str = "goes-";
/// Requests under way while every offer is asked for.
const CONCURRENT: usize = 16;
/// Readings of the metrics that are timed, of each page.
const READINGS: usize = 5;
/// How long a change may take to show before the run fails.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Offers that are there at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    /// All of them.
    Full,
    /// Every second one.
    Half,
}

/// What one change of the file showed.
#[derive(Debug, Serialize)]
struct Change {
    /// From the write until the metrics hold what the file does.
    shown_ms: f64,
    /// As the companion tells.
    reload_ms: f64,
    /// From the write until Envoy enforces it; none without an Envoy.
    enforced_ms: Option<f64>,
    /// The longest a request for an offer that stays had to wait meanwhile; none without an Envoy.
    waited_ms: Option<f64>,
}

/// Bytes in RAM.
#[derive(Debug, Clone, Copy, Serialize)]
struct Memory {
    companion: u64,
    envoy: Option<u64>,
}

/// Readings of one page.
#[derive(Debug, Serialize)]
struct Readings {
    ms: Vec<f64>,
    bytes: usize,
}

/// A stack whose file has this many offers.
struct Shop {
    stack: Stack,
    offers: usize,
}

/// Builds the stack and has it forget offers.
pub(super) async fn measure(args: &Args) -> Result<Measured> {
    build::native()?;
    build::filter()?;
    let (few, many) = if args.quick { (1, 10) } else { (5, 200) };
    let figures = json!({
        "offers": args.offers,
        "workers": args.workers,
        "companion": without_envoy(args.offers, many).await?,
        "full": with_envoy(args.offers, args.workers, few).await?,
        "both": under_load(args.offers / 10, args.workers, many).await?,
    });
    let (goals, table) = (goals(&figures)?, table(&figures)?);
    Ok(Measured { figures, goals, table })
}

/// All offers and an Envoy.
async fn with_envoy(offers: usize, workers: u32, cycles: usize) -> Result<Value> {
    let shop = Shop::open(offers, workers).await?;
    shop.ask_for_everything().await?;
    let (mut removed, mut added, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let full = shop.readings(Shelf::Full).await?;
    let mut half = None;
    for cycle in 1..=cycles {
        shell::say(format_args!("{offers} offers with Envoy, cycle {cycle}/{cycles}"));
        removed.push(shop.change(Shelf::Half).await?);
        if half.is_none() {
            half = Some(shop.readings(Shelf::Half).await?);
        }
        added.push(shop.change(Shelf::Full).await?);
        shop.ask_for_everything().await?;
        memory.push(shop.memory()?);
    }
    Ok(json!({
        "removed": removed,
        "added": added,
        "memory": memory,
        "metrics_full": full,
        "metrics_half": half,
    }))
}

/// All offers and no Envoy: the companion publishes, and nobody reports.
async fn without_envoy(offers: usize, cycles: usize) -> Result<Value> {
    let shop = Shop::without_envoy(offers).await?;
    let (mut removed, mut added, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    let full = shop.readings(Shelf::Full).await?;
    for cycle in 1..=cycles {
        if cycle % 20 == 1 {
            shell::say(format_args!("{offers} offers without Envoy, cycle {cycle}/{cycles}"));
        }
        removed.push(shop.change(Shelf::Half).await?);
        added.push(shop.change(Shelf::Full).await?);
        memory.push(shop.memory()?);
    }
    Ok(json!({ "removed": removed, "added": added, "memory": memory, "metrics_full": full }))
}

/// A tenth of the offers and an Envoy that is asked for each of them in each cycle.
async fn under_load(offers: usize, workers: u32, cycles: usize) -> Result<Value> {
    let shop = Shop::open(offers, workers).await?;
    let mut memory = Vec::new();
    for cycle in 1..=cycles {
        if cycle % 20 == 1 {
            shell::say(format_args!("{offers} offers with Envoy, cycle {cycle}/{cycles}"));
        }
        shop.ask_for_everything().await?;
        shop.change(Shelf::Half).await?;
        shop.change(Shelf::Full).await?;
        memory.push(shop.memory()?);
    }
    Ok(json!({ "memory": memory }))
}

// === impl Shelf ===

impl Shelf {
    const fn size(self, offers: usize) -> usize {
        match self {
            Self::Full => offers,
            Self::Half => offers.div_ceil(2),
        }
    }
}

// === impl Shop ===

impl Shop {
    async fn open(offers: usize, workers: u32) -> Result<Self> {
        let options = Options { workers, ..options(offers) };
        Ok(Self { stack: Stack::start(options).await?, offers })
    }

    async fn without_envoy(offers: usize) -> Result<Self> {
        let mut stack = Stack::prepare(options(offers))?;
        stack.start_part(Part::Facilitator)?;
        stack.start_part(Part::Companion)?;
        let loaded = async |stack: &Stack| {
            stack.status().await.is_ok_and(|status| status["config_generation"].is_u64())
        };
        stack.until("the companion has loaded its rules", loaded).await?;
        Ok(Self { stack, offers })
    }

    /// Asks once for each offer, unpaid.
    async fn ask_for_everything(&self) -> Result<()> {
        let asking = stream::iter(0..self.offers).map(|offer| self.ask(offer));
        asking.buffer_unordered(CONCURRENT).try_collect().await
    }

    async fn ask(&self, offer: usize) -> Result<()> {
        let response = self.stack.get(&path(offer)).send().await?;
        let status = response.status().as_u16();
        ensure!(status == 402, "{} is answered {status}, not 402", path(offer));
        // A body that is read to its end leaves the connection to the next request.
        response.bytes().await?;
        Ok(())
    }

    /// Rewrites the file, and waits for the metrics and for Envoy.
    async fn change(&self, shelf: Shelf) -> Result<Change> {
        let before = self.generation().await?;
        let text = pricing(self.offers, shelf);
        let started = Instant::now();
        self.stack.rewrite_pricing(&text)?;
        let longest = Cell::new(Duration::ZERO);
        let shown = self.until_shown(started, shelf);
        let enforced = self.until_enforced(started, before);
        let (shown, enforced) = tokio::select! {
            both = async { tokio::try_join!(shown, enforced) } => both?,
            fault = self.keep_asking(&longest) => return Err(fault),
        };
        let status = self.stack.status().await?;
        let last = &status["last_reload"];
        ensure!(last["result"] == "applied", "the reload was not applied: {last}");
        Ok(Change {
            shown_ms: millis(shown),
            reload_ms: last["took_ms"].as_f64().context("no took_ms")?,
            waited_ms: enforced.is_some().then(|| millis(longest.get())),
            enforced_ms: enforced.map(millis),
        })
    }

    /// Asks for an offer that stays, one request after the other, until one is not answered as it should be.
    async fn keep_asking(&self, longest: &Cell<Duration>) -> anyhow::Error {
        if self.stack.part(Part::Proxy).is_none() {
            return std::future::pending().await;
        }
        loop {
            let started = Instant::now();
            if let Err(error) = self.ask(0).await {
                return error;
            }
            longest.set(longest.get().max(started.elapsed()));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads the metrics again and again.
    async fn until_shown(&self, started: Instant, shelf: Shelf) -> Result<Duration> {
        loop {
            let page = self.page().await?;
            let shown = started.elapsed();
            if page.contains(GOES) == (shelf == Shelf::Full) {
                return Ok(shown);
            }
            self.check(started)?;
        }
    }

    async fn until_enforced(&self, started: Instant, before: u64) -> Result<Option<Duration>> {
        if self.stack.part(Part::Proxy).is_none() {
            return Ok(None);
        }
        loop {
            if matches!(self.stack.enforced().await, Ok(Some(generation)) if generation > before) {
                return Ok(Some(started.elapsed()));
            }
            self.check(started)?;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The generation that is active.
    async fn generation(&self) -> Result<u64> {
        self.stack.status().await?["config_generation"].as_u64().context("no rules are active")
    }

    fn check(&self, started: Instant) -> Result<()> {
        self.stack.check_alive()?;
        if started.elapsed() > PATIENCE {
            bail!("a change of the file does not show:\n{}", self.stack.tails());
        }
        Ok(())
    }

    async fn page(&self) -> Result<String> {
        let url = format!("{}/metrics", self.stack.companion_url());
        Ok(self.stack.client().get(url).send().await?.error_for_status()?.text().await?)
    }

    async fn readings(&self, shelf: Shelf) -> Result<Readings> {
        let (mut ms, mut bytes) = (Vec::new(), 0);
        for _ in 0..READINGS {
            let started = Instant::now();
            let page = self.page().await?;
            ms.push(millis(started.elapsed()));
            bytes = page.len();
            // Without its series a page is quick to write.
            let offers = page.matches(&format!("{PREFIX}requests_total{{")).count();
            ensure!(offers == shelf.size(self.offers), "{offers} offers are on the page of {shelf:?}");
        }
        Ok(Readings { ms, bytes })
    }

    fn memory(&self) -> Result<Memory> {
        let of = |part| self.stack.part(part).map(Process::resident_bytes).transpose();
        let companion = of(Part::Companion)?.context("the companion is not there")?;
        Ok(Memory { companion, envoy: of(Part::Proxy)? })
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn is_kept(offer: usize) -> bool {
    offer.is_multiple_of(2)
}

fn path(offer: usize) -> String {
    format!("/offers/{offer:05}/call")
}

fn options(offers: usize) -> Options {
    Options { program: Program::Released, ..Options::priced(pricing(offers, Shelf::Full)) }
}

fn pricing(offers: usize, shelf: Shelf) -> String {
    let mut text = String::from(
        "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n",
    );
    for offer in (0..offers).filter(|offer| shelf == Shelf::Full || is_kept(*offer)) {
        let kind = if is_kept(offer) { KEPT } else { GOES };
        let _ = writeln!(
            text,
            "- pattern: /offers/{offer:05}/*\n  price: \"0.001\"\n  offerNamespace: bench\n  \
             offerName: {kind}{offer:05}\n  description: One call of offer {offer}."
        );
    }
    text
}

/// The goals, from the figures.
fn goals(figures: &Value) -> Result<Vec<Goal>> {
    let full = &figures["full"];
    let changes = |member| -> Result<Vec<f64>> {
        Ok([column(&full["removed"], member)?, column(&full["added"], member)?].concat())
    };
    let slowest = |values: Vec<f64>| values.into_iter().fold(0.0, f64::max);
    let reading = |page: &str| -> Result<f64> { median(numbers(&full[page]["ms"])?).context("no readings") };
    let growth = |part: &str, program: &str| grown(&column(&figures[part]["memory"], program)?);
    Ok(vec![
        Goal::at_most(
            "removed to gone from every family",
            slowest(column(&full["removed"], "shown_ms")?),
            GONE_MS,
            "ms",
        ),
        Goal::at_most("reload", slowest(changes("reload_ms")?), RELOAD_MS, "ms"),
        Goal::at_most("longest wait of a request", slowest(changes("waited_ms")?), WAIT_MS, "ms"),
        Goal::at_most("/metrics, all offers", reading("metrics_full")?, METRICS_MS, "ms"),
        Goal::at_most("/metrics, half of them", reading("metrics_half")?, METRICS_MS, "ms"),
        Goal::at_most("companion's memory, end / start", growth("companion", "companion")?, GROWTH, ""),
        Goal::at_most(
            "companion's memory, with Envoy, end / start",
            growth("both", "companion")?,
            GROWTH,
            "",
        ),
        Goal::at_most("Envoy's memory, end / start", growth("both", "envoy")?, GROWTH, ""),
    ])
}

/// The memory of the last tenth of the cycles against that of the second tenth: programs take what they need
/// once, and what counts is what they take each time.
fn grown(memory: &[f64]) -> Result<f64> {
    let tenth = (memory.len() / 10).max(1);
    let early = memory.iter().skip(tenth).take(tenth).copied().fold(0.0, f64::max);
    let late = memory.iter().rev().take(tenth).copied().fold(0.0, f64::max);
    ensure!(early > 0.0 && late > 0.0, "too few cycles");
    Ok(late / early)
}

/// One member of each row.
fn column(rows: &Value, member: &str) -> Result<Vec<f64>> {
    let rows = rows.as_array().context("no rows")?;
    let of = |row: &Value| row[member].as_f64().with_context(|| format!("no {member}"));
    rows.iter().map(of).collect()
}

/// The table people read.
fn table(figures: &Value) -> Result<String> {
    let mut out = String::new();
    for (part, envoy) in [("full", "with Envoy"), ("companion", "without Envoy")] {
        let part = &figures[part];
        let head = format!("{} offers {envoy}, ms", figures["offers"]);
        writeln!(out, "{head:<46}{:>10}{:>10}{:>10}", "best", "median", "worst")?;
        for (name, rows) in [("half removed", "removed"), ("half added", "added")] {
            for (what, member) in [
                ("file written to metrics", "shown_ms"),
                ("reload, as the companion tells", "reload_ms"),
                ("file written to Envoy", "enforced_ms"),
                ("longest wait of a request", "waited_ms"),
            ] {
                if part[rows][0][member].is_number() {
                    spread(&mut out, &format!("{name}: {what}"), column(&part[rows], member)?)?;
                }
            }
        }
        for (name, page) in [("all offers", "metrics_full"), ("half of them", "metrics_half")] {
            if let Some(bytes) = part[page]["bytes"].as_f64() {
                let name = format!("/metrics, {name}, {:.1} MB", bytes / 1e6);
                spread(&mut out, &name, numbers(&part[page]["ms"])?)?;
            }
        }
        writeln!(out)?;
    }
    let head = "memory, MB";
    writeln!(out, "{head:<46}{:>10}{:>10}{:>10}", "first", "last", "most")?;
    let changed = |program| column(&figures["full"]["memory"], program);
    remember(&mut out, "companion, all offers, with Envoy", &changed("companion")?)?;
    remember(&mut out, "Envoy, all offers", &changed("envoy")?)?;
    for (name, part, program) in [
        ("companion, all offers, no Envoy", "companion", "companion"),
        ("companion, a tenth of them, with Envoy", "both", "companion"),
        ("Envoy, a tenth of the offers", "both", "envoy"),
    ] {
        let memory = column(&figures[part]["memory"], program)?;
        remember(&mut out, &format!("{name}, {} cycles", memory.len()), &memory)?;
    }
    Ok(out)
}

fn spread(out: &mut String, name: &str, values: Vec<f64>) -> Result<()> {
    let best = values.iter().copied().fold(f64::INFINITY, f64::min);
    let worst = values.iter().copied().fold(0.0, f64::max);
    let middle = median(values).context("no samples")?;
    Ok(writeln!(out, "{name:<46}{best:>10.0}{middle:>10.0}{worst:>10.0}")?)
}

fn remember(out: &mut String, name: &str, bytes: &[f64]) -> Result<()> {
    let (first, last) = bytes.first().zip(bytes.last()).context("no cycles")?;
    let most = bytes.iter().copied().fold(0.0, f64::max);
    Ok(writeln!(out, "{name:<46}{:>10.0}{:>10.0}{:>10.0}", first / 1e6, last / 1e6, most / 1e6)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_offers_go_and_their_names_say_so() {
        let (full, half) = (pricing(10, Shelf::Full), pricing(10, Shelf::Half));
        assert_eq!((full.matches(KEPT).count(), full.matches(GOES).count()), (5, 5));
        assert_eq!((half.matches(KEPT).count(), half.matches(GOES).count()), (5, 0));
        assert_eq!(half.matches("pattern").count(), Shelf::Half.size(10));
    }

    #[test]
    fn growth_leaves_out_what_is_taken_once() {
        let mut memory = vec![100.0; 20];
        memory[0] = 10.0;
        assert_eq!(grown(&memory).unwrap(), 1.0);
        memory[19] = 150.0;
        assert_eq!(grown(&memory).unwrap(), 1.5);
        assert!(grown(&[]).is_err());
    }
}
