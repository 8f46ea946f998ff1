//! The relay between proxies of no particular kind and a development facilitator.

mod field;
mod life;
mod lines;
mod lying;
mod money;
mod reconciling;
mod trouble;
mod twins;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::Request;
use farebox_core::metrics::{MetricSeries, TupleCounter, tuple_text};
use farebox_core::payment::{End, Leases};
use farebox_core::protocol::{
    PaymentCall, RELAY_HOLDER, RELAY_KNOWN, RELAY_OFFER, RELAY_PROVEN, RELAY_PROXY, RELAY_ROUTE,
};
use farebox_core::terms::Tuple;
use farebox_testkit::facilitator::{DevFacilitator, payment_call};
use serde_json::{Value, json};
use tower::ServiceExt;

use farebox_core::payment::PaymentKey;

use super::*;
use crate::clock::{unix_millis, unix_seconds};
use crate::facilitator::Credentials;
use crate::ledger::{Clock, LedgerOptions};
use crate::rules::Active;
use crate::serve::Shared;
use crate::testing::{Database, pricing, tuple};

/// The wallet of [`pricing`].
pub(super) const SHOP: &str = "0x1111111111111111111111111111111111111111";
/// What the dear offer costs.
const DEAR: u64 = 500_000;
/// Payments of one chain that may wait for facilitators.
const MOST: usize = 32;

pub(super) const PATIENT: Deadlines =
    Deadlines { verify: Duration::from_secs(5), settle: Duration::from_secs(5) };
/// Of the ledgers of tests: a settle call is nobody's after two seconds.
pub(super) const LEASES: Leases = Leases { hold_ms: 600_000, settle_ms: 2_000 };

/// A relay between proxies and a development facilitator.
pub(super) struct Stage {
    pub(super) relay: Relay,
    pub(super) dev: DevFacilitator,
    over: mpsc::Receiver<()>,
    database: Database,
    /// What the ledger's clock shows, Unix milliseconds.
    clock: Arc<AtomicU64>,
}

impl Stage {
    pub(super) async fn open() -> Self {
        Self::on(Database::sqlite().await, PATIENT).await
    }

    pub(super) async fn on(database: Database, deadlines: Deadlines) -> Self {
        let dev = DevFacilitator::start().await;
        let clock = Arc::new(AtomicU64::new(unix_millis()));
        let (relay, over) = relay(&dev, &database, &clock, deadlines).await;
        Self { relay, dev, over, database, clock }
    }

    /// The companion dies and another takes its place, with the same ledger.
    async fn restart(self) -> Self {
        let Self { relay: old, dev, over, database, clock } = self;
        drop(over);
        old.ledger.close().await;
        let (relay, over) = relay(&dev, &database, &clock, old.deadlines).await;
        Self { relay, dev, over, database, clock }
    }

    /// Another companion on the same ledger.
    async fn second(&self) -> Relay {
        relay(&self.dev, &self.database, &self.clock, self.relay.deadlines).await.0
    }

    /// Lets time go by for the ledger.
    fn pass(&self, time: Duration) {
        self.clock.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(super) async fn verify(&self, holder: u8, body: &Value) -> RelayReply {
        ask(&self.relay, "/verify", &By::holder(holder), body).await
    }

    pub(super) async fn settle(&self, holder: u8, body: &Value) -> RelayReply {
        ask(&self.relay, "/settle", &By::holder(holder), body).await
    }

    async fn over(&self, holder: u8, end: End, body: &Value) {
        assert_eq!(over(&self.relay, holder, end, body).await, 204);
    }

    /// Whether the ledger has a record of a payment. Asks in a way that changes none.
    pub(super) async fn has(&self, body: &Value) -> bool {
        let by = By { known: true, route: "/nowhere", ..By::holder(0xee) };
        !matches!(ask(&self.relay, "/verify", &by, body).await, RelayReply::New { .. })
    }

    async fn counted(&self, counter: TupleCounter) -> u64 {
        let series = |known: &MetricSeries| matches!(known, MetricSeries::Tuple(_, of) if *of == counter);
        self.sum(series).await
    }

    /// The same as soon as no other request is at work on it: a charge nobody hears of is given back after it is on
    /// disk.
    async fn verify_when_free(&self, holder: u8, call: &Value) -> RelayReply {
        loop {
            match self.verify(holder, call).await {
                RelayReply::InFlight => tokio::time::sleep(Duration::from_millis(25)).await,
                reply => return reply,
            }
        }
    }

    async fn charged(&self) -> u64 {
        self.sum(|known| matches!(known, MetricSeries::Charged(..))).await
    }

    async fn sum(&self, of: impl Fn(&MetricSeries) -> bool) -> u64 {
        let counters = self.relay.ledger.counters().await.unwrap();
        counters.into_iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// Charges by the books and by the facilitator.
    async fn charges(&self) -> (u64, usize) {
        (self.charged().await, self.dev.settled_payments().await.len())
    }

    /// How often a facilitator was asked to settle.
    pub(super) async fn settle_calls(&self) -> u64 {
        self.dev.calls("settle").await
    }

    /// Reconciles until `holds`.
    pub(super) async fn reconcile_until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let asking = tokio::spawn(reconcile(self.relay.clone()));
        for _ in 0..400 {
            if holds(self).await {
                asking.abort();
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("did not come true: {what}");
    }
}

async fn relay(
    dev: &DevFacilitator,
    database: &Database,
    clock: &Arc<AtomicU64>,
    deadlines: Deadlines,
) -> (Relay, mpsc::Receiver<()>) {
    let clock = Clock::Set(clock.clone());
    relay_of(dev.url(), Facilitators::default(), &database.url, clock, deadlines).await
}

/// A relay whose rules name the facilitator at `url`.
pub(super) async fn relay_of(
    url: &str,
    facilitators: Facilitators,
    ledger: &str,
    clock: Clock,
    deadlines: Deadlines,
) -> (Relay, mpsc::Receiver<()>) {
    let options = LedgerOptions { leases: LEASES, clock, ..LedgerOptions::default() };
    let ledger = Ledger::open(ledger, "c1", options).await.unwrap();
    let client = FacilitatorClient::new(Credentials::new(facilitators.credentials.clone())).unwrap();
    let parts = Shared::new("pricing.yaml".into()).for_relay();
    let (relay, over) = Relay::new(ledger, client, parts, deadlines, facilitators, MOST);
    let dear = "- pattern: /services/dear/*\n  price: \"0.5\"\n  offerNamespace: ns\n  offerName: dear\n";
    publish(&relay, 1, &[&pricing(url, &["a", "b"]), dear].concat());
    (relay, over)
}

/// Why a companion with this relay is not ready.
pub(super) fn not_ready(relay: &Relay) -> Option<String> {
    let RelayParts { rules, facilitators, ledger } = relay.state.clone();
    Shared { rules, facilitators, ledger, ..Shared::new("pricing.yaml".into()) }.lock().not_ready()
}

/// Puts rules in force.
fn publish(relay: &Relay, generation: u64, pricing: &str) {
    let snapshot = Arc::new(farebox_pricing::load(pricing).snapshot.unwrap());
    let series = snapshot.tuples.clone();
    let hash = String::new();
    let active = Active { generation, hash, snapshot, applied_at: unix_seconds() };
    relay.state.rules.lock().publish(active, &series);
}

/// Who asks, and for what.
#[derive(Debug, Clone)]
pub(super) struct By {
    pub(super) holder: Option<String>,
    pub(super) offer: Tuple,
    pub(super) route: &'static str,
    pub(super) known: bool,
    pub(super) proven: bool,
}

impl By {
    /// A request for `/services/a/*`.
    pub(super) fn holder(holder: u8) -> Self {
        let holder = Some(Holder([holder; 16]).to_string());
        Self { holder, offer: tuple("ns", "a", 3), route: "/services/a/*", known: false, proven: true }
    }

    /// The same for the dear offer.
    fn dear(holder: u8) -> Self {
        Self { offer: tuple("ns", "dear", 0), route: "/services/dear/*", ..Self::holder(holder) }
    }
}

pub(super) async fn ask(relay: &Relay, path: &str, by: &By, body: &Value) -> RelayReply {
    let By { holder, offer, route, known, proven } = by;
    let mut request = Request::post(path)
        .header(RELAY_OFFER, tuple_text(offer))
        .header(RELAY_ROUTE, *route)
        .header(RELAY_PROXY, "e1");
    if let Some(holder) = holder {
        request = request.header(RELAY_HOLDER, holder);
    }
    for (name, _) in [(RELAY_KNOWN, known), (RELAY_PROVEN, proven)].iter().filter(|(_, set)| **set) {
        request = request.header(*name, "1");
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = relay.clone().router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), MAX_BODY).await.unwrap();
    let reply = RelayReply::read(&bytes).unwrap();
    assert_eq!(reply.status(), status);
    reply
}

/// The status of news about the end of a request with a payment.
async fn over(relay: &Relay, holder: u8, end: End, body: &Value) -> u16 {
    let mut line = Vec::new();
    Ending { key: key_of(body), holder: Holder([holder; 16]), end }.write(&mut line);
    let request = Request::post("/over").body(Body::from(line)).unwrap();
    relay.clone().router().oneshot(request).await.unwrap().status().as_u16()
}

pub(super) fn key_of(body: &Value) -> PaymentKey {
    let call = PaymentCall::read(body.to_string().as_bytes()).unwrap();
    PaymentKey::of(&call.payment, &call.option).unwrap()
}

pub(super) fn payment(nonce: u8) -> Value {
    payment_call(1000, nonce, SHOP)
}

/// The same payment with a signature of nobody's.
fn junk(body: &Value) -> Value {
    let mut body = body.clone();
    body["paymentPayload"]["payload"]["signature"] = json!(format!("0x{}", "ab".repeat(70)));
    body
}

fn redeems(reply: &RelayReply) -> bool {
    matches!(reply, RelayReply::Redeem { .. })
}

/// Whether the buyer gets the answer.
fn serves(reply: &RelayReply) -> bool {
    redeems(reply) || is_settled(reply)
}

fn is_settled(reply: &RelayReply) -> bool {
    matches!(reply, RelayReply::Settled { .. })
}

fn is_open(reply: &RelayReply) -> bool {
    matches!(reply, RelayReply::Open { .. })
}

fn refused(reason: &str) -> RelayReply {
    RelayReply::Refused { reason: reason.to_owned(), detail: None }
}
