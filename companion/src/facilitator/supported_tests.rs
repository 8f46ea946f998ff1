use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const KINDS: &str = r#"{"kinds":[
    {"x402Version":2,"scheme":"exact","network":"eip155:84532"},
    {"x402Version":1,"scheme":"exact","network":"base-sepolia","extra":{"x":1}},
    {"x402Version":1,"scheme":"exact","network":"solana"},
    {"scheme":"exact"},
    7
]}"#;

fn client() -> FacilitatorClient {
    FacilitatorClient::new(crate::facilitator::Credentials::default()).unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn fetch_from(app: Router) -> Result<Supported, SupportedError> {
    let address = serve(app).await;
    fetch(&client(), &format!("http://{address}")).await
}

fn redirect(status: u16, to: &'static str) -> (StatusCode, [(&'static str, &'static str); 1]) {
    (StatusCode::from_u16(status).unwrap(), [("location", to)])
}

#[tokio::test]
async fn kinds_are_read_and_unreadable_ones_left_out() {
    let supported = fetch_from(Router::new().route("/supported", get(|| async { KINDS }))).await.unwrap();
    assert_eq!(supported.kinds.len(), 3);
    assert_eq!(supported.v1_networks(), BTreeSet::from(["eip155:84532".to_owned()]));
}

#[tokio::test]
async fn replies_without_kinds_and_errors_say_what_was_wrong() {
    for (reply, expected) in [
        (StatusCode::OK, "{\"kinds\":[]}"),
        (StatusCode::OK, "{}"),
        (StatusCode::OK, "<html>"),
        (StatusCode::BAD_GATEWAY, KINDS),
        (StatusCode::FOUND, KINDS),
    ]
    .map(|(status, body)| ((status, body), if status == StatusCode::OK { "kinds" } else { "answered" }))
    {
        let error = fetch_from(Router::new().route("/supported", get(move || async move { reply }))).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{reply:?}: {error}");
    }
}

#[tokio::test]
async fn redirects_within_the_origin_are_followed_three_times() {
    let app = Router::new()
        .route("/supported", get(|| async { redirect(308, "/a/supported") }))
        .route("/a/supported", get(|| async { redirect(307, "/b/supported") }))
        .route("/b/supported", get(|| async { redirect(308, "/c/supported") }))
        .route("/c/supported", get(|| async { KINDS }));
    assert_eq!(fetch_from(app).await.unwrap().kinds.len(), 3);
    let circle = Router::new().route("/supported", get(|| async { redirect(308, "/supported") }));
    let error = fetch_from(circle).await.unwrap_err().to_string();
    assert!(error.contains("redirects more than 3 times"), "{error}");
}

#[tokio::test]
async fn a_facilitator_that_wants_a_credential_is_shown_it_or_says_what_to_set() {
    let app = Router::new().route(
        "/supported",
        get(|headers: HeaderMap| async move {
            let known = headers.get("authorization").is_some_and(|shown| shown == "Bearer t");
            if known { (StatusCode::OK, KINDS) } else { (StatusCode::FORBIDDEN, "") }
        }),
    );
    let url = format!("http://{}", serve(app).await);
    let error = fetch(&client(), &url).await.unwrap_err().to_string();
    let advice = format!("it wants a credential; set facilitator.credentials for {url}");
    assert_eq!(error, format!("{url}/supported answered 403 Forbidden: {advice}"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "t").unwrap();
    let credential = crate::settings::Credential::Bearer(file);
    let credentials = crate::facilitator::Credentials::new([(url.clone(), credential)].into());
    let client = FacilitatorClient::new(credentials).unwrap();
    assert_eq!(fetch(&client, &url).await.unwrap().kinds.len(), 3);
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_as_long_as_it_asks() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let app = Router::new().route(
        "/supported",
        get(move || async move {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, "0".parse().unwrap());
            let limited = counted.fetch_add(1, Ordering::Relaxed) < 2;
            (if limited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK }, headers, KINDS)
        }),
    );
    assert_eq!(fetch_from(app).await.unwrap().kinds.len(), 3);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_facilitator_that_is_away_is_named_with_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = fetch(&client(), &format!("http://{address}")).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("http://{address}/supported cannot be reached")), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn an_endless_reply_is_not_read_to_the_end() {
    let app = Router::new().route("/supported", get(|| async { vec![b' '; MAX_REPLY + 1] }));
    let error = fetch_from(app).await.unwrap_err().to_string();
    assert!(error.contains("more than"), "{error}");
}
