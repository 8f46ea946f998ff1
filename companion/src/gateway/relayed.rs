//! Calls to the companion's own relay, without a connection in between. So the gateway has the same ledger,
//! reservations, counters and reconciliation as every other proxy.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use farebox_core::exchange::{Call, Note};
use farebox_core::payment::End;
use farebox_core::protocol::{CallEnd, RELAY_PROXY};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::watch;
use tower::ServiceExt;

/// A caller of the relay.
#[derive(Debug)]
pub(super) struct Relayed {
    relay: watch::Receiver<Router>,
    /// The gateway's name in the ledger.
    proxy: String,
}

/// A reply, with its body.
pub(super) enum Captured {
    Reply { status: u16, body: Bytes },
    TimedOut,
    Cut,
    NotSent,
}

/// Longest reply, bytes.
const MAX_REPLY: usize = 64 * 1024;
/// Pause before a report is sent to the relay again.
const TELL_AGAIN: Duration = Duration::from_millis(500);

// === impl Relayed ===

impl Relayed {
    pub(super) fn new(relay: watch::Receiver<Router>, proxy: String) -> Self {
        Self { relay, proxy }
    }

    /// Reports a note to the relay until the note is on disk. Otherwise a request that ended while the ledger was not
    /// writable would look like one that died, and its answer could be fetched again.
    pub(super) async fn over(&self, note: Note) {
        let Some(ending) = note.ending() else { return };
        let mut body = Vec::new();
        ending.write(&mut body);
        while let Some(request) = self.request("/over", body.clone(), &[]) {
            let Ok(told) = self.relay().oneshot(request).await;
            if told.status() != StatusCode::SERVICE_UNAVAILABLE || ending.end == End::NotYet {
                return;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
    }

    fn relay(&self) -> Router {
        self.relay.borrow().clone()
    }

    fn request(
        &self,
        path: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
    ) -> Option<Request<Body>> {
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(RELAY_PROXY, &self.proxy);
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        request.body(Body::from(body)).ok()
    }

    /// Makes a call. A settlement that has begun continues if this future is dropped.
    pub(super) async fn call(&self, call: Call) -> Captured {
        let path = ["/", call.operation.name()].concat();
        let Some(request) = self.request(&path, call.body, &call.headers) else {
            return Captured::NotSent;
        };
        let limit = Duration::from_millis(u64::from(call.timeout_ms));
        let reply = async {
            let Ok(response) = self.relay().oneshot(request).await;
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
    pub(super) fn as_end(&self) -> CallEnd<'_> {
        match self {
            Self::Reply { status, body } => CallEnd::Reply { status: *status, body },
            Self::TimedOut => CallEnd::TimedOut,
            Self::Cut => CallEnd::Cut,
            Self::NotSent => CallEnd::NotSent,
        }
    }
}
