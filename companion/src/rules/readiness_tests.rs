use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::*;
use crate::facilitator::Credentials;
use crate::testing::{eventually, fake_facilitator};

fn readiness() -> Readiness {
    Readiness::start(FacilitatorClient::new(Credentials::default()).unwrap())
}

fn set(urls: &[&str]) -> BTreeSet<String> {
    urls.iter().map(ToString::to_string).collect()
}

/// A facilitator that always fails, with a counter of its calls.
async fn failing() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route(
        "/supported",
        get(async move || {
            count.fetch_add(1, Ordering::Relaxed);
            "{}"
        }),
    );
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

#[tokio::test]
async fn every_facilitator_is_asked_and_one_that_fails_holds_up_no_other() {
    let (good, other, (bad, _)) = (fake_facilitator().await, fake_facilitator().await, failing().await);
    let readiness = readiness();
    readiness.wait(&set(&[&good, &bad, &other]), Duration::from_secs(1)).await;
    let known = readiness.known();
    assert!(known[&good].supported.is_some() && known[&other].supported.is_some());
    assert!(known[&bad].last_error.as_ref().unwrap().contains("lists no kinds"));
}

#[tokio::test]
async fn one_that_is_wanted_no_more_is_asked_no_more_and_stays_known() {
    let (good, (bad, asked)) = (fake_facilitator().await, failing().await);
    let readiness = readiness();
    readiness.want(&set(&[&good, &bad]));
    eventually("it is asked again after a failure", || asked.load(Ordering::Relaxed) > 1).await;
    assert!(readiness.want(&set(&[&good])));
    assert!(!readiness.want(&set(&[&good])), "nothing changes");
    // This is longer than the longest pause so far, and a call under way has arrived.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = asked.load(Ordering::Relaxed);
    tokio::time::sleep(FIRST_RETRY * 4).await;
    assert_eq!(asked.load(Ordering::Relaxed), before);
    assert!(readiness.known().contains_key(&bad));
    eventually("the other is known", || {
        readiness.known().get(&good).is_some_and(|of| of.supported.is_some())
    })
    .await;
}

#[tokio::test]
async fn one_that_did_not_answer_a_payment_is_asked_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let kinds = r#"{"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]}"#;
    let supported = get(async move || {
        count.fetch_add(1, Ordering::Relaxed);
        kinds
    });
    let url = crate::testing::serve(Router::new().route("/supported", supported)).await;
    let client = FacilitatorClient::new(Credentials::default()).unwrap();
    let readiness = Readiness::start(client.clone());
    readiness.wait(&set(&[&url]), Duration::from_secs(5)).await;
    tokio::time::sleep(DOUBT + Duration::from_millis(200)).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1, "it is asked for news after a minute");
    let operation = farebox_core::protocol::Operation::Verify;
    client.call("http://127.0.0.1:1", operation, b"{}", Duration::from_secs(1)).await.unwrap_err();
    eventually("it is asked again", || asked.load(Ordering::Relaxed) == 2).await;
}
