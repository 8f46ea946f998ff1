//! The companion's own server.
//!
//! * `GET /metrics`: Prometheus text, or OpenMetrics where the reader prefers it
//! * `GET /healthz`: 200 while the process lives
//! * `GET /readyz`: 200 once rules are in force and published, else 503 with the cause
//! * `GET /status`: JSON for people and scripts
//! * `GET /traefik`: the dynamic configuration, for Traefik's HTTP provider; 503 until rules are in force
//!
//! Everything else is 404, every other method 405.

mod exposition;
mod families;
#[cfg(test)]
mod parser;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::collect::Collector;
use crate::publish::Endpoint;
use crate::state::{Shared, unix_seconds};

use exposition::Format;
use families::Families;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Context {
    state: Shared,
    collector: Arc<Collector>,
}

/// The server's routes. Without an `endpoint` there is no `/traefik`.
pub fn router(state: Shared, collector: Arc<Collector>, endpoint: Option<Endpoint>) -> Router {
    let traefik = match endpoint {
        Some(endpoint) => Router::new().route("/traefik", get(async move || traefik(endpoint.text().await))),
        None => Router::new(),
    };
    traefik
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status_json))
        .layer(middleware::from_fn(get_only))
        .with_state(Context { state, collector })
}

async fn get_only(request: Request, next: Next) -> Response {
    if request.method() == Method::GET {
        return next.run(request).await;
    }
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response()
}

async fn metrics(State(context): State<Context>, headers: HeaderMap) -> Response {
    context.collector.collect_on_demand().await;
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    // Thousands of offers take tens of milliseconds, in which others want to be served.
    let page = tokio::task::spawn_blocking(move || {
        let families = Families::of(&context.state.lock(), unix_seconds());
        families.page(format)
    });
    match page.await {
        Ok(page) => ([(header::CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn healthz() -> Response {
    json(StatusCode::OK, r#"{"status":"ok"}"#.to_owned())
}

async fn readyz(State(context): State<Context>) -> Response {
    match context.state.lock().not_ready() {
        None => json(StatusCode::OK, r#"{"status":"ready"}"#.to_owned()),
        Some(cause) => (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n")).into_response(),
    }
}

async fn status_json(State(context): State<Context>) -> Response {
    let status = status::of(&context.state.lock(), unix_seconds());
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
