//! One listener for every port of the companion: metrics, relay, discovery and gateway. A client without a key or
//! money costs one descriptor for a short time, and never takes the last one.
//!
//! * A connection that has not sent its first whole request in time is closed, even if it has sent a part. A
//!   connection that is silent for too long between requests is closed, too. [`stream`] has these deadlines, and drops
//!   a client that stops reading.
//! * A port has a limited number of connections, a share of the descriptors of the process ([`files`]). If all are
//!   taken, one is closed for a new one: the connection that has waited longest for its first request, else for its
//!   client to read, else for its next request. A connection with a request under way whose client reads is never
//!   closed for another. [`connections`] decides.
//! * A port has a limited number of requests under way. Further requests are answered 503.
//! * With TLS, the handshake is part of the wait for the first request.
//! * At its end a port stops listening, lets requests under way finish, and drops the rest when the time is over.

mod body;
mod connections;
mod files;
mod socket;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::settings::{Listen, TlsSettings};

use body::Watched;
use connections::{Admission, Connections, Slot};
use socket::{Raw, Socket};
use stream::Guarded;
use tls::Tls;

pub(crate) use connections::Arrival;
pub use files::{Descriptors, Share};

/// A port, bound to its address.
#[derive(Debug)]
pub struct Port {
    /// The name of its setting, for messages.
    name: &'static str,
    socket: Socket,
    tls: Option<Tls>,
    limits: Limits,
    connections: Connections,
}

/// The limits of a port for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The protocol.
    pub protocol: Protocol,
    /// Connections at a time.
    pub connections: usize,
    /// Requests under way at a time.
    pub requests: usize,
    /// Longest request head, bytes.
    pub head_bytes: usize,
    /// Longest time for a request head. The first head counts from the accept of the connection, each further head
    /// from its first byte.
    pub head: Duration,
    /// Longest silence between two requests, and of a connection that has switched protocols.
    pub idle: Duration,
    /// Longest time for which a client may read nothing of an answer.
    pub write: Duration,
}

/// The protocol of a port, without or with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 from the first byte.
    Http2,
    /// Either.
    Both,
}

/// The address of the client; a Unix socket has none. Each request has it as an extension.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<SocketAddr>);

/// An answer of a port.
type Answer<B> = Response<Either<Watched<B>, Full<Bytes>>>;

/// Interval of pings on HTTP/2 connections, and the time for the reply to each.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const ALIVE: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection.
const STREAMS: u32 = 128;
/// Most header lines of a request.
const MAX_HEADERS: usize = 256;
/// Pause after a failed accept, because the usual cause is a lack of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Pause before the next try to get a place.
const MOMENT: Duration = Duration::from_millis(2);
/// Pause between two log lines about a full port.
const LOG_AGAIN: Duration = Duration::from_secs(60);

// === impl Port ===

impl Port {
    /// Reads the certificates and listens. `name` is the setting of the address.
    pub async fn bind(
        name: &'static str,
        listen: &Listen,
        tls: Option<&TlsSettings>,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let tls = tls.map(|files| Tls::load(files.clone(), limits.protocol)).transpose()?;
        let socket =
            Socket::bind(listen).await.with_context(|| format!("{name}: cannot listen on {listen}"))?;
        Ok(Self { name, socket, tls, limits, connections: Connections::new(limits.connections) })
    }

    /// The address on which it listens.
    pub fn address(&self) -> std::io::Result<Listen> {
        self.socket.address()
    }

    /// Whether it speaks TLS.
    pub const fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// See [`Self::serve`]. Each request goes to the router that is current when the request arrives.
    pub async fn serve_router(
        self,
        router: watch::Receiver<Router>,
        finished: watch::Receiver<()>,
        grace: Duration,
    ) -> Instant {
        self.serve(
            move |request: Request<Incoming>| {
                let router = router.borrow().clone();
                async move {
                    let Ok(response) = router.oneshot(request).await;
                    response
                }
            },
            finished,
            grace,
        )
        .await
    }

    /// Serves until `finished`, then until the requests under way end, but no longer than `grace`. Returns the end of
    /// this time.
    pub async fn serve<S, F, B>(
        self,
        service: S,
        mut finished: watch::Receiver<()>,
        grace: Duration,
    ) -> Instant
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let Self { name, socket, mut tls, limits, connections } = self;
        let requests = Arc::new(Semaphore::new(limits.requests));
        let mut open = JoinSet::new();
        let mut told = Told::default();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                Some(_) = open.join_next() => continue,
                _ = finished.changed() => break,
            };
            let (raw, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    told.now_and_then(|| warn!("{name}: a connection cannot be accepted: {error}"));
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            raw.prepare();
            let Some(slot) = room(&connections, &Arc::new(raw)).await else {
                told.now_and_then(|| {
                    warn!(
                        "{name}: a client is turned away: each of {} connections has a request under way",
                        limits.connections
                    );
                });
                continue;
            };
            let connection = Connection {
                tls: tls.as_mut().map(Tls::current),
                limits,
                requests: requests.clone(),
                service: service.clone(),
            };
            open.spawn(connection.serve(peer, slot, finished.clone()));
        }
        drop(socket);
        let end = Instant::now() + grace;
        let all = async { while open.join_next().await.is_some() {} };
        if timeout_at(end, all).await.is_err() {
            if !grace.is_zero() {
                warn!("{name}: requests still open after {grace:?} are dropped");
            }
            open.shutdown().await;
        }
        end
    }
}

/// Takes a place for a connection. `None` if each connection has a request under way.
async fn room(connections: &Connections, raw: &Arc<Raw>) -> Option<Slot> {
    loop {
        // Connections that were closed for others must free their descriptors before more are taken.
        if !connections.are_too_many() {
            match connections.admit(raw) {
                Admission::Now(slot) => return Some(slot),
                Admission::Soon => {}
                Admission::Never => return None,
            }
        }
        tokio::time::sleep(MOMENT).await;
    }
}

/// Limits a log line to once a minute.
#[derive(Default)]
struct Told(Option<Instant>);

impl Told {
    fn now_and_then(&mut self, say: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() >= LOG_AGAIN) {
            self.0 = Some(Instant::now());
            say();
        }
    }
}

/// Serves one connection.
pub(crate) struct Connection<S> {
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Limits,
    requests: Arc<Semaphore>,
    service: S,
}

// === impl Connection ===

impl<S> Connection<S> {
    async fn serve<F, B>(self, peer: Peer, slot: Slot, finished: watch::Receiver<()>)
    where
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let slot = Arc::new(slot);
        let stream = Guarded::new(slot.clone(), self.limits);
        let Some(config) = self.tls.clone() else {
            return self.converse(stream, peer, slot, finished).await;
        };
        // The stream ends the handshake of a silent client.
        match tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => self.converse(stream, peer, slot, finished).await,
            Err(cause) => debug!(?peer, "a TLS handshake failed: {cause}"),
        }
    }

    async fn converse<I, F, B>(self, io: I, peer: Peer, slot: Arc<Slot>, mut finished: watch::Receiver<()>)
    where
        I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let Self { limits, requests, service, .. } = self;
        let service = service_fn(move |mut request: Request<Incoming>| {
            let under_way = slot.begin(request.version() == Version::HTTP_2);
            let permit = requests.clone().try_acquire_owned();
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(Arrival::of(&slot));
            let answered = permit.ok().map(|permit| (service(request), permit));
            let slot = slot.clone();
            async move {
                let Some((answer, permit)) = answered else { return Ok::<_, Infallible>(overloaded()) };
                let response = answer.await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    slot.switch();
                }
                Ok(response.map(|body| Either::Left(Watched::new(body, under_way, permit))))
            }
        });
        let server = builder(&limits);
        let connection = server.serve_connection_with_upgrades(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            _ = finished.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            debug!(?peer, "a connection ended: {error}");
        }
    }
}

fn overloaded<B>() -> Answer<B> {
    let body =
        "{\"error\":\"too many requests are under way\",\"reason\":\"overloaded\",\"retriable\":true}\n";
    let mut response = Response::new(Either::Right(Full::from(body)));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::RETRY_AFTER, "1"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder = match limits.protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
        Protocol::Both => builder,
    };
    // The deadlines are in the stream, from the first byte on.
    builder.http1().header_read_timeout(None).max_headers(MAX_HEADERS).max_buf_size(limits.head_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(ALIVE)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .adaptive_window(true);
    builder
}
