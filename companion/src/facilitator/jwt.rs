//! A token for one request, signed with a key of the operator: what the Coinbase Developer Platform wants.
//!
//! Header: `alg` (`ES256` or `EdDSA`), `kid`, `typ`, `nonce`. Claims: `sub` (the key's id), `iss`, `aud`, `nbf`,
//! `exp`, and the request as `METHOD host/path`. That claim is called `uri` in one generation of the platform's
//! clients and `uris` in another; both are sent.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::SecretKey;
use p256::ecdsa::signature::Signer;
use p256::pkcs8::DecodePrivateKey;
use reqwest::{Method, Url};
use ring::signature::Ed25519KeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a token is valid, seconds.
const LIFE: u64 = 120;

/// A key with its id.
pub(super) struct ApiKey {
    id: String,
    key: Key,
}

enum Key {
    P256(p256::ecdsa::SigningKey),
    Ed25519(Ed25519KeyPair),
}

/// A key file, as it is downloaded. Older ones call the id `name`.
#[derive(Deserialize)]
struct File {
    #[serde(alias = "name")]
    id: String,
    #[serde(rename = "privateKey")]
    private_key: String,
}

// === impl ApiKey ===

impl ApiKey {
    /// Reads a key file. The error completes a sentence whose subject is the file, and never quotes it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("is no JSON object with the texts `id` and `privateKey` (line {line}, column {column}); use the key file as it \
                 was downloaded")
        })?;
        if file.id.trim().is_empty() {
            return Err("has an empty `id`; use the key file as it was downloaded".to_owned());
        }
        let key = Key::read(&file.private_key).ok_or(
            "holds a `privateKey` that is neither a P-256 or Ed25519 key in PEM nor an Ed25519 key in base64",
        )?;
        Ok(Self { id: file.id, key })
    }

    /// A token for one request. `now` in Unix seconds; `nonce` is fresh randomness.
    pub(super) fn token(&self, method: &Method, target: &Url, now: u64, nonce: [u8; 16]) -> String {
        let alg = match self.key {
            Key::P256(_) => "ES256",
            Key::Ed25519(_) => "EdDSA",
        };
        let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        let port = target.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = target.host_str().unwrap_or_default();
        let request = format!("{method} {host}{port}{}", target.path());
        let header = json!({ "alg": alg, "kid": self.id, "typ": "JWT", "nonce": nonce });
        let claims = json!({
            "sub": self.id,
            "iss": "cdp",
            "aud": ["cdp_service"],
            "nbf": now,
            "exp": now + LIFE,
            "uri": request,
            "uris": [request],
        });
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

// === impl Key ===

impl Key {
    fn read(text: &str) -> Option<Self> {
        if !text.contains("-----BEGIN") {
            // The seed, mostly followed by the public key.
            let bytes = STANDARD.decode(text.trim()).ok()?;
            let pair = match bytes.split_first_chunk::<32>()? {
                (seed, []) => Ed25519KeyPair::from_seed_unchecked(seed),
                (seed, public) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            };
            return pair.ok().map(Self::Ed25519);
        }
        match PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()? {
            PrivateKeyDer::Sec1(der) => {
                SecretKey::from_sec1_der(der.secret_sec1_der()).ok().map(|key| Self::P256(key.into()))
            }
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let p256 = SecretKey::from_pkcs8_der(der).ok().map(|key| Self::P256(key.into()));
                p256.or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok().map(Self::Ed25519))
            }
            _ => None,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// When a token ends, Unix seconds, if it is a JWT that says so.
pub(super) fn expiry(token: &str) -> Option<u64> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?;
    // RFC 7519 allows fractions; the last whole second before the end is on the safe side.
    seconds.as_u64().or_else(|| seconds.as_f64().map(|seconds| seconds as u64))
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
