use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use super::*;
use crate::settings::Credential;

const PATIENCE: Duration = Duration::from_secs(5);

/// A server and the connections it accepted.
async fn serve(app: Router) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let listener = listener.tap_io(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, accepted)
}

fn client() -> FacilitatorClient {
    FacilitatorClient::new(Credentials::default()).unwrap()
}

async fn call(url: &str) -> Result<Replied, CallFailed> {
    client().call(url, Operation::Settle, b"{}", PATIENCE).await
}

fn redirect(status: u16, to: &str) -> (StatusCode, [(&'static str, String); 1]) {
    (StatusCode::from_u16(status).unwrap(), [("location", to.to_owned())])
}

#[tokio::test]
async fn calls_share_a_connection() {
    let (url, accepted) =
        serve(Router::new().route("/x402/settle", post(|body: String| async { body }))).await;
    let client = client();
    for _ in 0..5 {
        let replied = client.call(&format!("{url}/x402"), Operation::Settle, b"{\"a\":1}", PATIENCE).await;
        assert_eq!(replied, Ok(Replied { status: 200, body: b"{\"a\":1}".to_vec(), correlation: None }));
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn redirects_that_keep_method_and_body_are_followed_three_times() {
    let hops = Router::new()
        .route("/settle", post(|| async { redirect(307, "/1/settle") }))
        .route("/1/settle", post(|| async { redirect(308, "/2/settle") }))
        .route("/2/settle", post(|| async { redirect(307, "/3/settle") }))
        .route("/3/settle", post(|body: String| async { body }));
    let (url, _) = serve(hops).await;
    assert_eq!(call(&url).await.unwrap().body, b"{}");
    let (url, _) = serve(Router::new().route("/settle", post(|| async { redirect(308, "/settle") }))).await;
    let failed = call(&url).await.unwrap_err();
    assert_eq!(
        (failed.may_have_arrived, failed.reason),
        (true, format!("{url}/settle redirects more than 3 times"))
    );
}

#[tokio::test]
async fn a_redirect_that_would_change_the_method_is_a_reply() {
    let (url, _) = serve(Router::new().route("/settle", post(|| async { redirect(302, "/other") }))).await;
    assert_eq!(call(&url).await.unwrap().status, 302);
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_followed_by_no_call_and_says_what_to_configure() {
    let (other, accepted) = serve(Router::new().fallback(|body: String| async { body })).await;
    for status in [307, 308] {
        let target: Arc<Mutex<String>> = Arc::default();
        let to = target.clone();
        let away = move || {
            let to = to.lock().unwrap().clone();
            async move { redirect(status, &to) }
        };
        let (url, _) = serve(Router::new().fallback(away)).await;
        let elsewhere = [
            other.clone(),
            other.replace("127.0.0.1", "localhost"),
            url.replace("http://", "https://"),
            "https://pay.example".to_owned(),
        ];
        for base in elsewhere {
            for endpoint in ["verify", "settle", "supported"] {
                *target.lock().unwrap() = format!("{base}/v2/{endpoint}");
                let said = reason_of(&format!("{url}/x402"), endpoint).await;
                let names =
                    format!("{url}/x402/{endpoint} redirects to {base}/v2/{endpoint}, another origin");
                assert!(said.starts_with(&names), "{said}");
                assert!(said.ends_with(&format!(" to {base}/v2")), "{said}");
            }
        }
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 0);
}

/// Why a call failed that was redirected. Who redirects it may have executed it.
async fn reason_of(url: &str, endpoint: &str) -> String {
    let operation = match endpoint {
        "verify" => Operation::Verify,
        "settle" => Operation::Settle,
        _ => return crate::facilitator::fetch(&client(), url).await.unwrap_err().to_string(),
    };
    let failed = client().call(url, operation, b"{}", PATIENCE).await.unwrap_err();
    assert!(failed.may_have_arrived, "{failed}");
    failed.reason
}

#[tokio::test]
async fn the_id_of_a_call_is_kept_from_the_more_telling_header() {
    let app = Router::new().route(
        "/settle",
        post(|| async { [("cf-ray", "ray"), ("x-request-id", "request\t1"), ("x-other", "other")] }),
    );
    let replied = call(&serve(app).await.0).await.unwrap();
    assert_eq!(replied.correlation.as_deref(), Some("request?1"));
}

#[tokio::test]
async fn a_key_signs_for_the_address_a_redirect_leads_to() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = requests.clone();
    let note = move |headers: HeaderMap| {
        let claims = headers[AUTHORIZATION].to_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        seen.lock().unwrap().push(claims["uri"].as_str().unwrap().to_owned());
    };
    let noted = note.clone();
    let app = Router::new()
        .route(
            "/settle",
            post(async move |headers: HeaderMap| {
                note(headers);
                redirect(307, "/new/settle")
            }),
        )
        .route("/new/settle", post(async move |headers: HeaderMap| noted(headers)));
    let (url, _) = serve(app).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let key = serde_json::json!({ "id": "k", "privateKey": STANDARD.encode([5; 32]) });
    std::fs::write(&file, key.to_string()).unwrap();
    let credentials = Credentials::new([(url.clone(), Credential::Jwt(file))].into());
    let client = FacilitatorClient::new(credentials).unwrap();
    client.call(&url, Operation::Settle, b"{}", PATIENCE).await.unwrap();
    let host = url.strip_prefix("http://").unwrap();
    assert_eq!(*requests.lock().unwrap(), [format!("POST {host}/settle"), format!("POST {host}/new/settle")]);
}

#[tokio::test]
async fn a_credential_that_cannot_be_used_sends_nothing() {
    let (url, accepted) = serve(Router::new()).await;
    let credentials =
        Credentials::new([(url.clone(), Credential::Bearer("/nonexistent/token".into()))].into());
    let client = FacilitatorClient::new(credentials).unwrap();
    let failed = client.call(&url, Operation::Settle, b"{}", PATIENCE).await.unwrap_err();
    assert!(failed.reason.starts_with("the credential /nonexistent/token cannot be read"), "{failed}");
    assert_eq!((failed.may_have_arrived, accepted.load(Ordering::Relaxed)), (false, 0));
}

#[tokio::test]
async fn a_facilitator_whose_certificate_nobody_vouches_for_gets_no_payment() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let refused =
        tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_err() });
    let failed = call(&format!("https://localhost:{port}")).await.unwrap_err();
    assert!(failed.reason.to_lowercase().contains("certificate"), "{failed}");
    assert!(!failed.may_have_arrived);
    assert!(refused.await.unwrap(), "the handshake ends there");
}

#[tokio::test]
async fn what_got_no_whole_reply_may_have_arrived_unless_nobody_could_be_reached() {
    assert!(!call("http://127.0.0.1:1").await.unwrap_err().may_have_arrived);
    assert!(!call("nowhere").await.unwrap_err().may_have_arrived);
    let endless = Router::new().route("/settle", post(|| async { vec![b' '; MAX_REPLY + 1] }));
    let failed = call(&serve(endless).await.0).await.unwrap_err();
    assert!(failed.may_have_arrived && failed.reason.ends_with("the reply is too long"), "{failed}");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let failed = client().call(&url, Operation::Verify, b"{}", Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((failed.may_have_arrived, failed.reason.as_str()), (true, "no reply within 50ms"));
}
