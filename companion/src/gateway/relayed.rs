//! Facilitator calls, made to the companion's own relay without a connection in between: the ledger, its
//! reservations, its counters and its reconciliation are those of every proxy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use farebox_core::exchange::{Answer, Call, Unused};
use farebox_core::protocol::{RELAY_ATTEMPT, RELAY_HOLDER};
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use tower::ServiceExt;

/// Calls the relay.
#[derive(Debug)]
pub(super) struct Relayed {
    relay: Router,
    /// Names this life of this gateway: reservations of an earlier one died with its memory.
    holder: String,
    attempts: AtomicU64,
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
        Self { relay, holder, attempts: AtomicU64::new(0) }
    }

    /// A number no other request of this gateway has.
    pub(super) fn attempt(&self) -> u64 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives a payment back. One that cannot be is free once its lease is over.
    pub(super) async fn release(&self, unused: Unused, attempt: u64) {
        if let Some(request) = self.request("/release", unused.body, &unused.headers, attempt) {
            let Ok(_) = self.relay.clone().oneshot(request).await;
        }
    }

    fn request(
        &self,
        path: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
        attempt: u64,
    ) -> Option<Request<Body>> {
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(RELAY_HOLDER, &self.holder)
            .header(RELAY_ATTEMPT, attempt);
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        request.body(Body::from(body)).ok()
    }

    /// Makes a call. A settlement that has begun goes on if this is dropped.
    pub(super) async fn call(&self, call: Call, attempt: u64) -> Captured {
        let path = ["/", call.operation.name()].concat();
        let Some(request) = self.request(&path, call.body, &call.headers, attempt) else {
            return Captured::NotSent;
        };
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
