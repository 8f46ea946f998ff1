//! Calling a facilitator.
//!
//! Every call goes to the origin that is configured and nowhere else: whoever answers says whether money moved, so
//! an open redirect at a facilitator would be enough to be served unpaid.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farebox_core::protocol::{Operation, printable};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::watch;

use super::credential::Credentials;
use crate::clock::unix_seconds;
use crate::http::{self, BodyError};

/// Calls facilitators over pooled connections.
#[derive(Debug, Clone)]
pub struct FacilitatorClient {
    client: reqwest::Client,
    credentials: Credentials,
    doubts: watch::Sender<()>,
    /// The last call got no reply.
    lost: Arc<AtomicBool>,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replied {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
    /// The id of the call, if a header has it; printable.
    pub correlation: Option<String>,
}

/// No whole reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallFailed {
    /// For people.
    pub reason: String,
    /// Whether the call may have arrived.
    pub may_have_arrived: bool,
}

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 3;
/// Longest reply that is read.
const MAX_REPLY: usize = 1 << 20;
/// Headers in which facilitators and what stands before them name a call, the more telling first.
const CORRELATION: [&str; 5] = ["x-correlation-id", "correlation-id", "x-request-id", "request-id", "cf-ray"];
/// Longest text of a facilitator in a message, characters.
const MAX_TEXT: usize = 200;

// === impl FacilitatorClient ===

impl FacilitatorClient {
    /// A client that shows each facilitator its credential, if it has one.
    pub fn new(credentials: Credentials) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: http::client_builder().build()?,
            credentials,
            doubts: watch::Sender::new(()),
            lost: Arc::default(),
        })
    }

    /// Changes with each call that got no reply, and with the first reply after it: its facilitator may be gone, or back.
    pub(crate) fn doubts(&self) -> watch::Receiver<()> {
        self.doubts.subscribe()
    }

    /// What it shows.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Calls `operation` of the facilitator at `base` (no trailing slash).
    pub async fn call(
        &self,
        base: &str,
        operation: Operation,
        body: &[u8],
        deadline: Duration,
    ) -> Result<Replied, CallFailed> {
        let call = async { read(self.send(base, operation.name(), Some(body)).await?).await };
        let replied = tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
            Err(CallFailed { reason: format!("no reply within {deadline:?}"), may_have_arrived: true })
        });
        if self.lost.swap(replied.is_err(), Ordering::Relaxed) || replied.is_err() {
            self.doubts.send_replace(());
        }
        replied
    }

    /// Sends one request to an endpoint of the facilitator at `base`, a POST of `body` or a GET without one, with the
    /// facilitator's credential. Redirects that keep method and body (307, 308) are followed within the origin of
    /// `base`; one to another origin is an error that says what to configure. Who redirects has had the call, and may
    /// have executed it.
    pub(super) async fn send(
        &self,
        base: &str,
        endpoint: &str,
        body: Option<&[u8]>,
    ) -> Result<Response, CallFailed> {
        let first = parse(&format!("{base}/{endpoint}"))?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut target = first.clone();
        let mut may_have_arrived = false;
        for _ in 0..=MAX_REDIRECTS {
            let credential = self.credentials.authorization(base, &method, &target, unix_seconds()).await;
            let credential = credential.map_err(|error| not_sent(error.to_string()))?;
            let mut request = self.client.request(method.clone(), target.clone());
            if let Some(credential) = credential {
                request = request.header(AUTHORIZATION, credential);
            }
            if let Some(body) = body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.to_vec());
            }
            let response = request.send().await.map_err(|error| {
                let cause = http::describe(&error);
                // A connection that could not be made carried nothing.
                if error.is_connect() {
                    return CallFailed {
                        reason: format!("{target} cannot be reached: {cause}"),
                        may_have_arrived,
                    };
                }
                CallFailed { reason: format!("{target}: {cause}"), may_have_arrived: true }
            })?;
            if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return Ok(response);
            }
            may_have_arrived = true;
            target = redirected(&target, endpoint, &response)
                .map_err(|reason| CallFailed { reason, may_have_arrived })?;
        }
        Err(CallFailed {
            reason: format!("{first} redirects more than {MAX_REDIRECTS} times"),
            may_have_arrived,
        })
    }
}

/// Where a redirect within the origin leads, or what is wrong with it.
fn redirected(from: &Url, endpoint: &str, response: &Response) -> Result<Url, String> {
    let target =
        http::redirect_target(response).ok_or_else(|| format!("{from} redirects to no readable address"))?;
    if target.origin() == from.origin() {
        return Ok(target);
    }
    let base = target.as_str().strip_suffix(endpoint).unwrap_or(target.as_str()).trim_end_matches('/');
    Err(format!(
        "{from} redirects to {}, another origin, which no call is sent to: set the facilitator's address \
         (facilitatorURL of the pricing file, or facilitator in the settings) to {}",
        printable(target.as_str(), MAX_TEXT),
        printable(base, MAX_TEXT),
    ))
}

async fn read(response: Response) -> Result<Replied, CallFailed> {
    let (status, address) = (response.status().as_u16(), response.url().clone());
    let correlation = correlation(response.headers());
    let cut = |what: &str| CallFailed { reason: format!("{address}: {what}"), may_have_arrived: true };
    let body = http::body(response, MAX_REPLY).await.map_err(|error| match error {
        BodyError::Broken(error) => cut(&http::describe(&error)),
        BodyError::TooLong => cut("the reply is too long"),
    })?;
    Ok(Replied { status, body, correlation })
}

fn correlation(headers: &HeaderMap) -> Option<String> {
    let id = CORRELATION.into_iter().find_map(|name| headers.get(name)?.to_str().ok())?;
    Some(printable(id, MAX_TEXT)).filter(|id| !id.is_empty())
}

fn parse(text: &str) -> Result<Url, CallFailed> {
    Url::parse(text).map_err(|error| not_sent(format!("{text} is not a URL: {error}")))
}

const fn not_sent(reason: String) -> CallFailed {
    CallFailed { reason, may_have_arrived: false }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
