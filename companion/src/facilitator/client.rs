//! Calling a facilitator.

use std::time::Duration;

use farebox_core::protocol::Operation;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use super::credential::{CredentialError, Credentials};
use crate::http::{self, BodyError};
use crate::state::unix_seconds;

/// Calls facilitators over pooled connections.
#[derive(Debug, Clone)]
pub struct FacilitatorClient {
    client: reqwest::Client,
    credentials: Credentials,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replied {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
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

// === impl FacilitatorClient ===

impl FacilitatorClient {
    /// A client that shows each facilitator its credential, if it has one.
    pub fn new(credentials: Credentials) -> Result<Self, reqwest::Error> {
        Ok(Self { client: http::client_builder().build()?, credentials })
    }

    /// What it shows.
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Calls `operation` of the facilitator at `base` (no trailing slash). Redirects that keep method and body
    /// (307, 308) are followed to the same origin or to https; the credential goes to the same origin only.
    pub async fn call(
        &self,
        base: &str,
        operation: Operation,
        body: &[u8],
        deadline: Duration,
    ) -> Result<Replied, CallFailed> {
        match tokio::time::timeout(deadline, self.follow(base, operation, body)).await {
            Ok(result) => result,
            Err(_) => {
                Err(CallFailed { reason: format!("no reply within {deadline:?}"), may_have_arrived: true })
            }
        }
    }

    async fn follow(&self, base: &str, operation: Operation, body: &[u8]) -> Result<Replied, CallFailed> {
        let origin = parse(&format!("{base}/{}", operation.name()))?;
        let mut target = origin.clone();
        for _ in 0..=MAX_REDIRECTS {
            let request = if target.origin() == origin.origin() {
                let authorized = self.request(base, Method::POST, &target).await;
                authorized.map_err(|error| not_sent(error.to_string()))?
            } else {
                self.client.post(target.clone())
            };
            let request = request.header(CONTENT_TYPE, "application/json");
            let response = request.body(body.to_vec()).send().await.map_err(|error| CallFailed {
                // A connection that could not be made carried nothing.
                may_have_arrived: !error.is_connect(),
                reason: format!("{target}: {}", http::describe(&error)),
            })?;
            if !matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return read(response).await;
            }
            target = redirected(&target, &origin, &response)?;
        }
        Err(not_sent(format!("{origin} redirects more than {MAX_REDIRECTS} times")))
    }

    /// A request to the facilitator at `base` with its credential.
    pub(super) async fn request(
        &self,
        base: &str,
        method: Method,
        target: &Url,
    ) -> Result<RequestBuilder, CredentialError> {
        let credential = self.credentials.authorization(base, &method, target, unix_seconds()).await?;
        let request = self.client.request(method, target.clone());
        Ok(match credential {
            Some(credential) => request.header(AUTHORIZATION, credential),
            None => request,
        })
    }
}

/// A redirect means that the call was not executed there.
fn redirected(from: &Url, origin: &Url, response: &Response) -> Result<Url, CallFailed> {
    let target = http::redirect_target(response)
        .ok_or_else(|| not_sent(format!("{from} redirects to no readable address")))?;
    if target.scheme() == "https" || target.origin() == origin.origin() {
        return Ok(target);
    }
    Err(not_sent(format!("{from} redirects to {target}, which is neither https nor the same origin")))
}

async fn read(response: Response) -> Result<Replied, CallFailed> {
    let (status, address) = (response.status().as_u16(), response.url().clone());
    let cut = |what: &str| CallFailed { reason: format!("{address}: {what}"), may_have_arrived: true };
    let body = http::body(response, MAX_REPLY).await.map_err(|error| match error {
        BodyError::Broken(error) => cut(&http::describe(&error)),
        BodyError::TooLong => cut("the reply is too long"),
    })?;
    Ok(Replied { status, body })
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
