//! The facilitator API, served to the proxies: every call goes through the ledger.
//!
//! * `POST /verify`: reserves the payment for the proxy that asks, then asks the facilitator.
//! * `POST /settle`: settles a payment once. A settlement once begun is finished and written down, whoever
//!   has stopped waiting for it.
//! * `POST /release`: the proxy did not use what it verified. Nobody waits for the answer.
//!
//! Replies of the facilitator are passed on as they are. What only a ledger can say is said in the codes of
//! [`RelayRefusal`], which the filter understands. Only payments by terms this companion published are taken:
//! whoever reaches the relay cannot use the operator's facilitator for anything else.

mod credentials;
#[cfg(any())]
mod facilitators;
#[cfg(any())]
mod facilitators_tests;
#[cfg(any())]
mod order;
#[cfg(any())]
mod reconcile;
#[cfg(any())]
mod settling;
#[cfg(any())]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::post;
use farebox_core::protocol::RelayRefusal;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::facilitator::{FacilitatorClient, Replied};
use crate::ledger::Ledger;
use crate::settings::Facilitators;
use crate::state::Shared;

pub use credentials::watch_credentials;

/// Deadlines of the facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Of `/verify`, however many facilitators are asked.
    pub verify: Duration,
    /// Of `/settle`.
    pub settle: Duration,
}

/// Everything a call needs.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "until the relay steps payments")]
pub struct Relay {
    ledger: Ledger,
    client: FacilitatorClient,
    state: Shared,
    deadlines: Deadlines,
    facilitators: Arc<Facilitators>,
    /// Held by every settlement under way: all of them are over when the receiver closes.
    under_way: mpsc::Sender<()>,
}

/// Largest body of a call.
const MAX_BODY: usize = 1 << 20;

// === impl Relay ===

impl Relay {
    /// A relay, and what tells when its settlements are over after it is dropped.
    pub fn new(
        ledger: Ledger,
        client: FacilitatorClient,
        state: Shared,
        deadlines: Deadlines,
        facilitators: Facilitators,
    ) -> (Self, mpsc::Receiver<()>) {
        let (under_way, over) = mpsc::channel(1);
        let facilitators = Arc::new(facilitators);
        (Self { ledger, client, state, deadlines, facilitators, under_way }, over)
    }

    /// The endpoints.
    pub fn router(self) -> Router {
        Router::new()
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .route("/release", post(release))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }
}

/// Until the relay steps payments.
async fn verify(State(_relay): State<Relay>, _headers: HeaderMap, _body: Bytes) -> Response<Body> {
    invalid(RelayRefusal::Unavailable.code())
}

async fn settle(State(_relay): State<Relay>, _headers: HeaderMap, _body: Bytes) -> Response<Body> {
    json_reply(500, &json!({}))
}

async fn release(State(_relay): State<Relay>, _headers: HeaderMap, _body: Bytes) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// Nothing yet.
pub async fn reconcile(_relay: Relay) {}

fn pass_on(reply: Replied) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    // A redirect that was not followed is nothing a proxy should see as one.
    let status = if (300..400).contains(&reply.status) { 502 } else { reply.status };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn invalid(reason: &str) -> Response<Body> {
    json_reply(200, &json!({ "isValid": false, "invalidReason": reason }))
}

fn json_reply(status: u16, value: &Value) -> Response<Body> {
    pass_on(Replied { status, body: value.to_string().into_bytes() })
}
