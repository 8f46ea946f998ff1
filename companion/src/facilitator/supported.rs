//! `GET /supported`: the payment kinds a facilitator can verify and settle.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::FacilitatorClient;
use crate::http::{self, BodyError};

/// One kind of a `/supported` reply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SupportedKind {
    /// Protocol version of the kind: 1 or 2.
    pub x402_version: u64,
    /// Payment scheme, e.g. `exact`.
    pub scheme: String,
    /// Network as listed: CAIP-2 in version 2, a name in version 1.
    pub network: String,
}

/// The kinds of one facilitator.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supported {
    /// Distinct kinds, sorted.
    pub kinds: BTreeSet<SupportedKind>,
    /// It says that it is for development, and moves no money.
    pub is_for_development: bool,
}

/// Why the kinds could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SupportedError(pub String);

// === impl SupportedKind ===

impl fmt::Display for SupportedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} {} {}", self.x402_version, self.scheme, self.network)
    }
}

// === impl Supported ===

impl Supported {
    /// CAIP-2 ids of the networks for which the version 1 kind of scheme `exact` is listed.
    pub fn v1_networks(&self) -> BTreeSet<String> {
        self.kinds
            .iter()
            .filter(|kind| kind.x402_version == 1 && kind.scheme == "exact")
            .filter_map(|kind| farebox_core::evm::chain_by_name(&kind.network))
            .map(|network| network.as_str().to_owned())
            .collect()
    }
}

/// How often a rate limit is waited out.
const MAX_ATTEMPTS: u32 = 3;
/// Longest wait a facilitator may ask for; without a word of its own 1 s and then 2 s.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest reply that is read; a real one has a few kilobytes.
const MAX_REPLY: usize = 1 << 20;

/// What came of one request.
enum Asked {
    /// The reply.
    Replied(Vec<u8>),
    /// Too many requests: why, and how long to wait if it says so.
    Limited(SupportedError, Option<Duration>),
}

/// Loads the kinds of the facilitator at `url` (no trailing slash). A rate limit (429) is waited out twice.
///
/// A redirect to another origin is an error here too, before anybody pays: every payment would run into it.
pub async fn fetch(client: &FacilitatorClient, url: &str) -> Result<Supported, SupportedError> {
    let mut attempt = 1;
    loop {
        let asked = tokio::time::timeout(DEADLINE, ask(client, url)).await;
        match asked
            .unwrap_or_else(|_| Err(failed(format!("{url}/supported: no reply within {DEADLINE:?}"))))?
        {
            Asked::Replied(body) => return read(&body),
            Asked::Limited(error, _) if attempt == MAX_ATTEMPTS => return Err(error),
            Asked::Limited(_, wait) => {
                let wait = wait.unwrap_or_else(|| Duration::from_secs(attempt.into()));
                tokio::time::sleep(wait.min(MAX_WAIT)).await;
            }
        }
        attempt += 1;
    }
}

async fn ask(client: &FacilitatorClient, url: &str) -> Result<Asked, SupportedError> {
    let response = client.send(url, "supported", None).await.map_err(|error| failed(error.reason))?;
    let (status, address) = (response.status(), response.url().clone());
    let answered = format!("{address} answered {status}");
    if status.is_success() {
        let body = http::body(response, MAX_REPLY).await.map_err(|error| match error {
            BodyError::Broken(error) => failed(format!("{address}: {}", http::describe(&error))),
            BodyError::TooLong => failed(format!("{address} answered with more than {MAX_REPLY} bytes")),
        })?;
        return Ok(Asked::Replied(body));
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            Ok(Asked::Limited(failed(answered), wait_of(&response, SystemTime::now())))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(failed(format!("{answered}: {}", client.credentials().advice(url))))
        }
        _ => Err(failed(answered)),
    }
}

/// `Retry-After` in seconds or as a date.
fn wait_of(response: &Response, now: SystemTime) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(text).ok()?.duration_since(now).ok())
}

#[derive(Deserialize)]
struct Reply {
    kinds: Vec<Value>,
    #[serde(default)]
    development: Value,
}

/// Reads a reply. A kind that cannot be read is one nobody here can use, so it is left out.
fn read(body: &[u8]) -> Result<Supported, SupportedError> {
    let reply: Reply = serde_json::from_slice(body)
        .map_err(|error| failed(format!("the reply of /supported lists no kinds: {error}")))?;
    let kinds: BTreeSet<_> = reply.kinds.iter().filter_map(read_kind).collect();
    if kinds.is_empty() {
        return Err(failed("the reply of /supported lists no kinds".into()));
    }
    Ok(Supported { kinds, is_for_development: reply.development == true })
}

fn read_kind(kind: &Value) -> Option<SupportedKind> {
    Some(SupportedKind {
        x402_version: kind.get("x402Version")?.as_u64()?,
        scheme: kind.get("scheme")?.as_str()?.to_owned(),
        network: kind.get("network")?.as_str()?.to_owned(),
    })
}

const fn failed(text: String) -> SupportedError {
    SupportedError(text)
}

#[cfg(test)]
#[path = "supported_tests.rs"]
mod tests;
