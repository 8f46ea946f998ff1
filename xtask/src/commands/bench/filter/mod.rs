//! What the filter costs, against what any filter costs.
//!
//! * Through a real Envoy: an unpaid request answered 402 and a free request passed on, by our filter, by
//!   two constant filters that do nothing else (the floor), by the same that read the head of the request as each filter
//!   has to that decides by it, and by Envoy without any filter. All run side
//!   by side and take turns under load, so that a noisy machine is noisy for all of them; what counts is
//!   the median of the ratios within a round.
//! * The core by itself: signer recovery and route matching, natively and on V8.
//! * Size of the filter, memory of the proxy, time to take rules.

mod report;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use farebox_testkit::shell;
use serde_json::{Map, Value, json};

use super::load::{self, Load, Sample};
use super::probe;
use super::proxy::{Answer, Proxy, Shape};
use super::report::{Measured, tell_round};
use super::{Args, workload};
use crate::build;

/// One proxy under one kind of load.
struct Contender<'a> {
    name: &'static str,
    proxy: &'a Proxy,
    load: Load,
    samples: Vec<Sample>,
}

/// Builds and measures the filter and what it is compared with.
pub(super) async fn measure(args: &Args) -> Result<Measured> {
    load::check_installed()?;
    let artefact = build::filter()?;
    let probe = probe::build()?;
    let floor = build::guest("farebox-bench-floor", "farebox_bench_floor", &build::ENVOY)?;
    let figures = json!({
        "node": shell::capture(Command::new("node").arg("--version"))?,
        "workers": args.workers,
        "connections": args.connections,
        "artefact_bytes": artefact.size,
        "proxy": proxies(args, &floor).await?,
        "core": probe::measure(&probe, args.quick)?,
    });
    let (goals, table) = (report::goals(&figures)?, report::table(&figures)?);
    Ok(Measured { figures, goals, table })
}

/// Everything that needs running proxies.
async fn proxies(args: &Args, floor: &Path) -> Result<Value> {
    shell::say("starting the proxies");
    let few = workload::push(10, 1)?;
    let many = workload::push(10_000, 1)?;
    let origin = Proxy::start("origin", Shape::Origin, args.workers, None).await?;
    let upstream = Some(origin.address());
    let ours = Proxy::start("farebox-10", Shape::Farebox(&few), args.workers, upstream).await?;
    let ours_many = Proxy::start("farebox-10000", Shape::Farebox(&many), args.workers, upstream).await?;
    // What the others answer is what ours answers, so that the same bytes cross the wire.
    let answer = Answer::of(&ours, &workload::paid_paths(10)[0]).await?;
    ensure!(answer.status == 402, "an unpaid request is answered {}, not 402", answer.status);
    let constant = async |name, answer, reads| {
        Proxy::start(name, Shape::Floor { filter: floor, answer, reads }, args.workers, upstream).await
    };
    let floor_402 = constant("floor-402", Some(&answer), false).await?;
    let floor_pass = constant("floor-pass", None, false).await?;
    let reading_402 = constant("reading-402", Some(&answer), true).await?;
    let reading_pass = constant("reading-pass", None, true).await?;
    let bare_402 = Proxy::start("bare-402", Shape::BareAnswer(&answer), args.workers, upstream).await?;
    let bare_pass = Proxy::start("bare-pass", Shape::Bare, args.workers, upstream).await?;
    let idle: Map<String, Value> = [("farebox, 10 routes", &ours), ("farebox, 10,000 routes", &ours_many)]
        .into_iter()
        .chain([("floor", &floor_pass), ("bare", &bare_pass)])
        .map(|(name, proxy)| Ok((name.to_owned(), json!(proxy.process().resident_bytes()?))))
        .collect::<Result<_>>()?;

    let load = |status, paths: &[String]| Load::new(args.connections, status, paths);
    let paid = |count| load(402, &workload::paid_paths(count));
    let free = || load(200, &[workload::FREE_PATH.to_owned()]);
    let mut contenders = [
        Contender::new("402 farebox", &ours, paid(10)?),
        Contender::new("402 farebox 10000", &ours_many, paid(10_000)?),
        Contender::new("402 floor", &floor_402, paid(10)?),
        Contender::new("402 reading", &reading_402, paid(10)?),
        Contender::new("402 bare", &bare_402, paid(10)?),
        Contender::new("pass farebox", &ours, free()?),
        Contender::new("pass floor", &floor_pass, free()?),
        Contender::new("pass reading", &reading_pass, free()?),
        Contender::new("pass bare", &bare_pass, free()?),
    ];
    race(args, &mut contenders)?;
    let samples: Map<String, Value> =
        contenders.iter().map(|each| (each.name.to_owned(), json!(each.samples))).collect();
    drop(contenders);

    let rounds = if args.quick { 2 } else { 5 };
    let mut configure = Map::new();
    for count in [10, 1_000, 10_000] {
        shell::say(format_args!("taking {count} routes, {rounds} times"));
        let mut times = Vec::new();
        for round in 0..rounds {
            let push = workload::push(count, 2 + configure.len() as u64 * 100 + round)?;
            times.push(ours.take(&push).await?.as_micros());
        }
        configure.insert(count.to_string(), json!(times));
    }
    Ok(json!({ "samples": samples, "resident_bytes": idle, "configure_microseconds": configure }))
}

/// Gives every contender a warming turn and then one turn a round, each round starting with another one. Many
/// short turns: a shared machine changes its pace within seconds, and a ratio is only as good as its pairs.
fn race(args: &Args, contenders: &mut [Contender<'_>]) -> Result<()> {
    let (rounds, turn_ms) = if args.quick { (3, 1_000) } else { (41, 400) };
    let rounds = args.rounds.unwrap_or(rounds);
    ensure!(rounds > 0, "--rounds must be at least 1");
    let turn = Duration::from_millis(args.turn_ms.unwrap_or(turn_ms));
    shell::say("warming up");
    for contender in &mut *contenders {
        contender.run(turn)?;
    }
    let count = contenders.len();
    for round in 0..rounds {
        for place in 0..count {
            let contender = &mut contenders[(place + round as usize) % count];
            let sample = contender.run(turn)?;
            contender.samples.push(sample);
        }
        let rates =
            contenders.iter().map(|each| (each.name, each.samples.last().map_or(0.0, Sample::per_second)));
        tell_round(round + 1, rounds, rates);
    }
    Ok(())
}

// === impl Contender ===

impl<'a> Contender<'a> {
    const fn new(name: &'static str, proxy: &'a Proxy, load: Load) -> Self {
        Self { name, proxy, load, samples: Vec::new() }
    }

    fn run(&self, turn: Duration) -> Result<Sample> {
        let before = self.proxy.process().processor_time()?;
        let mut sample =
            self.load.run(self.proxy.address(), turn).with_context(|| format!("{} under load", self.name))?;
        sample.processor_microseconds = (self.proxy.process().processor_time()? - before).as_micros() as u64;
        Ok(sample)
    }
}
