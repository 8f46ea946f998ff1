//! The companion's own server.
//!
//! * `GET /metrics`: Prometheus text, or OpenMetrics if the reader prefers it; 503 while the counters of the rules in
//!   force are not read from the ledger yet
//! * `GET /healthz`: 200 while the process lives
//! * `GET /readyz`: 200 once rules are in force and published and each facilitator has said what it supports, until the
//!   companion is told to stop; else 503 with the cause
//! * `GET /status`: JSON for people and scripts
//! * `GET /traefik`: the dynamic configuration, for Traefik's HTTP provider; 503 until rules are in force
//!
//! Other paths are answered 404, and other methods than GET and HEAD 405.

mod exposition;
mod facts;
mod families;
mod pages;
#[cfg(test)]
mod parser;
mod readiness;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::json as document;
use tracing::{info, warn};

use crate::clock::unix_seconds;
use crate::counts::Gatherer;
use crate::port::{Descriptors, Limits, Protocol, Share};
use crate::publish::Endpoint;

use exposition::Format;
use families::Families;
use pages::Pages;

pub use facts::Shared;

/// The state that the handlers share.
#[derive(Debug, Clone)]
struct Context {
    state: Shared,
    gatherer: Option<Arc<Gatherer>>,
    pages: Arc<Pages>,
}

/// Time limits: for the head of a request, for a silent connection, and for reading an answer. Monitoring systems ask at
/// least once a minute.
const HEAD: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(90);
const WRITE: Duration = Duration::from_secs(10);
/// How often the readiness is checked for the log.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest head of a request, bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The limits of the port.
pub fn limits(descriptors: Descriptors) -> Limits {
    let connections = descriptors.of(Share::Metrics);
    Limits {
        protocol: Protocol::Http1,
        connections,
        requests: connections,
        head_bytes: MAX_HEAD,
        head: HEAD,
        idle: IDLE,
        write: WRITE,
    }
}

/// The server's routes. Without a `gatherer` (during the start, or if nothing is counted) pages show the counts so far.
/// Without an `endpoint` there is no `/traefik`.
pub fn router(state: Shared, gatherer: Option<Arc<Gatherer>>, endpoint: Option<Endpoint>) -> Router {
    let traefik = match endpoint {
        Some(endpoint) => Router::new().route("/traefik", get(async move || traefik(endpoint.text().await))),
        None => Router::new(),
    };
    traefik
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status_json))
        .layer(middleware::from_fn(read_only))
        .with_state(Context { state, gatherer, pages: Arc::default() })
}

async fn read_only(request: Request, next: Next) -> Response {
    if [Method::GET, Method::HEAD].contains(request.method()) {
        return next.run(request).await;
    }
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response()
}

async fn metrics(State(context): State<Context>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    match context.page(format).await {
        Ok(page) => ([(header::CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

// === impl Context ===

impl Context {
    /// A page of metrics that was begun after the request. An error before the ledger is read, because a reader would
    /// take a family that is missing on one page for a family that ended.
    async fn page(&self, format: Format) -> Result<Bytes, (StatusCode, String)> {
        self.pages
            .get(format, async || {
                if let Some(gatherer) = &self.gatherer {
                    gatherer.show().await;
                    if self.state.counted.lock().are_unread() {
                        let cause = "the counters of the ledger have not been read yet\n".to_owned();
                        return Err((StatusCode::SERVICE_UNAVAILABLE, cause));
                    }
                }
                let state = self.state.clone();
                // A page for thousands of offers takes tens of milliseconds, and must not block other requests.
                let page = tokio::task::spawn_blocking(move || {
                    let families = Families::of(&state, unix_seconds());
                    families.page(format)
                });
                let failed = |error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
                page.await.map(Bytes::from).map_err(failed)
            })
            .await
    }
}

async fn healthz() -> Response {
    json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

/// Logs why the companion is not ready, if no other log line says it. Never returns.
pub async fn log_readiness(state: Shared) {
    let (mut unready, mut traefik) = (None, None);
    loop {
        let now = unix_seconds();
        let found = {
            let facts = state.lock();
            if facts.is_stopping {
                return;
            }
            (facts.unlogged(now), facts.traefik_trouble(now))
        };
        log_change(&mut unready, found.0, "not ready: ");
        log_change(&mut traefik, found.1, "");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn log_change(told: &mut Option<String>, found: Option<String>, what: &str) {
    match (&*told, &found) {
        (told, found) if told == found => {}
        (_, Some(cause)) => warn!("{what}{cause}"),
        (Some(cause), None) => info!("no longer so: {cause}"),
        (None, None) => {}
    }
    *told = found;
}

async fn readyz(State(context): State<Context>) -> Response {
    let state = context.state.lock();
    match state.not_ready() {
        None => {
            let closed: Vec<_> = state.closed().into_iter().map(|chain| chain.cause).collect();
            let mut ready = document!({ "status": "ready" });
            if !closed.is_empty() {
                ready["closed"] = closed.into();
            }
            json(StatusCode::OK, ready.to_string())
        }
        Some(cause) => (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n")).into_response(),
    }
}

async fn status_json(State(context): State<Context>) -> Response {
    let status = status::of(&context.state, unix_seconds());
    json(StatusCode::OK, format!("{status:#}\n"))
}

fn traefik(text: Result<String, &'static str>) -> Response {
    match text {
        Ok(text) => json(StatusCode::OK, text),
        Err(cause) => (StatusCode::SERVICE_UNAVAILABLE, cause).into_response(),
    }
}

fn json(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body)
        .into_response()
}
