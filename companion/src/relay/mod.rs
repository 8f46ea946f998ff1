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

mod bad_replies;
mod credentials;
mod facilitators;
#[cfg(test)]
mod facilitators_tests;
mod order;
mod reconcile;
mod settling;
#[cfg(test)]
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
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::facilitator::{FacilitatorClient, Replied};
use crate::ledger::{Ledger, LedgerError, Reservation};
use crate::settings::Facilitators;
use crate::state::{Shared, unix_millis};

use facilitators::Verdict;
use order::{Order, Terms};

pub use credentials::watch_credentials;
pub use reconcile::reconcile;

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
pub struct Relay {
    ledger: Ledger,
    client: FacilitatorClient,
    state: Shared,
    deadlines: Deadlines,
    facilitators: Arc<Facilitators>,
    terms: Arc<Terms>,
    /// Held by every settlement under way: all of them are over when the receiver closes.
    under_way: mpsc::Sender<()>,
}

/// A proxy holds a payment at most this long before it settles it. Afterwards another may use it; of two that
/// then do, the ledger lets one settle.
const LEASE: Duration = Duration::from_secs(600);
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
        (Self { ledger, client, state, deadlines, facilitators, terms: Arc::default(), under_way }, over)
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

    /// Notes for readiness and log whether the ledger works.
    fn note<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        let error = result.as_ref().err().map(ToString::to_string);
        let mut state = self.state.lock();
        if state.ledger_error != error {
            if let Some(error) = &error {
                error!("{error}");
            }
            state.ledger_error = error;
        }
        drop(state);
        result
    }
}

async fn verify(State(relay): State<Relay>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let order = match Order::read(&relay, &headers, &body) {
        Ok(order) => order,
        Err(refusal) => return refusal.verify_reply(),
    };
    let (waiting, told) = oneshot::channel();
    // Finished also if the proxy stops waiting: a reservation must not outlive what it was made for.
    tokio::spawn(async move {
        let reply = verify_order(&relay, &order, &body).await;
        if waiting.send(reply).is_err() {
            // Its client left, so nothing is served for it. If this fails, the lease ends the reservation.
            let _ = relay.note(relay.ledger.release(&order.claim).await);
        }
    });
    told.await.unwrap_or_else(|_| invalid(RelayRefusal::Unavailable.code()))
}

async fn verify_order(relay: &Relay, order: &Order, body: &[u8]) -> Response<Body> {
    let claim = &order.claim;
    let reserved = relay.note(relay.ledger.reserve(claim, unix_millis(), LEASE).await);
    match reserved {
        Ok(Reservation::Fresh) => {}
        Ok(Reservation::Redeem) => {
            return json_reply(200, &json!({ "isValid": true, "payer": claim.key.payer }));
        }
        Ok(Reservation::InFlight) => return invalid(RelayRefusal::InFlight.code()),
        Ok(Reservation::Used) => return invalid(RelayRefusal::Used.code()),
        Ok(Reservation::Unknown { .. }) => return invalid(RelayRefusal::Unknown.code()),
        Err(_) => return invalid(RelayRefusal::Unavailable.code()),
    }
    let Verdict { reply, vouched } = relay.ask_to_verify(&order.call, body).await;
    let noted = match &vouched {
        Some(facilitator) => relay.ledger.verified(claim, facilitator, unix_millis()).await,
        None => relay.ledger.release(claim).await,
    };
    if relay.note(noted).is_err() && vouched.is_some() {
        return invalid(RelayRefusal::Unavailable.code());
    }
    match reply {
        Ok(reply) => pass_on(reply),
        Err(failed) => {
            warn!("cannot verify: {failed}");
            json_reply(504, &json!({ "error": failed.reason }))
        }
    }
}

async fn settle(State(relay): State<Relay>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let order = match Order::read(&relay, &headers, &body) {
        Ok(order) => order,
        Err(refusal) => return refusal.settle_reply(),
    };
    let (waiting, told) = oneshot::channel();
    tokio::spawn(settling::settle(relay, order, body, waiting));
    told.await.unwrap_or_else(|_| json_reply(500, &json!({ "error": "the settlement broke off" })))
}

/// If it fails, the lease ends the reservation.
async fn release(State(relay): State<Relay>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(order) = Order::read(&relay, &headers, &body) else { return StatusCode::BAD_REQUEST };
    // Finished also if the proxy hangs up.
    let task = tokio::spawn(async move { relay.note(relay.ledger.release(&order.claim).await).is_ok() });
    if task.await.unwrap_or(false) { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

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
    pass_on(Replied { status, body: value.to_string().into_bytes(), correlation: None })
}
