//! What the plugin costs in Traefik, and where a signature is checked for less.
//!
//! A real Traefik with the plugin, the companion's gateway behind it, against a Traefik without the plugin in
//! front of the same upstream and the same gateway. All run side by side and take turns, at one connection for
//! the time an answer takes, and at 32 for the rate and for what Traefik and companion use of the processor. A
//! figure is compared with another one of the same round.
//!
//! What a signature check costs is the difference between two refusals: of a payment whose signature is
//! somebody else's, and of one that fails the last check before the signature.

mod bare;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use farebox_testkit::stack::{Options, Part, Process, Program, Shell, Stack};
use farebox_testkit::{shell, tools};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::load::{self, Load, Sample};
use super::proxy::{Proxy, Shape};
use super::purse::Purse;
use super::report::{Measured, tell_round};
use super::{Args, workload};
use crate::build;

use bare::Bare;

/// Connections at once where the rate is measured.
const MANY: u32 = 32;
/// Good payments made ready for a second, at one connection and at many. A proxy that asked for more would be shown
/// one twice, refuse it, and end the measurement.
const PAYMENTS: [u32; 2] = [1_000, 3_000];
/// Paid routes of the table.
const ROUTES: usize = 10;

/// One Traefik under one kind of load.
struct Contender<'a> {
    name: &'static str,
    address: SocketAddr,
    traefik: &'a Process,
    companion: &'a Process,
    /// The companion's.
    stack: &'a Stack,
    request: Request,
    turns: Vec<Turn>,
}

/// What is asked for, each time.
#[derive(Debug, Clone, Copy)]
enum Request {
    /// A free route.
    Free,
    /// A paid route, without a payment.
    Unpaid,
    /// With a payment refused just before its signature would be checked.
    Underpaid,
    /// With a payment of which only the signature is wrong.
    Forged,
    /// With a good payment, another one each time.
    Paid,
}

/// A turn of a contender.
#[derive(Debug, Serialize, Deserialize)]
struct Turn {
    /// At one connection.
    single: Sample,
    /// At many.
    many: Sample,
    /// What the companion used of the processor in `many`.
    companion_microseconds: u64,
}

/// Builds and measures the plugin and what it is compared with.
pub(super) async fn measure(args: &Args) -> Result<Measured> {
    load::check_installed()?;
    build::native()?;
    let artefact = build::traefik_plugin()?;
    let figures = json!({
        "traefik": tools::TRAEFIK_VERSION,
        "connections": [1, MANY],
        "artefact_bytes": artefact.size,
        "proxy": proxies(args).await?,
    });
    let (goals, table) = (report::goals(&figures)?, report::table(&figures)?);
    Ok(Measured { figures, goals, table })
}

/// Everything that needs running proxies.
async fn proxies(args: &Args) -> Result<Value> {
    shell::say("starting the proxies");
    let origin = Proxy::start("origin", Shape::Origin, args.workers, None).await?;
    let upstream = format!("http://{}", origin.address());
    let here = Stack::start(options("guest", &upstream)).await?;
    let there = Stack::start(options("gateway", &upstream)).await?;
    let paid_path = &workload::paid_paths(ROUTES)[0];
    let bare = Bare::start(&upstream, &here.gateway_url(), paid_path).await?;
    let purse = Purse::of(&here, paid_path).await?;
    for stack in [&here, &there] {
        refused(stack, paid_path, purse.underpaid()?, "value_mismatch").await?;
        refused(stack, paid_path, purse.forged()?, "invalid_exact_evm_payload_signature").await?;
    }

    let without = |name, request| -> Result<Contender<'_>> {
        let address = if matches!(request, Request::Free) { bare.free } else { bare.paid };
        Ok(Contender::new(name, request, address, bare.process(), part(&here, Part::Companion)?, &here))
    };
    let with = |name, request, stack| -> Result<Contender<'_>> {
        let (traefik, companion) = (part(stack, Part::Proxy)?, part(stack, Part::Companion)?);
        Ok(Contender::new(name, request, stack.proxy_address(), traefik, companion, stack))
    };
    let mut contenders = [
        without("pass bare", Request::Free)?,
        with("pass plugin", Request::Free, &here)?,
        without("402 bare", Request::Unpaid)?,
        with("402 plugin", Request::Unpaid, &here)?,
        without("underpaid bare", Request::Underpaid)?,
        with("underpaid plugin", Request::Underpaid, &here)?,
        without("forged bare", Request::Forged)?,
        with("forged guest", Request::Forged, &here)?,
        with("forged gateway", Request::Forged, &there)?,
        without("paid bare", Request::Paid)?,
        with("paid guest", Request::Paid, &here)?,
        with("paid gateway", Request::Paid, &there)?,
    ];
    race(args, &purse, &mut contenders).await?;
    let turns: Map<String, Value> =
        contenders.iter().map(|each| (each.name.to_owned(), json!(each.turns))).collect();
    let resident = json!({
        "without the plugin": bare.process().resident_bytes()?,
        "with the plugin": part(&here, Part::Proxy)?.resident_bytes()?,
    });
    Ok(json!({ "turns": turns, "resident_bytes": resident }))
}

/// A stack whose signatures are first checked by the plugin (`guest`) or by the `gateway`.
fn options(signature: &str, upstream: &str) -> Options {
    Options {
        shell: Shell::Traefik,
        program: Program::Released,
        settings: json!({ "traefik": { "signature": signature } }),
        upstream: Some(upstream.to_owned()),
        ..Options::priced(workload::pricing(ROUTES))
    }
}

fn part(stack: &Stack, part: Part) -> Result<&Process> {
    stack.part(part).context("a program of the stack is not there")
}

/// Makes sure that a payment fails where it is meant to.
async fn refused(stack: &Stack, path: &str, payment: String, reason: &str) -> Result<()> {
    let text = stack.get(path).header("payment-signature", payment).send().await?.text().await?;
    ensure!(text.contains(reason), "a payment is not refused as {reason} but: {text}");
    Ok(())
}

/// Gives every contender a warming turn and then one turn a round, each round starting with another one.
async fn race(args: &Args, purse: &Purse, contenders: &mut [Contender<'_>]) -> Result<()> {
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 15 });
    ensure!(rounds > 0, "--rounds must be at least 1");
    let turn = Duration::from_millis(args.turn_ms.unwrap_or(400));
    shell::say("warming up");
    for contender in &*contenders {
        contender.turn(purse, turn).await?;
    }
    let count = contenders.len();
    for round in 0..rounds {
        for place in 0..count {
            let contender = &mut contenders[(place + round as usize) % count];
            let done = contender.turn(purse, turn).await?;
            contender.turns.push(done);
        }
        let rates = contenders
            .iter()
            .map(|each| (each.name, each.turns.last().map_or(0.0, |turn| turn.many.per_second())));
        tell_round(round + 1, rounds, rates);
    }
    Ok(())
}

// === impl Contender ===

impl<'a> Contender<'a> {
    const fn new(
        name: &'static str,
        request: Request,
        address: SocketAddr,
        traefik: &'a Process,
        companion: &'a Process,
        stack: &'a Stack,
    ) -> Self {
        Self { name, request, address, traefik, companion, stack, turns: Vec::new() }
    }

    async fn turn(&self, purse: &Purse, length: Duration) -> Result<Turn> {
        // A sale is slower than a refusal, and is to be seen as often.
        let length = if matches!(self.request, Request::Paid) { length * 2 } else { length };
        let [few, most] = PAYMENTS.map(|payments| (f64::from(payments) * length.as_secs_f64()) as usize);
        let under_load = || format!("{} under load", self.name);
        let single = self.request.load(1, purse, few)?.run(self.address, length).with_context(under_load)?;
        let load = self.request.load(MANY, purse, most)?;
        let before = self.used().await?;
        let mut many = load.run(self.address, length).with_context(under_load)?;
        let after = self.used().await?;
        let microseconds = |at: usize| (after[at] - before[at]).as_micros() as u64;
        many.processor_microseconds = microseconds(0);
        Ok(Turn { single, many, companion_microseconds: microseconds(1) })
    }

    /// Processor time of Traefik and the companion so far. First the companion is made to read what the plugin
    /// has counted, so that it does not do so in somebody else's turn.
    async fn used(&self) -> Result<[Duration; 2]> {
        self.stack.metrics().await?;
        Ok([self.traefik.processor_time()?, self.companion.processor_time()?])
    }
}

// === impl Request ===

impl Request {
    fn load(self, connections: u32, purse: &Purse, payments: usize) -> Result<Load> {
        let path = &workload::paid_paths(ROUTES)[0];
        match self {
            Self::Free => Load::new(connections, 200, &[workload::FREE_PATH.to_owned()]),
            Self::Unpaid => Load::new(connections, 402, std::slice::from_ref(path)),
            Self::Underpaid => Load::with_payments(connections, 402, path, &[purse.underpaid()?]),
            Self::Forged => Load::with_payments(connections, 402, path, &[purse.forged()?]),
            Self::Paid => Load::with_payments(connections, 200, path, &purse.good(payments)?),
        }
    }
}

// === impl Turn ===

impl Turn {
    /// Processor time of Traefik for a request, microseconds.
    fn traefik(&self) -> f64 {
        self.many.cost()
    }

    /// Processor time of the companion for a request, microseconds.
    fn companion(&self) -> f64 {
        self.companion_microseconds as f64 / self.many.requests.max(1) as f64
    }

    /// Processor time of both for a request, microseconds.
    fn together(&self) -> f64 {
        self.traefik() + self.companion()
    }
}
