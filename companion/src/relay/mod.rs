//! What the proxies ask of the companion about payments: every call goes through the ledger, whose records the
//! machine of [`farebox_core::payment`] steps. Every reply is a [`RelayReply`].
//!
//! * `POST /verify`: claims the payment for the request that brings it. A new one is verified by the facilitator, an
//!   open one is settled once more, as it is on record.
//! * `POST /settle`: settles what was verified. A settlement once begun is finished and written down, whoever has
//!   stopped waiting for it.
//! * `POST /over`: how requests with a payment ended, or that they go on. 204 once all of that is on disk.
//!
//! Bodies are those of a facilitator's calls; headers say which request asks and what it buys. A new payment is
//! taken only by terms this companion published: whoever reaches the relay cannot use the operator's facilitator
//! for anything else.

mod bad_replies;
mod books;
mod credentials;
mod door;
mod facilitators;
#[cfg(test)]
mod facilitators_tests;
mod order;
mod reconcile;
mod settling;
#[cfg(test)]
mod tests;
mod told;
mod under_way;
mod verifying;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::post;
use farebox_core::payment::{Ending, Event, Holder};
use farebox_core::protocol::RelayReply;
use futures_util::future::join_all;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;

use crate::facilitator::{FacilitatorClient, FacilitatorStates};
use crate::handle::Handle;
use crate::ledger::{Ledger, LedgerError, LedgerHealth};
use crate::rules::RulesState;
use crate::settings::Facilitators;

use books::Quiet;
use order::{Order, not_taken};
use under_way::UnderWay;

pub use credentials::watch_credentials;
pub use door::{Secret, at_the_door, limits, most_of_a_chain};
pub use reconcile::reconcile;

/// Deadlines of the facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Of `/verify`, however many facilitators are asked.
    pub verify: Duration,
    /// Of `/settle`.
    pub settle: Duration,
}

/// The parts before it that the relay asks, and to which it tells what it sees.
#[derive(Debug, Clone)]
pub struct RelayParts {
    /// The rules in force, and the terms that are and were published.
    pub rules: Handle<RulesState>,
    /// What is known of the facilitators.
    pub facilitators: Handle<FacilitatorStates>,
    /// How the ledger is.
    pub ledger: Handle<LedgerHealth>,
}

/// Everything a call needs.
#[derive(Debug, Clone)]
pub struct Relay {
    ledger: Ledger,
    client: FacilitatorClient,
    state: RelayParts,
    deadlines: Deadlines,
    facilitators: Arc<Facilitators>,
    quiet: Arc<Quiet>,
    under_way: UnderWay,
}

/// Largest body of a call.
const MAX_BODY: usize = 1 << 20;

// === impl Relay ===

impl Relay {
    /// A relay, and what tells when its settlements are over after it is dropped. `most` payments of one chain may wait
    /// for facilitators; of further new ones it says that the facilitator is overloaded.
    pub fn new(
        ledger: Ledger,
        client: FacilitatorClient,
        state: RelayParts,
        deadlines: Deadlines,
        facilitators: Facilitators,
        most: usize,
    ) -> (Self, mpsc::Receiver<()>) {
        let (under_way, over) = UnderWay::new(most);
        let (facilitators, quiet) = (Arc::new(facilitators), Arc::default());
        (Self { ledger, client, state, deadlines, facilitators, quiet, under_way }, over)
    }

    /// The endpoints.
    pub fn router(self) -> Router {
        Router::new()
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .route("/over", post(over))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    /// Notes for readiness and log that the ledger failed.
    fn noted<T>(&self, result: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if let Err(error) = &result {
            self.state.ledger.lock().fails(error, "");
        }
        result
    }
}

/// A relay without a ledger: nothing is done, and it says so.
pub fn closed() -> Router {
    Router::new().fallback(async || respond(&RelayReply::Unavailable))
}

/// In the place of a relay where proxies settle by themselves.
pub fn absent() -> Router {
    let reason = "facilitator.settlement is direct: this companion settles nothing";
    Router::new().fallback(async || respond(&RelayReply::NotTaken { reason: reason.to_owned() }))
}

/// A holder nobody can guess. `None` if this machine gives no random bytes.
pub fn fresh_holder() -> Option<Holder> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(Holder(bytes))
}

/// A body, or why there is none.
type Received = Result<Bytes, BytesRejection>;

async fn verify(State(relay): State<Relay>, headers: HeaderMap, body: Received) -> Response<Body> {
    let order = received(body).and_then(|body| Order::to_verify(&relay, &headers, &body));
    let order = match order {
        Ok(order) => order,
        Err(reply) => return respond(&reply),
    };
    let (waiting, mut told) = relay.waiting(&order.key, order.claim.holder);
    // Finished also if the proxy stops waiting: a claim must not outlive what it was made for.
    tokio::spawn(verifying::verify(relay, order, waiting));
    respond(&told.reply().await.unwrap_or(RelayReply::Unavailable))
}

async fn settle(State(relay): State<Relay>, headers: HeaderMap, body: Received) -> Response<Body> {
    let order = match received(body).and_then(|body| Order::to_settle(&headers, &body)) {
        Ok(order) => order,
        Err(reply) => return respond(&reply),
    };
    let (waiting, mut told) = relay.waiting(&order.key, order.claim.holder);
    tokio::spawn(settling::settle(relay, order, waiting));
    respond(&told.reply().await.unwrap_or(RelayReply::Open { transaction: None }))
}

async fn over(State(relay): State<Relay>, body: Received) -> StatusCode {
    let endings = received(body).ok().and_then(|body| Ending::read_all(&body));
    let Some(endings) = endings else { return StatusCode::BAD_REQUEST };
    // Acknowledged once all are on disk: whoever tells them says them again until then.
    let steps = endings.iter().map(async |Ending { key, holder, end }| {
        relay.noted(relay.ledger.step(key, Event::Over(*holder, *end), None, None).await).is_ok()
    });
    let are_written = join_all(steps).await.into_iter().all(|is_written| is_written);
    if are_written { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn received(body: Received) -> Result<Bytes, RelayReply> {
    body.map_err(|rejection| not_taken(&rejection.body_text()))
}

fn respond(reply: &RelayReply) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body()));
    *response.status_mut() = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
