//! `GET /supported`: the payment kinds a facilitator can verify and settle.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fmt;
use std::time::{Duration, SystemTime};

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, Response, StatusCode, Url};
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

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 3;
/// How often a rate limit is waited out.
const MAX_ATTEMPTS: u32 = 3;
/// Longest wait a facilitator may ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest reply that is read; a real one has a few kilobytes.
const MAX_REPLY: usize = 1 << 20;

/// Loads the kinds of the facilitator at `url` (no trailing slash).
///
/// A rate limit (429) is waited out twice. Redirects that keep the method (307, 308) are followed within
/// one origin. One to another origin is an error that names the address to configure: a proxy reaches the
/// facilitator through one named cluster and would have every payment redirected away.
pub async fn fetch(client: &FacilitatorClient, url: &str) -> Result<Supported, SupportedError> {
    let mut address = parse(&format!("{url}/supported"))?;
    for _ in 0..=MAX_REDIRECTS {
        let response = get(client, url, &address).await?;
        let status = response.status();
        if status.is_success() {
            return read(&body(response).await?);
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let advice = client.credentials().advice(url);
            return Err(failed(format!("{address} answered {status}: {advice}")));
        }
        if !matches!(status.as_u16(), 307 | 308) {
            return Err(failed(format!("{address} answered {status}")));
        }
        address = redirect_target(&address, &response)?;
    }
    Err(failed(format!("{url}/supported redirects more than {MAX_REDIRECTS} times")))
}

async fn get(client: &FacilitatorClient, url: &str, address: &Url) -> Result<Response, SupportedError> {
    let mut attempt = 1;
    loop {
        let request = client.request(url, Method::GET, address).await;
        let request = request.map_err(|error| failed(error.to_string()))?.timeout(DEADLINE);
        let response = request.send().await.map_err(|error| unreachable(address, &error))?;
        if response.status() != StatusCode::TOO_MANY_REQUESTS || attempt == MAX_ATTEMPTS {
            return Ok(response);
        }
        tokio::time::sleep(wait_of(&response, attempt, SystemTime::now())).await;
        attempt += 1;
    }
}

/// `Retry-After` in seconds or as a date, capped; without one 1 s and then 2 s.
fn wait_of(response: &Response, attempt: u32, now: SystemTime) -> Duration {
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| {
        let seconds = text.trim().parse().ok().map(Duration::from_secs);
        seconds.or_else(|| httpdate::parse_http_date(text).ok()?.duration_since(now).ok())
    });
    asked.unwrap_or_else(|| Duration::from_secs(attempt.into())).min(MAX_WAIT)
}

fn redirect_target(from: &Url, response: &Response) -> Result<Url, SupportedError> {
    let target = http::redirect_target(response)
        .ok_or_else(|| failed(format!("{from} redirects to no readable address")))?;
    if target.origin() == from.origin() {
        return Ok(target);
    }
    let base = target.as_str().trim_end_matches("/supported");
    Err(failed(format!("{from} redirects to {target}: set facilitatorURL to {base}")))
}

async fn body(response: Response) -> Result<Vec<u8>, SupportedError> {
    let address = response.url().clone();
    http::body(response, MAX_REPLY).await.map_err(|error| match error {
        BodyError::Broken(error) => unreachable(&address, &error),
        BodyError::TooLong => failed(format!("{address} answered with more than {MAX_REPLY} bytes")),
    })
}

#[derive(Deserialize)]
struct Reply {
    kinds: Vec<Value>,
}

/// Reads a reply. A kind that cannot be read is one nobody here can use, so it is left out.
fn read(body: &[u8]) -> Result<Supported, SupportedError> {
    let reply: Reply = serde_json::from_slice(body)
        .map_err(|error| failed(format!("the reply of /supported lists no kinds: {error}")))?;
    let kinds: BTreeSet<_> = reply.kinds.iter().filter_map(read_kind).collect();
    if kinds.is_empty() {
        return Err(failed("the reply of /supported lists no kinds".into()));
    }
    Ok(Supported { kinds })
}

fn read_kind(kind: &Value) -> Option<SupportedKind> {
    Some(SupportedKind {
        x402_version: kind.get("x402Version")?.as_u64()?,
        scheme: kind.get("scheme")?.as_str()?.to_owned(),
        network: kind.get("network")?.as_str()?.to_owned(),
    })
}

fn parse(text: &str) -> Result<Url, SupportedError> {
    Url::parse(text).map_err(|error| failed(format!("{text} is not a URL: {error}")))
}

fn unreachable(address: &Url, error: &reqwest::Error) -> SupportedError {
    let mut text = format!("{address} cannot be reached: {error}");
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    failed(text)
}

const fn failed(text: String) -> SupportedError {
    SupportedError(text)
}

#[cfg(test)]
#[path = "supported_tests.rs"]
mod tests;
