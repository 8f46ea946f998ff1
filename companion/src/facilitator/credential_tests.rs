use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;
const BASE: &str = "https://pay.example.com/x402";

fn of(credential: Credential) -> Credentials {
    Credentials::new([(BASE.to_owned(), credential)].into())
}

fn bearer(file: &Path) -> Credentials {
    of(Credential::Bearer(file.to_owned()))
}

/// A file in a folder that goes with it.
fn secret(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

async fn shown(credentials: &Credentials, path: &str) -> Result<Option<String>, String> {
    let target = Url::parse(BASE).unwrap().join(path).unwrap();
    let shown = credentials.authorization(BASE, &Method::POST, &target, NOW).await;
    let text = |value: HeaderValue| {
        assert!(value.is_sensitive(), "it stays out of logs");
        value.to_str().unwrap().to_owned()
    };
    shown.map(|value| value.map(text)).map_err(|error| error.to_string())
}

fn jwt_until(end: u64) -> String {
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(json!({ "exp": end }).to_string()))
}

#[tokio::test]
async fn a_bearer_token_is_read_anew_for_every_call_and_for_its_facilitator_only() {
    let (_folder, file) = secret(" one\n");
    let credentials = bearer(&file);
    assert_eq!(shown(&credentials, "verify").await, Ok(Some("Bearer one".into())));
    std::fs::write(&file, "two").unwrap();
    assert_eq!(shown(&credentials, "verify").await, Ok(Some("Bearer two".into())));
    let target = Url::parse("https://other.example.com/verify").unwrap();
    let other = credentials.authorization("https://other.example.com", &Method::POST, &target, NOW).await;
    assert_eq!(other, Ok(None));
}

#[tokio::test]
async fn what_is_wrong_with_a_token_names_the_file_and_the_fix_and_not_the_secret() {
    let expired = jwt_until(NOW);
    for (text, expected) in [
        ("", "is empty; write the token into it"),
        (" \n", "is empty; write the token into it"),
        ("hush\nhush", "is not one line of text; write the bare token into it"),
        ("Bearer hush", "is not one line of text; write the bare token into it"),
        (&expired, "expired at 2027-01-15T08:00:00Z; replace it with a new token"),
    ] {
        let (_folder, file) = secret(text);
        let error = format!("the credential {} {expected}", file.display());
        assert_eq!(shown(&bearer(&file), "verify").await, Err(error.clone()));
        assert_eq!(bearer(&file).check(BASE, NOW).await.unwrap_err().to_string(), error);
    }
    let error = shown(&bearer(Path::new("/nonexistent/secret")), "verify").await.unwrap_err();
    assert!(error.starts_with("the credential /nonexistent/secret cannot be read: "), "{error}");
}

#[tokio::test]
async fn a_token_that_ends_later_is_good_until_then_and_its_successor_after() {
    let (_folder, file) = secret(&jwt_until(NOW + 1));
    let credentials = bearer(&file);
    assert_eq!(credentials.check(BASE, NOW).await, Ok(()));
    assert!(credentials.check(BASE, NOW + 1).await.is_err());
    std::fs::write(&file, jwt_until(NOW + 100)).unwrap();
    assert_eq!(credentials.check(BASE, NOW + 1).await, Ok(()));
}

#[tokio::test]
async fn a_key_signs_a_token_of_its_own_for_every_request() {
    let key = json!({ "id": "k", "privateKey": STANDARD.encode([5; 32]) }).to_string();
    let (_folder, file) = secret(&key);
    let credentials = of(Credential::Jwt(file.clone()));
    let claims = |shown: &str| -> (String, Value) {
        let mut parts = shown.strip_prefix("Bearer ").unwrap().split('.');
        let mut read = || URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
        let (header, claims): (Value, Value) =
            (serde_json::from_slice(&read()).unwrap(), serde_json::from_slice(&read()).unwrap());
        (header["nonce"].to_string(), claims)
    };
    let first = claims(&shown(&credentials, "/x402/verify").await.unwrap().unwrap());
    let second = claims(&shown(&credentials, "/x402/settle").await.unwrap().unwrap());
    assert_eq!(first.1["uri"], "POST pay.example.com/x402/verify");
    assert_eq!(second.1["uri"], "POST pay.example.com/x402/settle");
    assert_eq!((&first.1["nbf"], &first.1["exp"]), (&json!(NOW), &json!(NOW + 120)));
    assert_ne!(first.0, second.0, "no nonce is used twice");
    std::fs::write(&file, "hush").unwrap();
    let error = shown(&credentials, "verify").await.unwrap_err();
    assert!(error.contains("secret is no JSON object") && !error.contains("hush"), "{error}");
}
