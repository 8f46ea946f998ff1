//! Reloads while buyers are at work, in Traefik and in the gateway, which take the new rules at different times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use farebox_core::metrics::FailureReason;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Shell, Stack};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::options;
use crate::common::Tally;
use crate::reload::buyer::Buyer;
use crate::reload::metrics::{Watcher, sum};
use crate::reload::pricing::{file, free, paid};

const RELOADS: u32 = 20;
/// Buyers of an offer that does not change, of an offer whose price changes, and clients that do not pay.
const BUYERS: [(Work, usize); 4] = [(Work::Kept, 48), (Work::Moving, 16), (Work::Ask, 2), (Work::Guest, 2)];
/// Pause between two requests of clients that do not pay, because nothing else slows them down.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Paid, for a price that stays.
    Kept,
    /// Paid, for a price that changes with every reload.
    Moving,
    /// Without a payment.
    Ask,
    /// Without a payment, for an offer that comes and goes.
    Guest,
}

/// The answers to buyers of one kind.
#[derive(Debug, Default)]
struct Seen {
    asked: u128,
    served: u128,
    /// Payments for an old price.
    outdated: u128,
}

/// The file of a reload: a guest offer comes and goes, and a price changes.
fn version(number: u32) -> String {
    let price = format!("0.00{}", 1 + number % 9);
    let mut routes = vec![free("free"), paid("kept", "0.001"), paid("moving", &price)];
    if number.is_multiple_of(2) {
        routes.push(paid("guest", "0.002"));
    }
    file(&routes)
}

async fn work(buyer: Buyer, work: Work, stop: Arc<AtomicBool>) -> Result<Seen> {
    let mut seen = Seen::default();
    let path = match work {
        Work::Kept | Work::Ask => "/kept/a",
        Work::Moving => "/moving/a",
        Work::Guest => "/guest/a",
    };
    let pays = matches!(work, Work::Kept | Work::Moving);
    let mut terms = None;
    while !stop.load(Ordering::Relaxed) {
        let reply = match &terms {
            Some(terms) if pays => buyer.pay(path, terms).await.context("paid")?,
            _ => buyer.ask(path).await.context("unpaid")?,
        };
        let told = || format!("{work:?}: {}: {}", reply.status, String::from_utf8_lossy(&reply.body));
        if terms.is_none() || !pays {
            let is_gone = work == Work::Guest && reply.status == 404;
            ensure!(reply.status == 402 || is_gone, told());
            seen.asked += 1;
            terms = reply.terms();
            if !pays {
                tokio::time::sleep(PAUSE).await;
            }
        } else if reply.status == 200 {
            ensure!(reply.is_settled(), told());
            seen.served += 1;
        } else {
            let outdated = FailureReason::NoMatchingRequirement.as_str();
            let moved = work == Work::Moving && reply.failure().as_deref() == Some(outdated);
            ensure!(moved, told());
            seen.outdated += 1;
            terms = reply.terms();
        }
    }
    Ok(seen)
}

/// Waits until every proxy has taken later rules than these, and returns their generation.
async fn later(stack: &Stack, generation: u64) -> u64 {
    let current = async |stack: &Stack| stack.status().await.unwrap()["config_generation"].as_u64().unwrap();
    stack.until("the rules are loaded", async |stack| current(stack).await > generation).await.unwrap();
    stack.ready().await.unwrap();
    current(stack).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_buyers_at_once_none_fails_for_20_reloads_and_none_is_served_unpaid() {
    let options =
        Options { pricing: farebox_testkit::stack::Pricing::Text(version(0)), ..options(Shell::Traefik) };
    let stack = Stack::start(options).await.unwrap();
    let watcher = Watcher::start(stack.companion_url(), &["kept", "moving"]);
    let stop = Arc::new(AtomicBool::new(false));
    let start = |(kind, count): (Work, usize)| {
        let (stack, stop) = (&stack, &stop);
        (0..count).map(move |_| (kind, tokio::spawn(work(Buyer::new(stack.proxy_url()), kind, stop.clone()))))
    };
    let mut load: Vec<(Work, JoinHandle<Result<Seen>>)> = BUYERS.into_iter().flat_map(start).collect();
    let started = Instant::now();
    let mut generation = stack.status().await.unwrap()["config_generation"].as_u64().unwrap();
    for number in 1..=RELOADS {
        stack.rewrite_pricing(&version(number)).unwrap();
        generation = later(&stack, generation).await;
        if let Some((kind, task)) = load.iter_mut().find(|(_, task)| task.is_finished()) {
            panic!("{kind:?}, reload {number}: {:#}", task.await.unwrap().unwrap_err());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut offers: BTreeMap<&str, Seen> = BTreeMap::new();
    for (kind, task) in load {
        let seen = task.await.unwrap().unwrap();
        let offer = match kind {
            Work::Kept | Work::Ask => "kept",
            Work::Moving => "moving",
            Work::Guest => "guest",
        };
        let sum = offers.entry(offer).or_default();
        sum.asked += seen.asked;
        sum.served += seen.served;
        sum.outdated += seen.outdated;
    }
    println!("{RELOADS} reloads in {:?}: {offers:?}", started.elapsed());

    let settled = DevFacilitator::of(&stack).settled_payments().await;
    let mut nonces: Vec<&Value> = settled.iter().map(|payment| &payment["nonce"]).collect();
    nonces.sort_by_key(|nonce| nonce.as_str());
    nonces.dedup();
    assert_eq!(nonces.len(), settled.len(), "a payment was settled twice");
    let hits = stack.origin().unwrap().hits();
    assert_eq!(hits.of("/guest/a"), 0);
    let enough = |offer: &str, served| assert!(offers[offer].served > served, "{offers:?}");
    enough("kept", 500);
    enough("moving", 50);
    // A buyer gets a new price once, when Traefik has it. Until then the old price buys.
    let changes = u128::from(RELOADS) * BUYERS[1].1 as u128;
    assert!((10..=changes).contains(&offers["moving"].outdated), "{offers:?}");
    assert!(offers["guest"].asked > 100, "{offers:?}");
    let is_counted = async |stack: &Stack| {
        let page = stack.metrics().await.unwrap();
        ["kept", "moving"].iter().all(|offer| {
            let Seen { asked, served, outdated } = offers[offer];
            Tally::of(&page, offer).requests >= asked + served + outdated
        })
    };
    stack.until("every request is counted", is_counted).await.unwrap();
    let page = stack.metrics().await.unwrap();
    for offer in ["kept", "moving"] {
        let Seen { asked, served, outdated } = offers[offer];
        assert_eq!(u128::from(hits.of(&format!("/{offer}/a"))), served, "{offer}");
        let shown = Tally::of(&page, offer);
        assert_eq!((shown.charged, shown.verified, shown.unresolved), (served, served, 0), "{offer}");
        assert_eq!((shown.requests, shown.required), (asked + served + outdated, asked), "{offer}");
        assert_eq!(shown.failed.values().sum::<u128>(), outdated, "{offer}");
    }
    assert_eq!(settled.len() as u128, offers["kept"].served + offers["moving"].served);
    assert_eq!(Tally::of(&page, "kept").amount, offers["kept"].served * 1000);
    let paid: u128 = settled.iter().map(|one| one["amount"].as_str().unwrap().parse::<u128>().unwrap()).sum();
    assert_eq!(Tally::of(&page, "kept").amount + Tally::of(&page, "moving").amount, paid);
    assert_eq!(sum(&page, "config_reloads_total", &[("result", "applied")]), u128::from(RELOADS) + 1);
    watcher.finish().await;
}
