use std::time::Duration;

use axum::http::Request;
use farebox_core::metrics::{HostSeries, LateResult, TupleCounter, UnchargedReason, tuple_text};
use farebox_core::protocol::{RELAY_ATTEMPT, RELAY_HOLDER, RELAY_OFFER};
use farebox_core::rules;
use tower::ServiceExt;

use super::*;
use crate::aggregate::Aggregate;
use crate::facilitator::Credentials;
use crate::ledger::{Filter, PaymentKey};
use crate::state::{Active, State, unix_seconds};
use crate::testing::{Database, Dev, on_every_database, payment_call, pricing, tuple};

/// The wallet of [`pricing`].
const SHOP: &str = "0x1111111111111111111111111111111111111111";

/// A relay between nobody and a development facilitator.
struct Stage {
    relay: Relay,
    dev: Dev,
    over: mpsc::Receiver<()>,
    database: Database,
}

impl Stage {
    async fn open() -> Self {
        Self::on(Database::sqlite().await, Duration::from_secs(5)).await
    }

    async fn on(database: Database, settle: Duration) -> Self {
        let dev = Dev::start(&[]).await;
        let deadlines = Deadlines { verify: Duration::from_secs(5), settle };
        let (relay, over) = relay(&dev, &database, deadlines).await;
        Self { relay, dev, over, database }
    }

    /// The companion dies and another takes its place, with the same ledger.
    async fn restart(self) -> Self {
        let Self { relay: old, dev, over, database } = self;
        drop(over);
        old.ledger.close().await;
        let (relay, over) = relay(&dev, &database, old.deadlines).await;
        Self { relay, dev, over, database }
    }

    async fn post(&self, path: &str, holder: &str, body: &Value) -> (u16, Value) {
        ask(self.relay.clone(), path, holder, body).await
    }

    async fn counted(&self, counter: TupleCounter) -> u64 {
        let counters = self.relay.ledger.counters().await.unwrap();
        let found = counters
            .into_iter()
            .find(|(series, _)| *series == HostSeries::Tuple(tuple("ns", "a", 3), counter));
        found.map_or(0, |(_, value)| value)
    }

    async fn charged(&self) -> u64 {
        let counters = self.relay.ledger.counters().await.unwrap();
        counters
            .into_iter()
            .filter(|(series, _)| matches!(series, HostSeries::Charged(..)))
            .map(|(_, n)| n)
            .sum()
    }

    async fn state_of(&self, body: &Value) -> Option<String> {
        let authorization = &body["paymentPayload"]["payload"]["authorization"];
        let text = |value: &Value| value.as_str().unwrap().to_ascii_lowercase();
        let key = PaymentKey {
            network: "eip155:84532".into(),
            contract: text(&body["paymentRequirements"]["asset"]),
            payer: text(&authorization["from"]),
            nonce: text(&authorization["nonce"]),
        };
        self.relay.ledger.find(&key).await.unwrap().map(|entry| entry.state)
    }

    /// Waits for a state in the ledger.
    async fn until(&self, body: &Value, state: &str) {
        for _ in 0..200 {
            if self.state_of(body).await.as_deref() == Some(state) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{:?} never became {state}", self.state_of(body).await);
    }
}

async fn relay(dev: &Dev, database: &Database, deadlines: Deadlines) -> (Relay, mpsc::Receiver<()>) {
    let url = format!("http://{}", dev.address);
    relay_of(&url, Facilitators::default(), &database.url, deadlines).await
}

/// A relay whose rules name the facilitator at `url`.
pub(super) async fn relay_of(
    url: &str,
    facilitators: Facilitators,
    ledger: &str,
    deadlines: Deadlines,
) -> (Relay, mpsc::Receiver<()>) {
    let snapshot = rules::load(&pricing(url, &["a", "b"])).snapshot.unwrap();
    let mut state = State::new("pricing.yaml".into(), Vec::new(), Aggregate::default());
    state.active = Some(Active {
        generation: 1,
        hash: String::new(),
        snapshot: Arc::new(snapshot),
        applied_at: unix_seconds(),
        swept: 0,
    });
    let ledger = Ledger::open(ledger, "c1").await.unwrap();
    let client = FacilitatorClient::new(Credentials::new(facilitators.credentials.clone())).unwrap();
    Relay::new(ledger, client, Shared::new(state), deadlines, facilitators)
}

/// The status of a release of one use of a payment.
async fn release(stage: &Stage, holder: &str, attempt: &str, body: &Value) -> u16 {
    let request = Request::post("/release")
        .header(RELAY_HOLDER, holder)
        .header(RELAY_ATTEMPT, attempt)
        .body(Body::from(body.to_string()))
        .unwrap();
    stage.relay.clone().router().oneshot(request).await.unwrap().status().as_u16()
}

pub(super) async fn ask(relay: Relay, path: &str, holder: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(path)
        .header(RELAY_HOLDER, holder)
        .header(RELAY_OFFER, tuple_text(&tuple("ns", "a", 3)))
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = relay.router().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), MAX_BODY).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

pub(super) fn payment(nonce: u8) -> Value {
    payment_call(1000, nonce, SHOP)
}

on_every_database! {
    a_payment_in_use_or_used_at_one_proxy_is_refused_at_another,
    a_payment_whose_proxy_hangs_up_while_it_is_verified_is_free_for_another,
    a_settlement_whose_client_has_left_its_proxy_buys_an_answer_at_another,
    a_settlement_is_finished_when_nobody_waits_and_buys_one_answer_later,
    a_facilitator_that_settles_and_does_not_say_so_is_asked_until_the_outcome_is_known,
    what_a_companion_was_settling_when_it_died_is_resolved_by_its_next_life,
}

#[tokio::test]
async fn a_payment_is_verified_settled_and_counted_under_the_offer_the_proxy_names() {
    let stage = Stage::open().await;
    let (status, reply) = stage.post("/verify", "e1", &payment(1)).await;
    assert_eq!((status, &reply["isValid"]), (200, &json!(true)));
    assert_eq!(stage.state_of(&payment(1)).await.as_deref(), Some("verified"));
    let (status, receipt) = stage.post("/settle", "e1", &payment(1)).await;
    assert_eq!((status, &receipt["success"]), (200, &json!(true)));
    assert_eq!(stage.dev.settled().await, 1);
    let entry = stage.relay.ledger.list(&Filter::default(), 10).await.unwrap().remove(0);
    assert_eq!((entry.state.as_str(), entry.offer_name.as_str()), ("settled", "a"));
    assert_eq!(entry.transaction.as_deref(), receipt["transaction"].as_str());
    assert_eq!(stage.charged().await, 1);
    // The receipt can be had again; the money moves no second time.
    let (_, again) = stage.post("/settle", "e1", &payment(1)).await;
    assert_eq!(again["transaction"], receipt["transaction"]);
    assert_eq!((stage.dev.settled().await, stage.charged().await), (1, 1));
}

async fn a_payment_in_use_or_used_at_one_proxy_is_refused_at_another(database: Database) {
    let stage = Stage::on(database, Duration::from_secs(5)).await;
    stage.post("/verify", "e1", &payment(1)).await;
    let (_, reply) = stage.post("/verify", "e2", &payment(1)).await;
    assert_eq!(reply["invalidReason"], RelayRefusal::InFlight.code());
    let (_, reply) = stage.post("/settle", "e2", &payment(1)).await;
    assert_eq!(reply["errorReason"], "invalid_exact_evm_nonce_already_used");
    stage.post("/settle", "e1", &payment(1)).await;
    let (_, reply) = stage.post("/verify", "e2", &payment(1)).await;
    assert_eq!(reply["invalidReason"], RelayRefusal::Used.code());
    assert_eq!(stage.dev.settled().await, 1);
}

#[tokio::test]
async fn a_payment_one_proxy_gives_back_is_free_for_another_unless_it_is_not_its_to_give() {
    let stage = Stage::open().await;
    stage.post("/verify", "e1", &payment(1)).await;
    for (holder, attempt) in [("e2", ""), ("e1", "an earlier one")] {
        assert_eq!(release(&stage, holder, attempt, &payment(1)).await, 204);
        assert_eq!(stage.state_of(&payment(1)).await.as_deref(), Some("verified"));
    }
    assert_eq!(release(&stage, "e1", "", &payment(1)).await, 204);
    let (_, reply) = stage.post("/verify", "e2", &payment(1)).await;
    assert_eq!(reply["isValid"], true);
    stage.post("/settle", "e2", &payment(1)).await;
    assert_eq!(release(&stage, "e2", "an earlier one", &payment(1)).await, 204);
    let (_, reply) = stage.post("/verify", "e1", &payment(1)).await;
    assert_eq!(reply["invalidReason"], RelayRefusal::Used.code());
    assert_eq!(release(&stage, "e2", "", &json!({})).await, 400);
}

#[tokio::test]
async fn a_payment_the_facilitator_refuses_can_be_tried_again_anywhere() {
    let stage = Stage::open().await;
    stage.dev.fail(json!({ "verify": "invalid:insufficient_funds", "count": 1 })).await;
    let (_, reply) = stage.post("/verify", "e1", &payment(1)).await;
    assert_eq!(reply["invalidReason"], "insufficient_funds");
    assert_eq!(stage.state_of(&payment(1)).await, None);
    let (_, reply) = stage.post("/verify", "e2", &payment(1)).await;
    assert_eq!(reply["isValid"], true);
}

#[tokio::test]
async fn terms_nobody_published_are_refused_without_a_call() {
    let stage = Stage::open().await;
    for body in
        [payment_call(1000, 1, "0x2222222222222222222222222222222222222222"), payment_call(999, 1, SHOP)]
    {
        let (status, reply) = stage.post("/settle", "e1", &body).await;
        assert_eq!((status, &reply["errorReason"]), (400, &json!("invalid_payment_requirements")));
        let (status, reply) = stage.post("/verify", "e1", &body).await;
        assert_eq!((status, &reply["invalidReason"]), (400, &json!("invalid_payment_requirements")));
    }
    assert_eq!(stage.dev.settled().await, 0);
    assert_eq!(stage.relay.ledger.list(&Filter::default(), 10).await.unwrap(), []);
}

async fn a_payment_whose_proxy_hangs_up_while_it_is_verified_is_free_for_another(database: Database) {
    let stage = Stage::on(database, Duration::from_secs(5)).await;
    stage.dev.fail(json!({ "verify": "slow:400", "count": 1 })).await;
    let call = payment(1);
    let gone = tokio::time::timeout(Duration::from_millis(150), stage.post("/verify", "e1", &call)).await;
    assert!(gone.is_err(), "the proxy stops waiting");
    assert_eq!(stage.state_of(&call).await.as_deref(), Some("reserved"));
    for _ in 0..200 {
        if stage.state_of(&call).await.is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let (_, reply) = stage.post("/verify", "e2", &call).await;
    assert_eq!(reply["isValid"], true, "{reply}");
}

/// A proxy may go on with a call nobody waits for: it says so, in the middle of the call or after it.
async fn a_settlement_whose_client_has_left_its_proxy_buys_an_answer_at_another(database: Database) {
    let stage = Stage::on(database, Duration::from_secs(5)).await;
    for (nonce, in_the_middle) in [(1, true), (2, false)] {
        let call = payment(nonce);
        stage.post("/verify", "e1", &call).await;
        stage.dev.fail(json!({ "settle": "slow:400", "count": 1 })).await;
        let (relay, body) = (stage.relay.clone(), call.clone());
        let settling = tokio::spawn(async move { ask(relay, "/settle", "e1", &body).await });
        if in_the_middle {
            stage.until(&call, "settling").await;
            assert_eq!(release(&stage, "e1", "", &call).await, 204);
        }
        assert_eq!(settling.await.unwrap().1["success"], true);
        if !in_the_middle {
            assert_eq!(release(&stage, "e1", "", &call).await, 204);
        }
        let charges = u64::from(nonce);
        assert_eq!(stage.counted(TupleCounter::ResolvedLate(LateResult::Settled)).await, charges);
        let (_, reply) = stage.post("/verify", "e2", &call).await;
        assert_eq!(reply["isValid"], true, "{reply}");
        let (_, receipt) = stage.post("/settle", "e2", &call).await;
        assert_eq!(receipt["success"], true);
        let redeemed = TupleCounter::VerifiedUncharged(UnchargedReason::Redeemed);
        assert_eq!(stage.counted(redeemed).await, charges);
        let (_, reply) = stage.post("/verify", "e3", &call).await;
        assert_eq!(reply["invalidReason"], RelayRefusal::Used.code());
        assert_eq!((stage.dev.settled().await, stage.charged().await), (usize::from(nonce), charges));
    }
}

async fn a_settlement_is_finished_when_nobody_waits_and_buys_one_answer_later(database: Database) {
    let stage = Stage::on(database, Duration::from_secs(5)).await;
    stage.post("/verify", "e1", &payment(1)).await;
    stage.dev.fail(json!({ "settle": "slow:400", "count": 1 })).await;
    let call = payment(1);
    let gone = tokio::time::timeout(Duration::from_millis(150), stage.post("/settle", "e1", &call)).await;
    assert!(gone.is_err(), "the proxy stops waiting");
    stage.until(&call, "settled").await;
    assert_eq!((stage.dev.settled().await, stage.charged().await), (1, 1));
    // The buyer comes back at another proxy.
    let (_, reply) = stage.post("/verify", "e2", &call).await;
    assert_eq!(reply["isValid"], true);
    let (_, receipt) = stage.post("/settle", "e2", &call).await;
    assert_eq!(receipt["success"], true);
    let (_, reply) = stage.post("/verify", "e3", &call).await;
    assert_eq!(reply["invalidReason"], RelayRefusal::Used.code());
    assert_eq!((stage.dev.settled().await, stage.charged().await), (1, 1));
}

async fn a_facilitator_that_settles_and_does_not_say_so_is_asked_until_the_outcome_is_known(
    database: Database,
) {
    let stage = Stage::on(database, Duration::from_millis(300)).await;
    stage.post("/verify", "e1", &payment(1)).await;
    stage.dev.fail(json!({ "settle": "hang", "count": 1 })).await;
    let (status, reply) = stage.post("/settle", "e1", &payment(1)).await;
    assert_eq!((status, &reply["success"]), (502, &json!(false)));
    assert_eq!(stage.counted(TupleCounter::UnresolvedOpened).await, 1);
    let (_, refused) = stage.post("/verify", "e2", &payment(1)).await;
    assert_eq!(refused["invalidReason"], RelayRefusal::Unknown.code(), "no second charge is invited");
    let asking = tokio::spawn(reconcile(stage.relay.clone()));
    stage.until(&payment(1), "settled").await;
    asking.abort();
    assert_eq!((stage.dev.settled().await, stage.charged().await), (1, 1));
    assert_eq!(stage.counted(TupleCounter::UnresolvedClosed).await, 1);
}

async fn what_a_companion_was_settling_when_it_died_is_resolved_by_its_next_life(database: Database) {
    let stage = Stage::on(database, Duration::from_secs(5)).await;
    stage.post("/verify", "e1", &payment(1)).await;
    // It wrote down that it settles, and died before it called.
    let order = {
        let mut headers = HeaderMap::new();
        headers.insert(RELAY_HOLDER, "e1".parse().unwrap());
        Order::read(&stage.relay, &headers, payment(1).to_string().as_bytes()).unwrap()
    };
    let body = payment(1).to_string();
    stage.relay.ledger.begin_settlement(&order.claim, &body, unix_millis(), LEASE).await.unwrap();
    let stage = stage.restart().await;
    let asking = tokio::spawn(reconcile(stage.relay.clone()));
    stage.until(&payment(1), "settled").await;
    asking.abort();
    assert_eq!((stage.dev.settled().await, stage.charged().await), (1, 1));
}

#[tokio::test]
async fn a_facilitator_that_cannot_be_reached_charges_nothing_and_keeps_nothing() {
    let Stage { dev, database, .. } = Stage::open().await;
    let deadlines = Deadlines { verify: Duration::from_secs(5), settle: Duration::from_secs(5) };
    let nobody = Facilitators::default();
    let (relay, over) = relay_of("http://127.0.0.1:1", nobody, &database.url, deadlines).await;
    let stage = Stage { relay, dev, over, database };
    let (status, _) = stage.post("/verify", "e1", &payment(1)).await;
    assert_eq!(status, 504);
    assert_eq!(stage.state_of(&payment(1)).await, None);
    let (_, reply) = stage.post("/settle", "e1", &payment(1)).await;
    assert_eq!(reply["success"], false);
    assert_eq!(stage.state_of(&payment(1)).await.as_deref(), Some("refused"), "not a byte was sent");
}

#[tokio::test]
async fn a_ledger_that_fails_closes_the_gate_and_says_so() {
    let stage = Stage::open().await;
    stage.relay.ledger.close().await;
    let (_, reply) = stage.post("/verify", "e1", &payment(1)).await;
    assert_eq!(reply["invalidReason"], RelayRefusal::Unavailable.code());
    let (status, reply) = stage.post("/settle", "e1", &payment(1)).await;
    assert_eq!((status, &reply["success"]), (502, &json!(false)));
    assert_eq!(stage.dev.settled().await, 0);
    assert!(stage.relay.state.lock().not_ready().unwrap().contains("ledger"));
}

#[tokio::test]
async fn settlements_under_way_are_waited_for_at_the_end() {
    let mut stage = Stage::open().await;
    stage.dev.fail(json!({ "settle": "slow:300", "count": 1 })).await;
    let (relay, call) = (stage.relay.clone(), payment(1));
    let asked = tokio::spawn(async move { ask(relay, "/settle", "e1", &call).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ledger = stage.relay.ledger.clone();
    drop(std::mem::replace(&mut stage.relay.under_way, mpsc::channel(1).0));
    stage.over.recv().await;
    let _ = asked.await;
    assert_eq!(ledger.list(&Filter::default(), 1).await.unwrap()[0].state, "settled");
}
