//! Counts of plugin and gateway after the death of the companion: each answered request is counted once. Only counts that
//! the gateway had not reported when it was killed may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use farebox_core::metrics::{BlockedReason, FailureReason};
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Part, Scrape, Shell, Stack};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::options;
use crate::common::Tally;
use crate::reload::buyer::{Buyer, Reply};
use crate::reload::metrics::{Watcher, sum};
use crate::support::decode;

const REQUESTS: u64 = 20_000;
const BUYERS: u64 = 32;
/// Requests after which the companion is killed for the second time.
const QUIET: u64 = 640;
/// How long settlements without an answer may take.
const SETTLED: Duration = Duration::from_secs(30);
/// After this time the ledger has the gateway's counts, because the gateway reports every second.
const REPORTED: Duration = Duration::from_secs(2);
/// Pause of a buyer whose payment gets no answer.
const PAUSE: Duration = Duration::from_millis(50);

/// The work of buyers, by the number of the request.
const WORK: [Work; 20] = [
    Work::Ask,
    Work::Free,
    Work::Pay,
    Work::Free,
    Work::Ask,
    Work::Forge,
    Work::Free,
    Work::Ask,
    Work::Replay,
    Work::Free,
    Work::Garble,
    Work::Ask,
    Work::Free,
    Work::Pay,
    Work::Ask,
    Work::Free,
    Work::Replay,
    Work::Free,
    Work::Ask,
    Work::Ask,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Of a free route.
    Free,
    /// Without a payment.
    Ask,
    Pay,
    /// With a payment that was signed for other terms.
    Forge,
    /// With a header that is not a payment.
    Garble,
    /// With a payment that has bought its answer.
    Replay,
}

/// The answers to buyers.
#[derive(Debug, Default, Clone)]
struct Seen {
    required: u128,
    /// Nonces that bought an answer.
    served: Vec<String>,
    /// Refused payments by reason.
    failed: BTreeMap<String, u128>,
    /// Refused requests by reason.
    blocked: BTreeMap<String, u128>,
    /// Refused payments that were used already, and those that were just in use.
    replayed: [u128; 2],
    /// Payments whose fate in the gateway is not known.
    unanswered: u128,
}

/// Buyers at work.
struct Load {
    made: Arc<AtomicU64>,
    buyers: Vec<JoinHandle<Result<Seen>>>,
}

/// A buyer, with its terms and payment.
struct Shopper {
    buyer: Buyer,
    terms: Value,
    /// The last payment that bought its answer, as a header value.
    used: Option<String>,
    seen: Seen,
}

// === impl Load ===

impl Load {
    fn start(stack: &Stack, terms: &Value, requests: u64) -> Self {
        let (made, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let start = |_| {
            let shopper = Shopper {
                buyer: Buyer::new(stack.proxy_url()),
                terms: terms.clone(),
                used: None,
                seen: Seen::default(),
            };
            tokio::spawn(shopper.work(next.clone(), made.clone(), requests))
        };
        Self { buyers: (0..BUYERS).map(start).collect(), made }
    }

    async fn reach(&self, requests: u64) {
        while self.made.load(Ordering::Relaxed) < requests && !self.buyers.iter().all(JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The answers to all buyers. Fails with the first wrong answer.
    async fn finish(self) -> Seen {
        let mut all = Seen::default();
        for buyer in self.buyers {
            let seen = buyer.await.unwrap().unwrap();
            all.required += seen.required;
            all.served.extend(seen.served);
            all.unanswered += seen.unanswered;
            for (sums, counts) in [(&mut all.failed, seen.failed), (&mut all.blocked, seen.blocked)] {
                for (reason, count) in counts {
                    *sums.entry(reason).or_default() += count;
                }
            }
            for (sum, count) in all.replayed.iter_mut().zip(seen.replayed) {
                *sum += count;
            }
        }
        all
    }
}

// === impl Shopper ===

impl Shopper {
    async fn work(mut self, next: Arc<AtomicU64>, made: Arc<AtomicU64>, requests: u64) -> Result<Seen> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(self.seen);
            }
            self.request(WORK[usize::try_from(number)? % WORK.len()]).await?;
            made.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn request(&mut self, work: Work) -> Result<()> {
        let payment = match work {
            Work::Free | Work::Ask => None,
            Work::Pay => Some(self.buyer.sign(&self.terms)),
            Work::Forge => {
                let mut payment = decode(&self.buyer.sign(&self.terms));
                payment["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "07".repeat(32)));
                Some(farebox_testkit::wallet::header_value(&payment))
            }
            Work::Garble => Some("no payment".to_owned()),
            // Without a used payment yet, the buyer asks for the terms.
            Work::Replay => self.used.clone(),
        };
        let path = if work == Work::Free { "/free/a" } else { "/goods/a" };
        let reply = match &payment {
            None => self.buyer.ask(path).await?,
            Some(payment) => Reply::read(self.buyer.send_paid(path, payment).await?).await?,
        };
        let seen = &mut self.seen;
        let told = || format!("{work:?}: {}: {}", reply.status, String::from_utf8_lossy(&reply.body));
        let (Some(payment), false) = (payment, work == Work::Free) else {
            let expected = if work == Work::Free { 200 } else { 402 };
            ensure!(reply.status == expected, told());
            seen.required += u128::from(work != Work::Free);
            return Ok(());
        };
        if reply.status == 200 {
            ensure!(work == Work::Pay && reply.is_settled(), told());
            seen.served.push(nonce_of(&decode(&payment)));
            self.used = Some(payment);
            return Ok(());
        }
        let Some(reason) = reply.failure().or_else(|| reply.reason()) else {
            // Traefik's own answer if the gateway is unreachable.
            ensure!(matches!(work, Work::Pay | Work::Replay) && reply.status == 502, told());
            seen.unanswered += 1;
            tokio::time::sleep(PAUSE).await;
            return Ok(());
        };
        let expected = match work {
            Work::Forge => reason == FailureReason::PaymentInvalid.as_str(),
            Work::Garble => reason == FailureReason::InvalidPaymentHeader.as_str(),
            // The next companion refuses paths before it has rules.
            Work::Replay => reason == FailureReason::PaymentReplayed.as_str() || reply.status == 503,
            _ => reply.status == 503,
        };
        ensure!(expected, told());
        if reason == FailureReason::PaymentReplayed.as_str() {
            seen.replayed[usize::from(reply.status == 409)] += 1;
        }
        if FailureReason::parse(&reason).is_some() {
            *seen.failed.entry(reason).or_default() += 1;
        } else {
            ensure!(BlockedReason::parse(&reason).is_some(), told());
            *seen.blocked.entry(reason).or_default() += 1;
        }
        Ok(())
    }
}

// === impl Seen ===

impl Seen {
    /// Asserts that each answer is counted once, except for `missing` that the gateway may not have reported, and that
    /// requests without an answer are counted at most once.
    fn assert_covered(&self, page: &Scrape, charged: u128, missing: u128) {
        let shown = Tally::of(page, "goods");
        let in_flight = self.unanswered.min(u128::from(BUYERS));
        let between = |what: &str, shown: u128, seen: u128| {
            let possible = seen.saturating_sub(missing)..=seen + in_flight;
            assert!(possible.contains(&shown), "{what}: {shown} of {seen} + {in_flight} - {missing}");
        };
        let of = |counts: &BTreeMap<String, u128>, reason: &str| counts.get(reason).copied().unwrap_or(0);
        let served = self.served.len() as u128;
        between("requests", shown.requests, self.requests());
        between("verified", shown.verified, served);
        for operation in ["verify", "settle"] {
            let calls = [("operation", operation), ("outcome", "success")];
            between(operation, sum(page, "facilitator_request_duration_seconds_count", &calls), served);
        }
        for reason in FailureReason::ALL.iter().map(|reason| reason.as_str()) {
            between(reason, of(&shown.failed, reason), of(&self.failed, reason));
        }
        for reason in BlockedReason::ALL.iter().map(|reason| reason.as_str()) {
            let shown = sum(page, "blocked_requests_total", &[("reason", reason)]);
            between(reason, shown, of(&self.blocked, reason));
        }
        for (state, seen) in ["settled", "in_flight"].into_iter().zip(self.replayed) {
            between(state, of(&shown.replayed, state), seen);
        }
        // The plugin outlived the companion.
        assert_eq!(shown.required, self.required);
        for reason in [FailureReason::PaymentInvalid, FailureReason::InvalidPaymentHeader] {
            assert_eq!(of(&shown.failed, reason.as_str()), of(&self.failed, reason.as_str()), "{reason:?}");
        }
        assert_eq!((shown.charged, shown.amount, shown.unresolved), (charged, charged * 1000, 0));
        between("charged", charged, served);
        assert_eq!(sum(page, "reports_dropped_total", &[]), 0);
    }

    fn requests(&self) -> u128 {
        self.required + self.served.len() as u128 + self.failed.values().sum::<u128>()
    }
}

fn nonce_of(payment: &Value) -> String {
    payment["payload"]["authorization"]["nonce"].as_str().unwrap().to_owned()
}

/// The metrics when so many requests are counted and nothing is under way any more, with the number of payments that the
/// facilitator settled, each once.
async fn final_page(stack: &Stack, served: &[String], requests: u128) -> (Scrape, u128) {
    let facilitator = DevFacilitator::of(stack);
    let deadline = Instant::now() + SETTLED;
    loop {
        stack.ready().await.unwrap();
        let settled = facilitator.settled_payments().await;
        let nonces: BTreeSet<_> =
            settled.iter().map(|payment| payment["nonce"].as_str().unwrap().to_owned()).collect();
        assert_eq!(nonces.len(), settled.len(), "a payment was settled twice");
        assert!(served.iter().all(|nonce| nonces.contains(nonce)), "something was served unpaid");
        let (page, charged) = (stack.metrics().await.unwrap(), nonces.len() as u128);
        let shown = Tally::of(&page, "goods");
        let is_final = shown.requests >= requests && shown.charged == charged && shown.unresolved == 0;
        if is_final || Instant::now() > deadline {
            return (page, charged);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_of_20_000_requests_are_exact_but_for_a_second_of_a_gateway_that_is_killed() {
    let mut stack = Stack::start(options(Shell::Traefik)).await.unwrap();
    let terms = stack.challenge("/goods/a").await.unwrap()["accepts"][0].take();
    let watcher = Watcher::start(stack.companion_url(), &["goods"]);
    let started = Instant::now();
    let load = Load::start(&stack, &terms, REQUESTS);
    load.reach(REQUESTS / 2).await;
    let reported = load.made.load(Ordering::Relaxed);
    tokio::time::sleep(REPORTED).await;
    stack.kill_part(Part::Companion);
    let missing = u128::from(load.made.load(Ordering::Relaxed) - reported + BUYERS);
    stack.start_part(Part::Companion).unwrap();
    let mut seen = load.finish().await;
    println!("{REQUESTS} requests in {:?}: {} served, {:?}", started.elapsed(), seen.served.len(), {
        let (failed, blocked, unanswered) = (&seen.failed, &seen.blocked, seen.unanswered);
        (failed, blocked, unanswered)
    });
    // The challenge of the beginning.
    seen.required += 1;
    assert!(seen.served.len() > 1_500 && seen.unanswered > 0, "{} {}", seen.served.len(), seen.unanswered);
    let (page, charged) = final_page(&stack, &seen.served, seen.requests() - missing).await;
    seen.assert_covered(&page, charged, missing);

    nothing_reported_is_lost(&mut stack, &terms, &page, charged).await;
    watcher.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_alone_that_is_killed_loses_no_count_it_has_reported() {
    let mut stack = Stack::start(options(Shell::Gateway)).await.unwrap();
    let terms = stack.challenge("/goods/a").await.unwrap()["accepts"][0].take();
    let (page, charged) = final_page(&stack, &[], 1).await;
    nothing_reported_is_lost(&mut stack, &terms, &page, charged).await;
}

/// With nothing in flight everything counts.
async fn nothing_reported_is_lost(stack: &mut Stack, terms: &Value, before: &Scrape, charged: u128) {
    let seen = Load::start(stack, terms, QUIET).finish().await;
    tokio::time::sleep(REPORTED).await;
    stack.kill_part(Part::Companion);
    stack.start_part(Part::Companion).unwrap();
    assert_eq!((seen.unanswered, seen.blocked.len()), (0, 0));
    let (before, sold) = (Tally::of(before, "goods"), seen.served.len() as u128);
    let all = before.requests + seen.requests();
    let (page, charged_after) = final_page(stack, &seen.served, all).await;
    let after = Tally::of(&page, "goods");
    let grown = |of: fn(&Tally) -> u128| of(&after) - of(&before);
    assert_eq!((charged_after - charged, grown(|of| of.charged)), (sold, sold));
    assert_eq!((grown(|of| of.verified), grown(|of| of.required)), (sold, seen.required));
    assert_eq!(grown(|of| of.requests), seen.requests());
    for (reason, count) in &seen.failed {
        let before = before.failed.get(reason).copied().unwrap_or(0);
        assert_eq!(after.failed[reason] - before, *count, "{reason}");
    }
    assert_eq!(grown(|of| of.failed.values().sum()), seen.failed.values().sum());
    assert_eq!(grown(|of| of.replayed.values().sum()), seen.replayed.iter().sum());
    assert!(sold > 30 && seen.failed.len() == 3, "{seen:?}");
}
