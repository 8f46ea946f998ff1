use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

use super::*;

const NOW: u64 = 1_800_000_000;
const SEED: [u8; 32] = [3; 32];

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

fn file(id: &str, key: &str) -> String {
    json!({ "id": id, "privateKey": key }).to_string()
}

fn p256() -> SecretKey {
    SecretKey::from_slice(&[7; 32]).unwrap()
}

/// What PKCS #8 puts before the seed of an Ed25519 key.
fn ed25519_pkcs8() -> Vec<u8> {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend(SEED);
    der
}

fn ed25519_base64() -> String {
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    STANDARD.encode([&SEED, pair.public_key().as_ref()].concat())
}

fn token(file: &str, url: &str) -> String {
    let target = Url::parse(url).unwrap();
    ApiKey::read(file).unwrap().token(&Method::POST, &target, NOW, [0xab; 16])
}

/// Header, claims, what is signed, signature.
fn parts(token: &str) -> (Value, Value, &[u8], Vec<u8>) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let read = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (read(header), read(claims), signed.as_bytes(), URL_SAFE_NO_PAD.decode(signature).unwrap())
}

#[test]
fn a_token_is_for_one_request_and_two_minutes() {
    let token = token(&file("key-1", &ed25519_base64()), "https://api.example.com/platform/v2/x402/verify");
    let (header, claims, ..) = parts(&token);
    let nonce = "ab".repeat(16);
    assert_eq!(header, json!({ "alg": "EdDSA", "kid": "key-1", "typ": "JWT", "nonce": nonce }));
    let request = "POST api.example.com/platform/v2/x402/verify";
    assert_eq!(
        claims,
        json!({
            "sub": "key-1", "iss": "cdp", "aud": ["cdp_service"], "nbf": NOW, "exp": NOW + 120,
            "uri": request, "uris": [request],
        })
    );
    assert_eq!(expiry(&token), Some(NOW + 120));
}

#[test]
fn an_ed25519_key_in_each_of_its_forms_signs_what_its_public_key_verifies() {
    let public = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap().public_key().as_ref().to_vec();
    for key in [ed25519_base64(), STANDARD.encode(SEED), pem("PRIVATE KEY", &ed25519_pkcs8())] {
        let token = token(&file("k", &key), "https://a/verify");
        let (header, _, signed, signature) = parts(&token);
        assert_eq!(header["alg"], "EdDSA");
        UnparsedPublicKey::new(&ED25519, &public).verify(signed, &signature).unwrap();
    }
}

#[test]
fn a_p256_key_in_either_pem_signs_what_its_public_key_verifies() {
    use p256::pkcs8::EncodePrivateKey;

    let key = p256();
    let (sec1, pkcs8) = (key.to_sec1_der().unwrap(), key.to_pkcs8_der().unwrap());
    for text in [pem("EC PRIVATE KEY", &sec1), pem("PRIVATE KEY", pkcs8.as_bytes())] {
        // As older key files have it.
        let file = json!({ "name": "organizations/o/apiKeys/k", "privateKey": text }).to_string();
        let token = token(&file, "https://a:8443/settle");
        let (header, claims, signed, signature) = parts(&token);
        assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &json!("organizations/o/apiKeys/k")));
        assert_eq!(claims["uri"], "POST a:8443/settle");
        let signature = Signature::from_slice(&signature).unwrap();
        VerifyingKey::from(key.public_key()).verify(signed, &signature).unwrap();
    }
}

#[test]
fn a_file_that_holds_no_usable_key_is_described_and_never_quoted() {
    let mut foreign = STANDARD.decode(ed25519_base64()).unwrap();
    foreign[40] ^= 1;
    for (text, expected) in [
        ("hush".to_owned(), "is no JSON object"),
        (r#"{"id":"k","privateKey":{"hush":1}}"#.to_owned(), "is no JSON object"),
        (r#"{"privateKey":"hush"}"#.to_owned(), "is no JSON object"),
        (file(" ", &ed25519_base64()), "has an empty `id`"),
        (file("k", "hush"), "neither"),
        (file("k", &STANDARD.encode([1; 31])), "neither"),
        (file("k", &STANDARD.encode(foreign)), "neither"),
        (file("k", &pem("EC PRIVATE KEY", b"hush")), "neither"),
        (file("k", &pem("RSA PRIVATE KEY", b"hush")), "neither"),
    ] {
        let error = ApiKey::read(&text).map(drop).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hush"), "{text}: {error}");
    }
}

#[test]
fn only_a_jwt_says_when_it_ends() {
    let jwt = |claims: &Value| format!("e30.{}.sig", encode(claims));
    assert_eq!(expiry(&jwt(&json!({ "exp": 17 }))), Some(17));
    assert_eq!(expiry(&jwt(&json!({ "exp": 17.9 }))), Some(17));
    for other in
        [jwt(&json!({})), jwt(&json!({ "exp": "17" })), "a.b".into(), "a.b.c.d".into(), "sk-1".into()]
    {
        assert_eq!(expiry(&other), None, "{other}");
    }
}
