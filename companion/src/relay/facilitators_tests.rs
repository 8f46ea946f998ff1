//! Several facilitators, and what they are shown.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use farebox_core::evm::chain_by_name;
use farebox_testkit::facilitator::DevFacilitator;
use serde_json::{Value, json};

use super::tests::{By, PATIENT, not_ready, payment, relay_of};
use super::*;
use crate::clock::{unix_millis, unix_seconds};
use crate::facilitator::FacilitatorState;
use crate::ledger::{Clock, Entry, Filter};
use crate::settings::Credential;
use crate::testing::eventually;

/// A relay with two facilitators: the rules name the first, the second is its fall-back.
struct Pair {
    relay: Relay,
    first: DevFacilitator,
    second: DevFacilitator,
    folder: tempfile::TempDir,
    clock: Arc<AtomicU64>,
}

async fn ask(relay: &Relay, path: &str, body: &Value) -> RelayReply {
    super::tests::ask(relay, path, &By::holder(1), body).await
}

fn is_settled(reply: &RelayReply) -> bool {
    matches!(reply, RelayReply::Settled { .. })
}

fn is_open(reply: &RelayReply) -> bool {
    matches!(reply, RelayReply::Open { .. })
}

async fn shop(url: &str, facilitators: Facilitators, folder: &Path, deadlines: Deadlines) -> Relay {
    let ledger = Ledger::file_url(&folder.join("ledger.db"));
    relay_of(url, facilitators, &ledger, Clock::Own, deadlines).await.0
}

async fn entries(relay: &Relay) -> Vec<Entry> {
    relay.ledger.list(&Filter::default(), 10).await.unwrap()
}

fn fallback(to: &str) -> Facilitators {
    Facilitators { fallbacks: vec![to.to_owned()], ..Facilitators::default() }
}

async fn operations(dev: &DevFacilitator) -> Vec<String> {
    let record = dev.record().await;
    let calls = record["calls"].as_array().unwrap();
    calls.iter().map(|call| call["operation"].as_str().unwrap().to_owned()).collect()
}

impl Pair {
    async fn open(deadlines: Deadlines) -> Self {
        let (first, second) = (DevFacilitator::start().await, DevFacilitator::start().await);
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(unix_millis())));
        let ledger = Ledger::file_url(&folder.path().join("ledger.db"));
        let facilitators = fallback(second.url());
        let (relay, _) =
            relay_of(first.url(), facilitators, &ledger, Clock::Set(clock.clone()), deadlines).await;
        Self { relay, first, second, folder, clock }
    }

    async fn ask(&self, path: &str, body: &Value) -> RelayReply {
        ask(&self.relay, path, body).await
    }

    /// The payment in the ledger.
    async fn entry(&self) -> Entry {
        entries(&self.relay).await.remove(0)
    }

    /// Reconciles, while time goes by, until `holds`.
    async fn reconcile_until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let asking = tokio::spawn(reconcile(self.relay.clone()));
        for _ in 0..400 {
            if holds(self).await {
                asking.abort();
                return;
            }
            self.clock.fetch_add(500, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("did not come true: {what}");
    }
}

#[tokio::test]
async fn a_chain_whose_facilitators_are_not_known_yet_is_closed_until_one_is() {
    let Pair { relay, first, second, .. } = &Pair::open(PATIENT).await;
    let known = |dev: &DevFacilitator, kinds: Option<&str>| FacilitatorState {
        url: dev.url().to_owned(),
        networks: vec!["eip155:84532".into()],
        kinds: kinds.map(|kind| vec![kind.to_owned()]),
        ..FacilitatorState::default()
    };
    let all = vec![known(first, None), known(second, None)];
    relay.state.facilitators.lock().are(all, Vec::new());
    assert_eq!(ask(relay, "/verify", &payment(1)).await, RelayReply::Unreachable);
    assert!(operations(first).await.is_empty() && operations(second).await.is_empty());
    let all = vec![known(first, None), known(second, Some("v2 exact eip155:84532"))];
    relay.state.facilitators.lock().are(all, Vec::new());
    assert_eq!(ask(relay, "/verify", &payment(1)).await, RelayReply::Valid);
}

#[tokio::test]
async fn where_the_first_gives_no_verdict_the_next_is_asked_and_settles_what_it_vouched_for() {
    let modes = [
        "http_500",
        "http_503",
        "http_429",
        "html_200",
        "garbage",
        "reset",
        "hang",
        "invalid:unexpected_verify_error",
    ];
    for (mode, nonce) in modes.iter().zip(1..) {
        let pair = Pair::open(Deadlines { verify: Duration::from_secs(2), ..PATIENT }).await;
        pair.first.order(&json!({ "verify": mode })).await;
        assert_eq!(pair.ask("/verify", &payment(nonce)).await, RelayReply::Valid, "{mode}");
        assert!(is_settled(&pair.ask("/settle", &payment(nonce)).await), "{mode}");
        assert_eq!(operations(&pair.first).await, ["verify"], "{mode}");
        assert_eq!(operations(&pair.second).await, ["verify", "settle"], "{mode}");
        assert_eq!(pair.entry().await.facilitator.as_deref(), Some(pair.second.url()), "{mode}");
    }
}

#[tokio::test]
async fn a_facilitator_nobody_can_connect_to_is_passed_over() {
    let (second, folder) = (DevFacilitator::start().await, tempfile::tempdir().unwrap());
    let relay = shop("http://127.0.0.1:1", fallback(second.url()), folder.path(), PATIENT).await;
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, RelayReply::Valid);
    assert!(is_settled(&ask(&relay, "/settle", &payment(1)).await));
    assert_eq!(second.settled_payments().await.len(), 1);
}

#[tokio::test]
async fn a_verdict_is_final_whoever_might_say_otherwise() {
    let pair = Pair::open(PATIENT).await;
    pair.first.fail("verify", "invalid:insufficient_funds").await;
    let reason = "insufficient_funds".to_owned();
    let invalid = RelayReply::Invalid { reason, detail: None };
    assert_eq!(pair.ask("/verify", &payment(1)).await, invalid);
    assert_eq!(operations(&pair.second).await, [""; 0]);
}

#[tokio::test]
async fn all_share_the_one_deadline_of_a_verification() {
    let pair = Pair::open(Deadlines { verify: Duration::from_millis(600), ..PATIENT }).await;
    pair.first.fail("verify", "hang").await;
    pair.second.fail("verify", "hang").await;
    let started = Instant::now();
    let reply = pair.ask("/verify", &payment(1)).await;
    let took = started.elapsed();
    assert_eq!(reply, RelayReply::Unreachable);
    assert!(took >= Duration::from_millis(590) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(operations(&pair.first).await, ["verify"]);
    assert_eq!(operations(&pair.second).await, ["verify"]);
    assert_eq!(entries(&pair.relay).await, [], "nothing is reserved");
}

#[tokio::test]
async fn without_a_verdict_the_last_facilitator_is_quoted() {
    let pair = Pair::open(PATIENT).await;
    for (mode, reply) in [
        ("http_503", RelayReply::Busy),
        ("http_429", RelayReply::Busy),
        ("http_500", RelayReply::NoVerdict),
        ("garbage", RelayReply::NoVerdict),
        ("reset", RelayReply::Unreachable),
    ] {
        pair.first.fail("verify", "http_500").await;
        pair.second.order(&json!({ "verify": mode })).await;
        assert_eq!(pair.ask("/verify", &payment(1)).await, reply, "{mode}");
        assert_eq!(entries(&pair.relay).await, [], "{mode}");
    }
}

#[tokio::test]
async fn once_a_settle_call_may_have_arrived_nobody_else_is_asked_to_settle() {
    let pair = Pair::open(Deadlines { settle: Duration::from_millis(300), ..PATIENT }).await;
    pair.ask("/verify", &payment(1)).await;
    pair.first.fail("settle", "hang").await;
    assert!(is_open(&pair.ask("/settle", &payment(1)).await));
    assert_eq!(pair.entry().await.state, "unknown");
    // The first stays away: for the reconciliation, for the buyer who comes back, and for the next life of a
    // companion whose settings name only the second.
    pair.first.order(&json!({ "verify": "http_503", "settle": "http_503" })).await;
    let before = operations(&pair.first).await.len();
    let asked_again = async |pair: &Pair| operations(&pair.first).await.len() > before;
    pair.reconcile_until("asked again", asked_again).await;
    pair.reconcile_until("unknown again", async |pair| pair.entry().await.state == "unknown").await;
    assert!(!is_settled(&pair.ask("/verify", &payment(1)).await));
    pair.relay.ledger.close().await;
    let Pair { first, second, folder, clock, .. } = pair;
    let ledger = Ledger::file_url(&folder.path().join("ledger.db"));
    let alone = Facilitators::default();
    let (relay, _) = relay_of(second.url(), alone, &ledger, Clock::Set(clock.clone()), PATIENT).await;
    let pair = Pair { relay, first, second, folder, clock };
    assert_eq!(pair.entry().await.facilitator.as_deref(), Some(pair.first.url()));
    pair.first.fail("settle", "none").await;
    pair.reconcile_until("settled", async |pair| pair.entry().await.state == "owed").await;
    assert_eq!((pair.first.settled_payments().await.len(), operations(&pair.second).await), (1, vec![]));
}

#[tokio::test]
async fn the_one_that_vouched_settles_though_the_first_is_back() {
    let pair = Pair::open(Deadlines { settle: Duration::from_millis(300), ..PATIENT }).await;
    pair.first.fail_next("verify", "http_503", 1).await;
    pair.ask("/verify", &payment(1)).await;
    pair.second.fail_next("settle", "hang", 1).await;
    assert!(is_open(&pair.ask("/settle", &payment(1)).await));
    pair.reconcile_until("settled", async |pair| pair.entry().await.state == "owed").await;
    assert_eq!(operations(&pair.first).await, ["verify"]);
    assert_eq!(pair.second.settled_payments().await.len(), 1);
}

#[tokio::test]
async fn a_payment_tried_again_after_a_refusal_is_settled_by_who_vouches_then() {
    let pair = Pair::open(PATIENT).await;
    pair.ask("/verify", &payment(1)).await;
    let refusal = json!({ "settle": "invalid:insufficient_funds", "count": 1, "verify": "http_503" });
    pair.first.order(&refusal).await;
    assert!(matches!(pair.ask("/settle", &payment(1)).await, RelayReply::Refused { .. }));
    assert_eq!(pair.ask("/verify", &payment(1)).await, RelayReply::Valid);
    assert!(is_settled(&pair.ask("/settle", &payment(1)).await));
    assert_eq!(
        (pair.first.settled_payments().await.len(), pair.second.settled_payments().await.len()),
        (0, 1)
    );
}

#[tokio::test]
async fn a_chain_with_its_own_facilitators_leaves_the_default_one_alone() {
    let (default, own) = (DevFacilitator::start().await, DevFacilitator::start().await);
    let folder = tempfile::tempdir().unwrap();
    let chains = [(chain_by_name("base-sepolia").unwrap(), vec![own.url().to_owned()])].into();
    let facilitators = Facilitators { chains, ..fallback("http://127.0.0.1:1") };
    let relay = shop(default.url(), facilitators, folder.path(), PATIENT).await;
    ask(&relay, "/verify", &payment(1)).await;
    ask(&relay, "/settle", &payment(1)).await;
    assert_eq!((operations(&default).await, own.settled_payments().await.len()), (vec![], 1));
}

#[tokio::test]
async fn one_known_not_to_take_the_kind_is_asked_only_if_no_other_takes_it() {
    let pair = Pair::open(PATIENT).await;
    let kinds = |dev: &DevFacilitator, kinds: &[&str]| FacilitatorState {
        url: dev.url().to_owned(),
        kinds: Some(kinds.iter().map(ToString::to_string).collect()),
        ..FacilitatorState::default()
    };
    let other = kinds(&pair.first, &["v1 exact base-sepolia", "v2 exact eip155:8453"]);
    pair.relay.state.facilitators.lock().all = vec![other.clone()];
    pair.ask("/verify", &payment(1)).await;
    assert_eq!((operations(&pair.first).await.len(), operations(&pair.second).await.len()), (0, 1));
    pair.relay.state.facilitators.lock().all = vec![other, kinds(&pair.second, &["v2 exact eip155:8453"])];
    pair.ask("/verify", &payment(2)).await;
    assert_eq!((operations(&pair.first).await.len(), operations(&pair.second).await.len()), (1, 1));
}

/// A facilitator that takes one bearer token and no other.
async fn guarded(token: &'static str) -> String {
    let app = Router::new().fallback(move |headers: HeaderMap| async move {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown != Some(&format!("Bearer {token}")) {
            return (StatusCode::UNAUTHORIZED, "{}").into_response();
        }
        json!({ "isValid": true, "payer": "0x0" }).to_string().into_response()
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn shop_with_token(url: &str, folder: &Path, token: &str) -> Relay {
    std::fs::write(folder.join("token"), token).unwrap();
    let credentials = [(url.to_owned(), Credential::Bearer(folder.join("token")))].into();
    let relay = shop(url, Facilitators { credentials, ..Facilitators::default() }, folder, PATIENT).await;
    let networks = vec!["eip155:84532".to_owned()];
    let kinds = Some(vec!["v2 exact eip155:84532".to_owned()]);
    relay.state.facilitators.lock().all =
        vec![FacilitatorState { url: url.to_owned(), networks, kinds, ..FacilitatorState::default() }];
    relay
}

#[tokio::test]
async fn a_refused_credential_is_told_until_the_facilitator_accepts_its_successor() {
    let (url, folder) = (guarded("new").await, tempfile::tempdir().unwrap());
    let relay = shop_with_token(&url, folder.path(), "old").await;
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, RelayReply::NoVerdict);
    let told = relay.state.facilitators.lock().credentials[&url].refused.clone().unwrap();
    let file = folder.path().join("token");
    assert_eq!(
        told,
        format!(
            "{url} answered 401: it does not accept the credential {}; replace it with one that is valid there",
            file.display()
        )
    );
    assert_eq!(entries(&relay).await, [], "nothing is held back");
    std::fs::write(&file, "new").unwrap();
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, RelayReply::Valid);
    assert_eq!(relay.state.facilitators.lock().credentials[&url].refused, None);
}

#[tokio::test]
async fn an_expired_credential_closes_the_shop_and_says_so_until_its_file_is_replaced() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let jwt = |end: u64| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(json!({ "exp": end }).to_string()));
    let (dev, folder) = (DevFacilitator::start().await, tempfile::tempdir().unwrap());
    let relay = shop_with_token(dev.url(), folder.path(), &jwt(unix_seconds() - 1)).await;
    let watching = tokio::spawn(watch_credentials(relay.clone()));
    eventually("it is not ready", || not_ready(&relay).is_some()).await;
    let reason = not_ready(&relay).unwrap();
    assert!(reason.starts_with("no payment on eip155:84532 can be verified: the credential "), "{reason}");
    assert!(reason.contains("expired at ") && reason.contains("replace it"), "{reason}");
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, RelayReply::Unreachable);
    assert_eq!(operations(&dev).await, [""; 0], "nothing is sent without a credential");

    std::fs::write(folder.path().join("token"), jwt(unix_seconds() + 60)).unwrap();
    eventually("it is ready again", || not_ready(&relay).is_none()).await;
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, RelayReply::Valid);
    watching.abort();
}

#[tokio::test]
async fn a_settlement_that_cannot_be_authorized_any_more_is_kept_and_ends_settled() {
    let (dev, folder) = (DevFacilitator::start().await, tempfile::tempdir().unwrap());
    let relay = shop_with_token(dev.url(), folder.path(), "good").await;
    ask(&relay, "/verify", &payment(1)).await;
    dev.fail_next("settle", "cut_after_headers", 1).await;
    assert!(is_open(&ask(&relay, "/settle", &payment(1)).await));
    std::fs::write(folder.path().join("token"), "").unwrap();
    // Asking fails, which says nothing about the first call.
    assert!(is_open(&ask(&relay, "/verify", &payment(1)).await));
    assert_eq!(entries(&relay).await[0].state, "unknown");
    std::fs::write(folder.path().join("token"), "good").unwrap();
    assert!(is_settled(&ask(&relay, "/verify", &payment(1)).await));
    assert_eq!((entries(&relay).await[0].state.as_str(), dev.settled_payments().await.len()), ("owed", 1));
}

#[tokio::test]
async fn one_facilitator_without_its_credential_leaves_the_shop_open_if_another_can_be_asked() {
    let (folder, gone) = (tempfile::tempdir().unwrap(), "http://127.0.0.1:1");
    let relay = shop_with_token(gone, folder.path(), "").await;
    relay.check_credentials(unix_seconds()).await;
    assert!(not_ready(&relay).unwrap().contains("is empty; write the token into it"));
    let mut other = relay.state.facilitators.lock().all[0].clone();
    other.url = "http://127.0.0.1:2".into();
    relay.state.facilitators.lock().all.push(other);
    assert_eq!(not_ready(&relay), None);
}

/// A facilitator that says the same of every call.
async fn that_says(status: StatusCode, body: &'static str) -> String {
    let app = Router::new().fallback(move || async move { (status, [("cf-ray", "ray-1")], body) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn a_request_that_the_facilitator_calls_malformed_is_told_with_its_words_and_its_id() {
    const SAYS: &str = r#"{"errorType":"invalid_request","errorMessage":"no scheme","correlationId":"c-1"}"#;
    let (url, folder) = (that_says(StatusCode::BAD_REQUEST, SAYS).await, tempfile::tempdir().unwrap());
    let relay = shop_with_token(&url, folder.path(), "good").await;
    let before = unix_seconds();
    let malformed = RelayReply::Malformed { words: "no scheme".to_owned() };
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, malformed);
    let bad = relay.state.facilitators.lock().bad_replies[&url].clone();
    assert_eq!(bad.operation, "verify");
    assert_eq!((bad.status, bad.malformed, bad.words.as_str()), (400, true, "no scheme"));
    assert_eq!(bad.correlation.as_deref(), Some("c-1"));
    assert!(bad.at >= before && bad.logged_at >= before);
    assert_eq!(entries(&relay).await, [], "nothing is held back");
}

#[tokio::test]
async fn a_settlement_that_is_called_malformed_charges_nothing_and_frees_the_payment() {
    const SAYS: &str = r#"{"errorType":"invalid_request","errorMessage":"no scheme","correlationId":"c-1"}"#;
    let app = Router::new()
        .route("/verify", post(async || json!({ "isValid": true, "payer": "0x0" }).to_string()))
        .route("/settle", post(async || (StatusCode::BAD_REQUEST, SAYS)));
    let (url, folder) = (crate::testing::serve(app).await, tempfile::tempdir().unwrap());
    let relay = shop(&url, Facilitators::default(), folder.path(), PATIENT).await;
    ask(&relay, "/verify", &payment(1)).await;
    let malformed = RelayReply::Malformed { words: "no scheme".to_owned() };
    assert_eq!(ask(&relay, "/settle", &payment(1)).await, malformed);
    assert_eq!(relay.state.facilitators.lock().bad_replies[&url].operation, "settle");
    assert_eq!(entries(&relay).await[0].state, "refused");
    assert_eq!(ask(&relay, "/verify", &payment(1)).await, RelayReply::Valid, "it can be used again");
}

#[tokio::test]
async fn any_other_reply_that_is_no_verdict_is_kept_too_and_logged_now_and_then() {
    let (url, folder) = (
        that_says(StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"away\"}").await,
        tempfile::tempdir().unwrap(),
    );
    let relay = shop_with_token(&url, folder.path(), "good").await;
    ask(&relay, "/verify", &payment(1)).await;
    let first = relay.state.facilitators.lock().bad_replies[&url].clone();
    assert_eq!((first.status, first.malformed, first.words.as_str()), (503, false, "away"));
    assert_eq!(first.correlation.as_deref(), Some("ray-1"));
    let logged = unix_seconds() - 10;
    relay.state.facilitators.lock().bad_replies.get_mut(&url).unwrap().logged_at = logged;
    ask(&relay, "/verify", &payment(2)).await;
    assert_eq!(relay.state.facilitators.lock().bad_replies[&url].logged_at, logged, "not again so soon");
}

#[tokio::test]
async fn a_verdict_is_nothing_to_tell_and_a_refused_credential_is_told_once() {
    let (dev, folder) = (DevFacilitator::start().await, tempfile::tempdir().unwrap());
    let relay = shop_with_token(dev.url(), folder.path(), "good").await;
    dev.fail("settle", "pending").await;
    for path in ["/verify", "/settle"] {
        ask(&relay, path, &payment(1)).await;
    }
    assert!(relay.state.facilitators.lock().bad_replies.is_empty());
    let url = guarded("new").await;
    let relay = shop_with_token(&url, folder.path(), "old").await;
    ask(&relay, "/verify", &payment(2)).await;
    let bad = relay.state.facilitators.lock().bad_replies[&url].clone();
    assert_eq!((bad.status, bad.logged_at), (401, 0));
}
