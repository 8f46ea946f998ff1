//! One request: passes events to the core and carries out its effects.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::Now;
use farebox_core::exchange::refusal::Cause;
use farebox_core::exchange::{
    self, Arrival, Calling, Delivering, HeaderEdits, Next, Note, Reply, RequestHead, ResponseHead,
    ResponseOrigin, Transport, Turn, Upstream, may_leave_unread,
};
use farebox_core::metrics::{FailureReason, Stamp, TupleCounter};
use farebox_core::payment::GOES_ON_EVERY_MS;
use farebox_core::protocol::RELAY_KNOWN;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::body::{End, Ended, RequestBody, ResponseBody, Upload};
use super::deployment::{Deployment, Place, Target};
use super::going::Going;
use super::upstream::Failure;
use super::{Shared, headers, upgrade};
use crate::clock::unix_millis;
use crate::relay::fresh_holder;

/// A request's exchange. If it is dropped before its end, because its client has left, it is abandoned, and the relay
/// gets the core's notes.
struct Exchange {
    shared: Arc<Shared>,
    deployment: Arc<Deployment>,
    stage: Stage,
    /// The stamps so far. They are counted together when the exchange ends, before its answer is sent.
    stamps: Vec<Stamp>,
}

/// The state of the exchange.
enum Stage {
    /// It waits for the relay.
    Facilitator(Box<Calling>),
    /// It waits for the response head to a paid request.
    Response(Box<Upstream>),
    /// It waits for nothing.
    Nothing,
}

/// The next step of a request after the core's decision.
enum Step {
    Reply(Reply),
    Forward(HeaderEdits),
    Serve(HeaderEdits),
    Release(HeaderEdits, Option<Delivering>),
}

/// Values that live until the last byte of a response.
enum Rest {
    /// The delivery, if its end matters to the payment.
    Sold(Option<Delivering>),
    /// Its place among the unpaid requests.
    Free(OwnedSemaphorePermit),
}

/// A request on its way to an upstream.
struct Asked {
    parts: Parts,
    /// Path and query as the client sent them.
    path: String,
    host: Option<HeaderValue>,
    peer: SocketAddr,
    body: RequestBody,
    upload: Arc<Upload>,
    /// The client's connection, if the client asks for a WebSocket.
    upgrade: Option<OnUpgrade>,
}

/// An upstream's answer.
struct Answered {
    response: Response<Incoming>,
    upload: Arc<Upload>,
    /// Both connections, if both sides agreed to switch.
    tunnel: Option<(OnUpgrade, OnUpgrade)>,
}

/// Answers one request.
pub(super) async fn handle(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<ResponseBody> {
    let asked_upgrade = upgrade::is_asked(&request).then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let host = match headers::host_of(&parts) {
        Ok(host) => host,
        Err(bad) => return own(400, &format!("Bad request: {}", bad.0), "bad_request", false),
    };
    if parts.method == Method::CONNECT {
        return own(405, "Request refused: CONNECT is not served", "method_not_allowed", false);
    }
    let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str).to_owned();
    shared.deployments.reached();
    let current = shared.deployments.current();
    let lines = headers::lines(&parts, &path, host.as_ref(), current.rules.settings.trust_forwarded);
    let head = RequestHead { headers: &lines, transport: Transport { tls: false, peer: Some(peer.ip()) } };
    let Some(holder) = fresh_holder() else {
        return own(503, "This machine gives no random bytes", "internal_error", true);
    };
    let arrival = Arrival { now: now(), holder };
    let (target, turn) = decide(&current, &head, &path, arrival).await;
    let (deployment, turn) = as_asked_before(&shared, &head, current.clone(), turn, arrival);
    drop(lines);

    let mut exchange = Exchange {
        shared: shared.clone(),
        deployment: deployment.clone(),
        stage: Stage::Nothing,
        stamps: Vec::new(),
    };
    let step = exchange.advance(turn).await;
    let (edits, place) = match step {
        Step::Reply(reply) => return reply_of(reply),
        Step::Forward(edits) => match shared.unpaid.clone().try_acquire_owned() {
            Ok(place) => (edits, Some(place)),
            Err(_) => return crowded(),
        },
        Step::Serve(edits) => (edits, None),
        Step::Release(..) => return exchange.fail_closed("a response was released without an answer"),
    };
    let Some(target) = target else {
        return exchange.fail_closed("a request was forwarded that leads nowhere");
    };
    let upload = Upload::new(shared.settings.response_timeout);
    let body = RequestBody::new(body, shared.settings.idle_timeout, upload.clone());
    let asked = Asked { parts, path, host, peer, body, upload, upgrade: asked_upgrade };
    let going = exchange.going();
    let sent = send(&shared, &deployment, target, asked, &edits).await;
    drop(going);
    match place {
        Some(place) => exchange.pass(sent, place),
        None => exchange.serve(sent).await,
    }
}

/// The first turn of a request, with its upstream if it is sent on.
async fn decide<'a>(
    deployment: &'a Arc<Deployment>,
    head: &RequestHead<'_>,
    path: &str,
    arrival: Arrival,
) -> (Option<&'a Target>, Turn) {
    let rules = &deployment.rules;
    let target = match deployment.place(path) {
        Place::Answered => None,
        Place::Unknown(route) => return (None, exchange::unroutable(rules, head, route)),
        Place::Target(target, route) => {
            if !target.is_usable().await {
                return (None, exchange::unroutable(rules, head, route));
            }
            Some(target)
        }
    };
    let Ok(turn) = exchange::begin(rules, head, || Ok::<_, Infallible>(arrival));
    (target, turn)
}

/// Accepts a payment for terms that were replaced a moment ago. A Traefik in front takes new rules later than the
/// gateway, and would send a buyer the old terms again and again. If this Traefik says that the payment fails under its
/// own rules, it has the new rules, and the turn stays as it is.
fn as_asked_before(
    shared: &Shared,
    head: &RequestHead<'_>,
    current: Arc<Deployment>,
    turn: Turn,
    arrival: Arrival,
) -> (Arc<Deployment>, Turn) {
    if head.headers.iter().any(|(name, _)| *name == RELAY_KNOWN) {
        return (current, turn);
    }
    let unmatched = TupleCounter::PaymentFailed(FailureReason::NoMatchingRequirement);
    let is_outdated = match &turn.next {
        Next::Call(calling) => calling.unless_known().is_some(),
        _ => {
            turn.stamps.iter().any(|stamp| matches!(stamp, Stamp::Tuple(_, counter) if *counter == unmatched))
        }
    };
    if is_outdated {
        for before in shared.deployments.asked_before() {
            let Ok(bought) = exchange::begin(&before.rules, head, || Ok::<_, Infallible>(arrival));
            if matches!(&bought.next, Next::Call(calling) if calling.unless_known().is_none()) {
                return (before, bought);
            }
        }
    }
    (current, turn)
}

/// Sends a request on, with the core's edits and the headers that a proxy adds.
async fn send(
    shared: &Shared,
    deployment: &Deployment,
    target: &Target,
    asked: Asked,
    edits: &HeaderEdits,
) -> Result<Answered, Failure> {
    let Asked { parts, path, host, peer, body, upload, upgrade } = asked;
    let path = edits.set.iter().find(|(name, _)| name == ":path").map_or(path, |(_, path)| path.clone());
    let uri = Uri::builder()
        .scheme(target.scheme.clone())
        .authority(target.authority.clone())
        .path_and_query(target.path(parts.method.as_str(), &path))
        .build()
        .map_err(|error| {
            warn!(upstream = %target.authority, "a request target cannot be sent on: {error}");
            Failure::Unavailable
        })?;
    let is_http2 = shared.upstreams.speaks_http2() && upgrade.is_none();
    let wants_trailers = headers::has_token(&parts.headers, &header::TE, "trailers");
    let mut headers = parts.headers;
    headers::end_to_end(&mut headers);
    headers::edit(&mut headers, edits);
    headers::forwarded(&mut headers, host.as_ref(), peer.ip(), deployment.rules.settings.trust_forwarded);
    // The server sends `100 Continue` to a waiting client when it reads the body.
    headers.remove(header::EXPECT);
    headers.remove(header::HOST);
    headers.remove(RELAY_KNOWN);
    if is_http2 {
        if wants_trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    } else {
        headers::join_cookies(&mut headers);
        if let Some(host) = host.filter(|_| shared.settings.preserve_host) {
            headers.insert(header::HOST, host);
        }
    }
    if parts.method == Method::TRACE {
        // An upstream echoes a TRACE request with all its headers.
        headers.remove(header::AUTHORIZATION);
    } else if let Some(authorization) = &target.authorization {
        let value = authorization.value().await.map_err(|error| {
            warn!(upstream = %target.authority, "upstreamAuth: {error}");
            Failure::Unavailable
        })?;
        headers.insert(header::AUTHORIZATION, value);
    }
    if upgrade.is_some() {
        upgrade::restore(&mut headers);
    }
    // An HTTP client would take a GET without a length for one without a body. A body that an upstream may leave unread
    // is sent in chunks, because chunks cannot be read as a request.
    let in_chunks = body.size_hint().exact().is_none() || may_leave_unread(parts.method.as_str().as_bytes());
    if !is_http2 && !body.is_end_stream() && in_chunks {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let mut response = shared.upstreams.send(request, &upload, upgrade.is_some()).await?;
    let mut tunnel = None;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // An upstream must not switch to a protocol that the client did not ask for, because the client would misread
        // the following bytes.
        let client = upgrade.filter(|_| upgrade::is_websocket(response.headers())).ok_or_else(|| {
            warn!(upstream = %target.authority, "the upstream switched protocols without being asked");
            Failure::Switched
        })?;
        tunnel = Some((client, hyper::upgrade::on(&mut response)));
    }
    headers::end_to_end(response.headers_mut());
    Ok(Answered { response, upload, tunnel })
}

// === impl Exchange ===

impl Exchange {
    /// Carries out effects up to the next step of the request.
    async fn advance(&mut self, mut turn: Turn) -> Step {
        loop {
            self.count(&mut turn);
            turn = match turn.next {
                // The relay keeps the payments.
                Next::Step(_) => return Step::Reply(exchange::internal()),
                Next::Call(state) => {
                    let call = state.call().clone();
                    self.stage = Stage::Facilitator(state);
                    let captured = self.shared.relayed.call(call).await;
                    match std::mem::replace(&mut self.stage, Stage::Nothing) {
                        Stage::Facilitator(state) => state.answered(captured.as_end(), now()),
                        Stage::Response(_) | Stage::Nothing => return Step::Reply(exchange::internal()),
                    }
                }
                Next::Forward(edits, _passing) => return Step::Forward(edits),
                Next::Serve(edits, upstream) => {
                    self.stage = Stage::Response(upstream);
                    return Step::Serve(edits);
                }
                Next::Release(edits, delivering) => return Step::Release(edits, delivering),
                Next::Reply(reply) => return Step::Reply(reply),
            };
        }
    }

    /// Passes an unpaid response on.
    fn pass(self, sent: Result<Answered, Failure>, place: OwnedSemaphorePermit) -> Response<ResponseBody> {
        match sent {
            Ok(answered) => self.release(answered, &HeaderEdits::default(), Rest::Free(place)),
            Err(Failure::Client) => broken_off(),
            Err(Failure::Slow) => too_slow(),
            Err(Failure::TimedOut) => refused(Cause::UpstreamTimeout),
            Err(Failure::Unavailable) => refused(Cause::UpstreamUnavailable),
            Err(Failure::Switched) => refused(Cause::UnexpectedUpgrade),
        }
    }

    /// Continues with the response to a paid request.
    async fn serve(mut self, sent: Result<Answered, Failure>) -> Response<ResponseBody> {
        match sent {
            Err(Failure::Client) => {
                self.end();
                return broken_off();
            }
            Err(Failure::Slow) => {
                self.end();
                return too_slow();
            }
            _ => {}
        }
        let Stage::Response(state) = std::mem::replace(&mut self.stage, Stage::Nothing) else {
            return self.fail_closed("an answer came that the exchange did not wait for");
        };
        let turn = match &sent {
            Ok(Answered { response, .. }) => {
                let lines = headers::response_lines(response.headers());
                let status = response.status().as_u16();
                let head = ResponseHead { status, headers: &lines, origin: ResponseOrigin::Upstream };
                state.response(&head, now())
            }
            Err(failure) => {
                let (status, origin) = match failure {
                    Failure::TimedOut => (504, ResponseOrigin::ProxyTimeout),
                    Failure::Unavailable | Failure::Client | Failure::Slow => {
                        (502, ResponseOrigin::ProxyUnavailable)
                    }
                    Failure::Switched => (502, ResponseOrigin::ProxyRefusedSwitch),
                };
                state.response(&ResponseHead { status, headers: &[], origin }, now())
            }
        };
        match (self.advance(turn).await, sent) {
            (Step::Reply(reply), _) => reply_of(reply),
            (Step::Release(edits, delivering), Ok(answered)) => {
                self.release(answered, &edits, Rest::Sold(delivering))
            }
            _ => self.fail_closed("an answer was released that never came"),
        }
    }

    /// Releases a response.
    fn release(self, answered: Answered, edits: &HeaderEdits, rest: Rest) -> Response<ResponseBody> {
        let Answered { response, upload, tunnel } = answered;
        let (delivering, place) = match rest {
            Rest::Sold(delivering) => (delivering, None),
            Rest::Free(place) => (None, Some(place)),
        };
        let guarded = place.is_none();
        let (mut parts, body) = response.into_parts();
        headers::edit(&mut parts.headers, edits);
        let mut released = Response::new(());
        *released.status_mut() = parts.status;
        *released.headers_mut() = parts.headers;
        if let Some((client, upstream)) = tunnel {
            upgrade::restore(released.headers_mut());
            // The switch is the paid answer. The following bytes belong to client and upstream.
            if let Some(delivering) = delivering {
                let over = delivering.ended(false, now());
                self.shared.meters.count(&self.deployment.rules, &over.stamps);
                tell(&self.shared, over.notes);
            }
            self.shared.spawn(async move {
                upgrade::tunnel(client, upstream).await;
                drop(place);
            });
            return released.map(|()| ResponseBody::own(""));
        }
        let (shared, deployment) = (self.shared.clone(), self.deployment.clone());
        let end = delivering.map_or_else(
            || place.map(|place| End::new(move |_| drop(place))),
            |delivering| {
                let going = goes_on(&shared, delivering.goes_on());
                Some(End::new(move |ended| {
                    drop(going);
                    let over = delivering.ended(ended == Ended::Broken, now());
                    shared.meters.count(&deployment.rules, &over.stamps);
                    tell(&shared, over.notes);
                }))
            },
        );
        let idle = self.shared.settings.idle_timeout;
        released.map(|()| ResponseBody::upstream(body, idle, upload, guarded, end))
    }

    /// Renews the reservation while the upstream works.
    fn going(&self) -> Option<Going> {
        match &self.stage {
            Stage::Response(state) => Some(goes_on(&self.shared, state.goes_on())),
            Stage::Facilitator(_) | Stage::Nothing => None,
        }
    }

    fn count(&mut self, turn: &mut Turn) {
        self.stamps.append(&mut turn.stamps);
        tell(&self.shared, std::mem::take(&mut turn.notes));
    }

    /// Ends the exchange of a client that has left.
    fn end(&mut self) {
        let abandoned = match std::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Facilitator(state) => state.abandoned(),
            Stage::Response(state) => state.abandoned(),
            Stage::Nothing => return,
        };
        self.stamps.extend_from_slice(&abandoned.stamps);
        tell(&self.shared, abandoned.notes);
    }

    /// Ends the exchange after an internal error. The request is answered and cannot be served any more.
    fn fail_closed(mut self, what: &str) -> Response<ResponseBody> {
        tracing::error!("{what}");
        self.end();
        reply_of(exchange::internal())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end();
        self.shared.meters.count(&self.deployment.rules, &self.stamps);
    }
}

/// Renews the reservation of a request until the returned value is dropped.
fn goes_on(shared: &Arc<Shared>, notes: Vec<Note>) -> Going {
    // A weak reference, because the shutdown waits for every strong one.
    let shared = Arc::downgrade(shared);
    Going::start(Duration::from_millis(GOES_ON_EVERY_MS), move || {
        let (shared, notes) = (shared.upgrade(), notes.clone());
        async move {
            let Some(shared) = shared else { return };
            for note in notes {
                shared.relayed.over(note).await;
            }
        }
    })
}

/// Reports ends of requests to the relay, without waiting for the answer.
fn tell(shared: &Arc<Shared>, notes: Vec<Note>) {
    for note in notes {
        let teller = shared.clone();
        shared.spawn(async move { teller.relayed.over(note).await });
    }
}

/// The time of the event being handled.
fn now() -> Now {
    Now { unix_ms: unix_millis() }
}

fn reply_of(reply: Reply) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::own(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::with_capacity(reply.headers.len());
    for (name, value) in reply.headers {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = parsed {
            headers.append(name, value);
        }
    }
    *response.headers_mut() = headers;
    response
}

/// The answer to a failed unpaid request, in the words of the core's table.
fn refused(cause: Cause) -> Response<ResponseBody> {
    let row = cause.row();
    own(row.status, &format!("{}: {}", row.error, row.message), row.reason, row.retriable)
}

/// The answer to a client that broke off its own request; the client will rarely read it.
fn broken_off() -> Response<ResponseBody> {
    closing(own(400, "Bad request: the body broke off", "bad_request", false))
}

fn too_slow() -> Response<ResponseBody> {
    closing(own(408, "Request refused: its body came too slowly", "request_timeout", true))
}

/// The answer if only the places for paid requests are left.
fn crowded() -> Response<ResponseBody> {
    let mut response = own(503, "Too many unpaid requests are under way", "overloaded", true);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Closes the connection after this answer, without reading more of it.
fn closing(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn own(status: u16, error: &str, reason: &str, retriable: bool) -> Response<ResponseBody> {
    let body = json!({ "error": error, "reason": reason, "retriable": retriable });
    let mut response = Response::new(ResponseBody::own(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
