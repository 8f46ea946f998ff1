//! Facilitator calls, made to the companion's own relay without a connection in between: the ledger, its
//! reservations, its counters and its reconciliation are those of every proxy.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use farebox_core::exchange::{Answer, Call};
use farebox_core::protocol::RELAY_HOLDER;
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use tower::ServiceExt;

/// Calls the relay.
#[derive(Debug, Clone)]
pub(super) struct Relayed {
    relay: Router,
    /// Names this life of this gateway: reservations of an earlier one died with its memory.
    holder: String,
}

/// A reply, captured.
pub(super) enum Captured {
    Reply { status: u16, body: Bytes },
    TimedOut,
    Cut,
    NotSent,
}

/// Longest reply that is read.
const MAX_REPLY: usize = 64 * 1024;

// === impl Relayed ===

impl Relayed {
    pub(super) fn new(relay: Router, holder: String) -> Self {
        Self { relay, holder }
    }

    /// Makes a call. A settlement that has begun goes on if this is dropped.
    pub(super) async fn call(&self, call: Call) -> Captured {
        let mut request = Request::post(["/", call.operation.name()].concat())
            .header(header::CONTENT_TYPE, "application/json")
            .header(RELAY_HOLDER, &self.holder);
        for (name, value) in &call.headers {
            request = request.header(*name, value.as_bytes());
        }
        let Ok(request) = request.body(Body::from(call.body)) else { return Captured::NotSent };
        let limit = Duration::from_millis(u64::from(call.timeout_ms));
        let reply = async {
            let Ok(response) = self.relay.clone().oneshot(request).await;
            let status = response.status().as_u16();
            match Limited::new(response.into_body(), MAX_REPLY).collect().await {
                Ok(body) => Captured::Reply { status, body: body.to_bytes() },
                Err(_) => Captured::Cut,
            }
        };
        tokio::time::timeout(limit, reply).await.unwrap_or(Captured::TimedOut)
    }
}

// === impl Captured ===

impl Captured {
    pub(super) fn as_answer(&self) -> Answer<'_> {
        match self {
            Self::Reply { status, body } => Answer::Reply { status: *status, body },
            Self::TimedOut => Answer::TimedOut,
            Self::Cut => Answer::Cut,
            Self::NotSent => Answer::NotSent,
        }
    }
}
