//! Buyers at work, each with a fixed sequence of requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::reload::buyer::Reply;

use super::KILLED;
use super::shop::{OFFERS, Offer, Seen};

const BUYERS: u64 = 16;
/// Number of requests that may be made beyond the one for which the director waits.
const AHEAD: u64 = 250;
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause of a buyer whose proxy is unreachable.
const PAUSE: Duration = Duration::from_millis(50);

/// The work of buyers; repeated entries are more frequent.
const WORK: [Work; 20] = [
    Work::Pay,
    Work::Ask,
    Work::Pay,
    Work::Free,
    Work::Pay,
    Work::Forge,
    Work::Pay,
    Work::Replay,
    Work::Ask,
    Work::Pay,
    Work::Fail,
    Work::Pay,
    Work::Ask,
    Work::Free,
    Work::Pay,
    Work::Replay,
    Work::Pay,
    Work::Ask,
    Work::Forge,
    Work::Pay,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Of a free route.
    Free,
    /// Without a payment.
    Ask,
    Pay,
    /// With the signature of another key.
    Forge,
    /// With a payment that has bought its answer.
    Replay,
    /// Paid, from an upstream that fails.
    Fail,
}

/// Buyers at work.
pub(super) struct Load {
    buyers: Vec<JoinHandle<Result<BTreeMap<&'static str, Seen>>>>,
}

/// Decides how far the buyers go.
pub(super) struct Director {
    limit: watch::Sender<Limit>,
    made: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    requests: u64,
    late: bool,
}

struct Buyer {
    client: reqwest::Client,
    proxies: Vec<String>,
    /// splitmix64.
    random: u64,
    terms: BTreeMap<&'static str, Value>,
    /// Payments that have bought their answer, as header values.
    used: BTreeMap<&'static str, String>,
    seen: BTreeMap<&'static str, Seen>,
}

// === impl Load ===

impl Load {
    /// Sends buyers to these proxies. They make this many requests in all, once they are allowed to.
    pub(super) fn start(proxies: Vec<String>, requests: u64) -> (Self, Director) {
        let (limit, limits) = watch::channel(Limit { requests: AHEAD, late: false });
        let made = Arc::new(AtomicU64::new(0));
        let next = Arc::new(AtomicU64::new(0));
        let start = |number| {
            let buyer = Buyer::new(number, proxies.clone());
            tokio::spawn(buyer.work(limits.clone(), Arc::clone(&next), Arc::clone(&made), requests))
        };
        (Self { buyers: (0..BUYERS).map(start).collect() }, Director { limit, made })
    }

    /// The results of all buyers, by offer. Fails with the first wrong reply.
    pub(super) async fn finish(self) -> BTreeMap<&'static str, Seen> {
        let mut all: BTreeMap<&'static str, Seen> = BTreeMap::new();
        for buyer in self.buyers {
            for (offer, seen) in buyer.await.unwrap().unwrap() {
                let sum = all.entry(offer).or_default();
                sum.required += seen.required;
                sum.served += seen.served;
                sum.failed += seen.failed;
                sum.upstream_failed += seen.upstream_failed;
                sum.unanswered += seen.unanswered;
            }
        }
        all
    }
}

// === impl Director ===

impl Director {
    /// Waits until so many requests were made. A few more may be.
    pub(super) async fn reach(&self, requests: u64) {
        self.limit.send_modify(|limit| limit.requests = requests + AHEAD);
        let is_reached = async {
            while self.made.load(Ordering::Relaxed) < requests && self.limit.receiver_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_reached).await.expect("the buyers go on");
    }

    /// Allows requests for the late offer from now on.
    pub(super) fn late_offer_is_there(&self) {
        self.limit.send_modify(|limit| limit.late = true);
    }
}

// === impl Buyer ===

impl Buyer {
    fn new(number: u64, proxies: Vec<String>) -> Self {
        let client = farebox_testkit::http::client_builder().timeout(PATIENCE).build().unwrap();
        let (terms, used, seen) = Default::default();
        Self { client, proxies, random: number, terms, used, seen }
    }

    async fn work(
        mut self,
        mut limits: watch::Receiver<Limit>,
        next: Arc<AtomicU64>,
        made: Arc<AtomicU64>,
        requests: u64,
    ) -> Result<BTreeMap<&'static str, Seen>> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(self.seen);
            }
            let late = limits.wait_for(|limit| number < limit.requests).await?.late;
            let offers: Vec<Offer> = OFFERS.into_iter().filter(|offer| late || !offer.is_late).collect();
            let offer = offers[self.below(offers.len())];
            let work = WORK[self.below(WORK.len())];
            self.request(&offer, work)
                .await
                .with_context(|| format!("request {number}: {work:?} {offer:?}"))?;
            made.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    async fn request(&mut self, offer: &Offer, work: Work) -> Result<()> {
        // Without terms or a used payment yet, the buyer asks for the terms.
        let payment = match (work, self.terms.get(offer.name)) {
            (Work::Pay | Work::Fail, Some(terms)) => Some(sign(&offer.payer(), terms)?),
            (Work::Forge, Some(terms)) => Some(forge(offer, terms)?),
            (Work::Replay, _) => self.used.get(offer.name).cloned(),
            _ => None,
        };
        let path = match work {
            Work::Free => "/open/a".to_owned(),
            Work::Fail => format!("/{}/status/500", offer.name),
            _ => format!("/{}/a", offer.name),
        };
        // A payment used at one proxy is used at every other. The offers of the killed proxy are asked for
        // only there, so that its numbers can be distinguished.
        let proxy = if work == Work::Replay && payment.is_some() && offer.proxy != KILLED {
            1 - offer.proxy
        } else {
            offer.proxy
        };
        let mut request = self.client.get(format!("{}{path}", self.proxies[proxy]));
        if let Some(payment) = &payment {
            request = request.header("payment-signature", payment);
        }
        let reply = match request.send().await {
            Ok(response) => Reply::read(response).await,
            Err(error) => Err(error.into()),
        };
        let seen = self.seen.entry(offer.name).or_default();
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                ensure!(proxy == KILLED, "no answer: {error:#}");
                seen.unanswered += u128::from(work != Work::Free);
                tokio::time::sleep(PAUSE).await;
                return Ok(());
            }
        };
        if let Some(terms) = reply.terms() {
            self.terms.insert(offer.name, terms);
        }
        if offer.is_late && reply.status == 404 {
            // The push has not reached every worker.
            return Ok(());
        }
        let told = || format!("{}: {}", reply.status, String::from_utf8_lossy(&reply.body));
        match (work, payment, reply.status) {
            (Work::Free, _, 200) => {}
            (Work::Free, ..) => ensure!(reply.status == 200, told()),
            (_, None, status) => {
                ensure!(status == 402, told());
                seen.required += 1;
            }
            (Work::Pay, Some(payment), 200) => {
                ensure!(reply.is_settled(), "no receipt");
                seen.served += 1;
                self.used.insert(offer.name, payment);
            }
            (Work::Fail, Some(_), 500) => seen.upstream_failed += 1,
            // The price changed, or the companion is unreachable.
            (_, Some(_), 402 | 409 | 503) => seen.failed += 1,
            _ => anyhow::bail!(told()),
        }
        Ok(())
    }
}

fn sign(payer: &Wallet, terms: &Value) -> Result<String> {
    Ok(header_value(&payer.pay_v2(terms, Window::fresh(300))?))
}

/// Signed by another key than that of the payer it names.
fn forge(offer: &Offer, terms: &Value) -> Result<String> {
    let mut payment = Wallet::numbered(0).pay_v2(terms, Window::fresh(300))?;
    payment["payload"]["authorization"]["from"] = Value::from(offer.payer().address().to_string());
    Ok(header_value(&payment))
}
