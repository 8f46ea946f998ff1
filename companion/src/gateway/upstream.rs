//! Calls to the upstreams: pooled connections, with time limits for connecting and for the answer.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use farebox_core::exchange::may_leave_unread;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Builder};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::sleep_until;
use tracing::warn;

use super::body::{RequestBody, Upload};
use crate::settings::GatewaySettings;

type Client = legacy::Client<HttpsConnector<HttpConnector>, RequestBody>;

/// Sends requests to upstreams.
#[derive(Debug, Clone)]
pub(super) struct Upstreams {
    http1: Client,
    /// The same client without reuse of connections.
    alone: Client,
    /// An HTTP/2 client, if the operator says that upstreams speak HTTP/2.
    http2: Option<Client>,
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The upstream could not be reached or broke off before its head.
    Unavailable,
    /// The upstream did not answer in time.
    TimedOut,
    /// The upstream switched to a protocol that the client did not ask for.
    Switched,
    /// The client broke its request off.
    Client,
    /// The client sends its request too slowly.
    Slow,
}

/// How long an unused connection is kept. This is shorter than in most servers, so that few requests are sent on a
/// connection that the server is closing.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Keep-alive interval. A dead upstream is detected after some minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest response head, bytes.
const MAX_HEAD: usize = 256 * 1024;

// === impl Upstreams ===

impl Upstreams {
    pub(super) fn new(settings: &GatewaySettings) -> std::io::Result<Self> {
        let provider = rustls::crypto::ring::default_provider;
        let tls = || HttpsConnectorBuilder::new().with_provider_and_platform_verifier(provider());
        let http = || {
            let mut http = HttpConnector::new();
            http.enforce_http(false);
            http.set_nodelay(true);
            http.set_keepalive(Some(KEEPALIVE));
            http.set_connect_timeout(Some(settings.connect_timeout));
            http
        };
        let http1 = || Ok::<_, std::io::Error>(tls()?.https_or_http().enable_http1().wrap_connector(http()));
        let http2 = if settings.http2 {
            Some(tls()?.https_or_http().enable_http2().wrap_connector(http()))
        } else {
            None
        };
        Ok(Self {
            http1: builder().build(http1()?),
            alone: builder().pool_max_idle_per_host(0).build(http1()?),
            http2: http2.map(|connector| builder().http2_only(true).build(connector)),
        })
    }

    /// Whether a request is sent as HTTP/2, where the destination is part of the pseudo-headers.
    pub(super) const fn speaks_http2(&self) -> bool {
        self.http2.is_some()
    }

    /// Sends a request and waits for the response head. An upgrade is always HTTP/1.1. In HTTP/2 a body cannot be
    /// taken for a request.
    pub(super) async fn send(
        &self,
        mut request: Request<RequestBody>,
        upload: &Upload,
        upgrade: bool,
    ) -> Result<Response<Incoming>, Failure> {
        let client = match &self.http2 {
            Some(client) if !upgrade => {
                *request.version_mut() = Version::HTTP_2;
                client
            }
            _ if may_leave_unread(request.method().as_str().as_bytes())
                && !request.body().is_end_stream() =>
            {
                if !upgrade {
                    request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                &self.alone
            }
            _ => &self.http1,
        };
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let mut sending = pin!(client.request(request));
        loop {
            // The time of the upload depends on the client, so it is not counted against the upstream.
            let deadline = upload.deadline();
            tokio::select! {
                sent = &mut sending => return sent.map_err(|error| failure(&authority, &error, upload)),
                () = sleep_until(deadline) => {
                    if upload.deadline() > deadline {
                        continue;
                    }
                    if upload.is_awaited() {
                        return Err(Failure::Slow);
                    }
                    warn!(upstream = authority, "no answer in time (gateway.responseTimeout)");
                    return Err(Failure::TimedOut);
                }
            }
        }
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .http1_max_buf_size(MAX_HEAD)
        .http2_keep_alive_interval(Some(KEEPALIVE))
        .http2_adaptive_window(true);
    builder
}

fn failure(authority: &str, error: &legacy::Error, upload: &Upload) -> Failure {
    if upload.has_failed() {
        return Failure::Client;
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    warn!(upstream = authority, "no answer: {cause}");
    Failure::Unavailable
}
