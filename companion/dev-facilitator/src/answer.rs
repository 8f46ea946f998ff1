//! The bytes of an answer, from the outcome of a call and its mode of failure.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::listener::Connection;
use crate::mode::{Endpoint, Mode};

/// Header of every reply that names the development facilitator.
const WARNING: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-farebox-development"),
    HeaderValue::from_static("this facilitator moves no money"),
);

/// Time for bytes to be sent before the connection is cut.
const FLUSH: Duration = Duration::from_millis(30);

/// Sends the honest reply, or what `mode` makes of it.
pub(crate) async fn send(
    mode: &Mode,
    endpoint: Endpoint,
    honest: Value,
    connection: &Connection,
) -> Response<Body> {
    match mode {
        Mode::Honest
        | Mode::Invalid(_)
        | Mode::UnknownCode
        | Mode::Pending
        | Mode::PendingThenSuccess
        | Mode::WrongNetwork
        | Mode::AnotherPayer
        | Mode::SettledBut(_) => json_reply(200, &honest),
        Mode::Slow(delay) => {
            tokio::time::sleep(*delay).await;
            json_reply(200, &honest)
        }
        Mode::Hang | Mode::SuccessButHang => never().await,
        Mode::Reset => {
            connection.cut();
            json_reply(200, &honest)
        }
        Mode::SuccessUnder503 => json_reply(503, &honest),
        Mode::Status(status) => json_reply(*status, &json!({ "error": "asked to fail" })),
        Mode::Html(status) => {
            let page = "<html><body><h1>Bad gateway</h1></body></html>";
            reply(*status, "text/html", Body::from(page))
        }
        Mode::Garbage => reply(200, "application/json", Body::from("\u{fffd}not json")),
        Mode::WrongTypes => json_reply(200, &wrong_types(endpoint)),
        Mode::Redirect(status) => redirect(*status, format!("/moved/{endpoint}")),
        Mode::RedirectAway(status, url) => redirect(*status, format!("{url}/{endpoint}")),
        Mode::Truncated => {
            let whole = honest.to_string();
            let half = whole.as_bytes().split_at(whole.len() / 2).0.to_vec();
            cut_behind(half, whole.len())
        }
        Mode::CutAfterHeaders => cut_behind(Vec::new(), honest.to_string().len()),
    }
}

/// A JSON reply with the warning.
pub(crate) fn json_reply(status: u16, value: &Value) -> Response<Body> {
    reply(status, "application/json", Body::from(value.to_string()))
}

fn reply(status: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(WARNING.0, WARNING.1);
    response
}

fn redirect(status: u16, location: String) -> Response<Body> {
    let mut response = json_reply(status, &json!({}));
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// A reply that promises `promised` bytes and ends after `sent`.
fn cut_behind(sent: Vec<u8>, promised: usize) -> Response<Body> {
    let cut = stream::once(async {
        tokio::time::sleep(FLUSH).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let body = stream::iter((!sent.is_empty()).then(|| Ok(Bytes::from(sent)))).chain(cut);
    let mut response = reply(200, "application/json", Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
    response
}

fn wrong_types(endpoint: Endpoint) -> Value {
    match endpoint {
        Endpoint::Verify => json!({ "isValid": "true", "payer": 7 }),
        Endpoint::Settle => json!({ "success": "true", "transaction": 7, "network": ["eip155:84532"] }),
        Endpoint::Supported => json!({ "kinds": "all" }),
    }
}

async fn never() -> Response<Body> {
    match std::future::pending::<Infallible>().await {}
}
