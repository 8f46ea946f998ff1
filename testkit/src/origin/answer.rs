//! The answers of the origin, by name.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farebox_core::evm::{B256, keccak256};
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, UPGRADE,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::Hits;
use super::hint::Hint;

/// A sudden end: of a body, or of the connection before any answer.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub(super) struct Cut;

type Body = UnsyncBoxBody<Bytes, Cut>;

/// Bytes of `large` without a number.
pub(super) const LARGE: u64 = 20_000_000;
/// Bytes of one piece of it, a multiple of the pattern.
const PIECE: usize = 251 * 256;
/// `cut` announces this many bytes and sends less than half of them.
const CUT_ANNOUNCED: usize = 100_000;
/// The text `zipped` as gzip. A client that gets wrong bytes shows that.
const ZIPPED: [u8; 26] = [
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 0xff, 0xab, 0xca, 0x2c, 0x28, 0x48, 0x4d, 1, 0, 0x57, 0x68, 0xc2, 0xe2,
    6, 0, 0, 0,
];

/// The answer to a path. The number is the segment after the name, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Plain JSON: method, path, query and headers as they arrived, size and Keccak-256 of the body, number of this
    /// hit.
    Echo,
    /// `slow/MS`: the plain JSON after a while (1,500 ms).
    Slow(u64),
    /// `events/N`: N (5) server-sent events, 300 ms apart.
    Events(u64),
    /// `status/CODE`, `fail/CODE`: that status (500), with a small JSON body and a `Location`.
    Status(u16),
    /// `redirect`: 302.
    Redirect,
    /// `large/N`: N bytes (20 MB), see [`pattern`], with a length.
    Large(u64),
    /// `cut`: a body that ends before its announced length.
    Cut,
    /// `empty`: 204.
    Empty,
    /// `gzip`: a compressed body.
    Gzip,
    /// `forge`: 200 with receipts, a challenge and facilitator headers of the origin's own making.
    Forge,
    /// `cacheable`: 200 that asks shared caches to keep it.
    Cacheable,
    /// `hints`: the plain JSON after a 103.
    Hints,
    /// `socket`: 101, even if the client did not ask for it; then every byte is sent back.
    Socket,
    /// `hang`: never an answer.
    Hang,
    /// `held`: the plain JSON once the test lets it go, see [`Hits::let_go`].
    Held,
    /// `close`: the connection ends without an answer.
    Close,
}

// === impl Answer ===

impl Answer {
    /// Reads the answer from a path.
    pub fn of(path: &str) -> Self {
        let mut segments = path.split('/');
        while let Some(segment) = segments.next() {
            let number = || segments.clone().next().and_then(|next| next.parse().ok());
            return match segment {
                "slow" => Self::Slow(number().unwrap_or(1500)),
                "events" => Self::Events(number().unwrap_or(5)),
                "status" | "fail" => {
                    let code = number().and_then(|code| u16::try_from(code).ok());
                    Self::Status(code.filter(|code| (200..1000).contains(code)).unwrap_or(500))
                }
                "redirect" => Self::Redirect,
                "large" => Self::Large(number().unwrap_or(LARGE)),
                "cut" => Self::Cut,
                "empty" => Self::Empty,
                "gzip" => Self::Gzip,
                "forge" => Self::Forge,
                "cacheable" => Self::Cacheable,
                "hints" => Self::Hints,
                "socket" => Self::Socket,
                "hang" => Self::Hang,
                "held" => Self::Held,
                "close" => Self::Close,
                _ => continue,
            };
        }
        Self::Echo
    }
}

pub(super) async fn answer(
    mut request: Request<Incoming>,
    hits: Arc<Hits>,
    hint: Hint,
) -> Result<Response<Body>, Cut> {
    let path = request.uri().path().to_owned();
    if path == "/origin/hits" {
        return Ok(json_response(StatusCode::OK, &json!(hits.all())));
    }
    let hit = hits.count(&path);
    let answer = Answer::of(&path);
    if answer == Answer::Socket {
        return Ok(socket(&mut request));
    }
    let echo =
        if matches!(answer, Answer::Hang | Answer::Close) { Value::Null } else { echo(request, hit).await };
    let ok = || json_response(StatusCode::OK, &echo);
    let response = match answer {
        Answer::Echo => ok(),
        Answer::Hints => {
            hint.give();
            ok()
        }
        Answer::Slow(milliseconds) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            ok()
        }
        Answer::Held => {
            while !hits.is_let_go(&path) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            ok()
        }
        Answer::Events(count) => {
            let mut response = Response::new(events(count));
            set(&mut response, CONTENT_TYPE, "text/event-stream");
            response
        }
        Answer::Status(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = json_response(status, &json!({ "status": code }));
            set(&mut response, LOCATION, "/made-here");
            response
        }
        Answer::Redirect => {
            let mut response = json_response(StatusCode::FOUND, &json!({ "moved": true }));
            set(&mut response, LOCATION, "/elsewhere");
            response
        }
        Answer::Large(length) => {
            let mut response = Response::new(large(length));
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            response
        }
        Answer::Cut => {
            let part = Ok(Frame::data(Bytes::from(vec![b'x'; CUT_ANNOUNCED * 2 / 5])));
            let end = stream::once(async {
                // Late enough for a settlement. Until then a proxy holds the response, and if the upstream ended
                // earlier, the response would not begin at all.
                tokio::time::sleep(Duration::from_secs(1)).await;
                Err(Cut)
            });
            let body = StreamBody::new(stream::iter([part]).chain(end)).boxed_unsync();
            let mut response = Response::new(body);
            response.headers_mut().insert(CONTENT_LENGTH, CUT_ANNOUNCED.into());
            response
        }
        Answer::Empty => {
            let mut response = Response::new(whole(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Answer::Gzip => {
            let mut response = Response::new(whole(Bytes::from_static(&ZIPPED)));
            set(&mut response, CONTENT_ENCODING, "gzip");
            response
        }
        Answer::Forge => {
            let mut response = ok();
            for name in ["payment-response", "x-payment-response", "payment-required", "extension-responses"]
            {
                response.headers_mut().append(name, "Zm9yZ2Vk".parse().expect("base64 is a header value"));
            }
            response
        }
        Answer::Cacheable => {
            let mut response = ok();
            set(&mut response, CACHE_CONTROL, "public, max-age=600, s-maxage=600");
            response
        }
        Answer::Hang => std::future::pending().await,
        Answer::Close | Answer::Socket => return Err(Cut),
    };
    Ok(response)
}

/// Switches to a protocol that sends every byte back.
fn socket(request: &mut Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        if let Ok(switched) = upgrade.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(switched));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    });
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    set(&mut response, CONNECTION, "upgrade");
    set(&mut response, UPGRADE, "websocket");
    response
}

/// Describes the request, after reading the whole body.
async fn echo(request: Request<Incoming>, hit: u64) -> Value {
    let (head, body) = request.into_parts();
    let headers: Vec<[String; 2]> = head
        .headers
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let hash = (!body.is_empty()).then(|| B256(keccak256(&body)).to_string());
    json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "bodyBytes": body.len(),
        "bodyHash": hash,
        "hit": hit,
    })
}

/// The byte at a position of a large body, so that a lost, doubled or moved byte is seen.
pub fn pattern(place: u64) -> u8 {
    u8::try_from(place % 251).unwrap_or(0)
}

fn large(length: u64) -> Body {
    let piece = Bytes::from((0..PIECE as u64).map(pattern).collect::<Vec<_>>());
    let pieces = stream::unfold(length, move |left| {
        let size = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let next = (size > 0).then(|| (Ok(Frame::data(piece.slice(..size))), left - size as u64));
        std::future::ready(next)
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn events(count: u64) -> Body {
    let events = stream::iter(1..=count).then(|number| async move {
        if number > 1 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {{\"event\":{number}}}\n\n"))))
    });
    StreamBody::new(events).map_err(|never| match never {}).boxed_unsync()
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "application/json");
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn set(response: &mut Response<Body>, name: hyper::header::HeaderName, value: &'static str) {
    response.headers_mut().insert(name, hyper::header::HeaderValue::from_static(value));
}
