//! Reloads under load.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use farebox_testkit::stack::Scrape;
use tokio::task::JoinHandle;

use crate::reload::buyer::{Buyer, Reply};
use crate::reload::metrics::{Watcher, of_offer, sum};
use crate::reload::pricing::{file, free, paid};
use crate::reload::stage::{PATIENCE, Stage};

const RELOADS: u32 = 20;
/// Pause between two requests of a connection, so that the machine is loaded and still answers.
const PAUSE: Duration = Duration::from_millis(15);
/// Connections on each worker of Envoy.
const PER_WORKER: u64 = 3;
/// The kernel hands connections to workers; after this many without success something is wrong.
const MAX_CONNECTIONS: usize = 64;

/// The work of a connection.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// Requests of a kept offer without a payment.
    Ask,
    /// Paid requests of a kept offer.
    Pay,
    /// Requests of a free route.
    Free,
    /// Requests of an offer that comes and goes.
    Guest,
}

/// Requests made.
#[derive(Debug, Default)]
struct Tally {
    asked: u128,
    paid: u128,
    free: u128,
    guest: u128,
}

/// Connections at work.
#[derive(Debug)]
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Tally>>>,
}

// === impl Load ===

impl Load {
    /// Puts every connection to work.
    fn start(buyers: Vec<Buyer>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let kinds = [Work::Ask, Work::Pay, Work::Free, Work::Pay, Work::Guest, Work::Pay];
        let start = |(buyer, work)| tokio::spawn(keep_going(buyer, work, Arc::clone(&stop)));
        let tasks = buyers.into_iter().zip(kinds.into_iter().cycle()).map(start).collect();
        Self { stop, tasks }
    }

    /// Ends the load. Fails with the first wrong reply.
    async fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Tally::default();
        for task in self.tasks {
            total += task.await.unwrap().unwrap();
        }
        total
    }

    /// Fails as soon as a connection has ended.
    fn check(&self) {
        assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a connection met a failure");
    }
}

async fn keep_going(buyer: Buyer, work: Work, stop: Arc<AtomicBool>) -> Result<Tally> {
    let mut tally = Tally::default();
    let terms = match work {
        Work::Pay => {
            tally.asked += 1;
            Some(buyer.terms("/kept/api").await?)
        }
        _ => None,
    };
    while !stop.load(Ordering::Relaxed) {
        let fault = match (work, &terms) {
            (Work::Pay, Some(terms)) => {
                tally.paid += 1;
                let reply = buyer.pay("/kept/api", terms).await.context("paid")?;
                (reply.status != 200 || !reply.is_settled()).then_some(reply)
            }
            (Work::Ask | Work::Pay, _) => {
                tally.asked += 1;
                let reply = buyer.ask("/kept/api").await.context("unpaid")?;
                (reply.status != 402 || reply.terms().is_none()).then_some(reply)
            }
            (Work::Free, _) => {
                tally.free += 1;
                let reply = buyer.ask("/open/api").await.context("free")?;
                (reply.status != 200).then_some(reply)
            }
            (Work::Guest, _) => {
                tally.guest += 1;
                let reply = buyer.ask("/guest/api").await.context("guest")?;
                let is_closed = reply.status == 404 && reply.reason().as_deref() == Some("unmatched");
                let is_offered = reply.status == 402 && reply.terms().is_some();
                (!is_closed && !is_offered).then_some(reply)
            }
        };
        if let Some(Reply { status, body, .. }) = fault {
            bail!("{work:?} got {status}: {}", String::from_utf8_lossy(&body));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(tally)
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.paid += other.paid;
        self.free += other.free;
        self.guest += other.guest;
    }
}

/// Buyers whose connections are spread over both workers.
async fn buyers_on_both_workers(stage: &Stage) -> Vec<Buyer> {
    let mut buyers = Vec::new();
    while buyers.len() < MAX_CONNECTIONS {
        let buyer = stage.buyer();
        assert_eq!(buyer.ask("/open/api").await.unwrap().status, 200);
        buyers.push(buyer);
        let (first, second) = (connections(stage, 0).await, connections(stage, 1).await);
        if first >= PER_WORKER && second >= PER_WORKER {
            return buyers;
        }
    }
    panic!("{MAX_CONNECTIONS} connections are not on both workers");
}

/// Connections a worker has accepted from clients.
async fn connections(stage: &Stage, worker: u32) -> u64 {
    let port = stage.stack.proxy_address().port();
    stage.envoy_counter(&format!("listener[.].*_{port}[.]worker_{worker}[.]downstream_cx_total")).await
}

/// Every reload differs: the guest comes and goes, prices and texts change.
fn version(number: u32) -> String {
    let mut routes = vec![free("open"), paid("kept", "0.001")];
    routes.push(paid("other", &format!("0.00{}", 1 + number % 9)));
    if number.is_multiple_of(2) {
        routes.push(paid("guest", "0.002"));
    }
    file(&routes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_reloads_under_load_fail_no_request_and_keep_every_count() {
    let mut stage = Stage::start(&version(0)).await;
    let buyers = buyers_on_both_workers(&stage).await;
    let opened = connections(&stage, 0).await + connections(&stage, 1).await;
    let watcher = Watcher::start(stage.stack.companion_url(), &["kept", "other"]);
    let load = Load::start(buyers);

    for number in 1..=RELOADS {
        stage.reload(&version(number)).await;
        load.check();
    }

    let tally = load.finish().await;
    assert!(tally.paid > 100 && tally.asked > 50 && tally.free > 50 && tally.guest > 50, "{tally:?}");
    // A connection that was reset would have been opened again.
    assert_eq!(connections(&stage, 0).await + connections(&stage, 1).await, opened);
    watcher.finish().await;
    let succeeded = |page: &Scrape, operation: &str| {
        let labels = [("operation", operation), ("outcome", "success")];
        sum(page, "facilitator_request_duration_seconds_count", &labels)
    };
    let counts = |page: &Scrape| {
        let [requests, required, verified, charged, settled] = [
            "requests_total",
            "payment_required_total",
            "payment_verified_total",
            "charged_requests_total",
            "settled_amount_atomic_total",
        ]
        .map(|family| of_offer(page, family, "kept"));
        [requests, required, verified, charged, settled, succeeded(page, "verify"), succeeded(page, "settle")]
    };
    let Tally { asked, paid, .. } = tally;
    let expected = [asked + paid, asked, paid, paid, paid * 1000, paid, paid];
    // If Envoy answers slowly, the companion shows earlier values.
    let started = Instant::now();
    let mut page = stage.counted().await;
    while counts(&page) != expected && started.elapsed() < PATIENCE {
        page = stage.counted().await;
    }
    assert_eq!(counts(&page), expected);
    for family in ["payment_failed_total", "payment_failure_reasons_total", "settlements_unresolved"] {
        assert_eq!(of_offer(&page, family, "kept"), 0, "{family}");
    }
    assert_eq!(sum(&page, "config_reloads_total", &[("result", "applied")]), u128::from(RELOADS) + 1);
    assert_eq!(sum(&page, "config_reloads_total", &[("result", "rejected")]), 0);
    assert_eq!(
        stage.envoy_counter("extension_config_discovery[.]http_filter[.]farebox[.]update_rejected").await,
        0
    );
    assert_eq!(u128::from(stage.hits("/kept/api")), tally.paid);
    assert_eq!(stage.hits("/guest/api"), 0);
}
