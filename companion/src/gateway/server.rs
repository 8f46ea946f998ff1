//! The gateway's listener: HTTP/1.1 and HTTP/2 without TLS on one port, until it is told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::exchange_shell::handle;
use super::linger::Lingering;
use super::{Gateway, Phase, Shared};

/// How long a client may take for a request head, from the first byte it could have sent.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Most header lines of a request.
const MAX_HEADERS: usize = 256;
/// Longest request head, bytes.
const MAX_HEAD: usize = 128 * 1024;
/// HTTP/2 connections are asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, which is for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

// === impl Gateway ===

impl Gateway {
    /// Serves until `finished`, then until requests under way are over, but no longer than the grace.
    pub async fn serve(self, mut finished: watch::Receiver<()>) {
        let Self { listener, shared, mut over } = self;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => shared.spawn(connection(shared.clone(), stream, peer)),
                    Err(error) => {
                        warn!("the gateway cannot accept: {error}");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                _ = finished.changed() => break,
            }
        }
        drop(listener);
        shared.phase.send_replace(Phase::Draining);
        let (grace, phase) = (shared.settings.grace, shared.phase.clone());
        // Whatever runs holds the other end.
        drop(shared);
        if timeout(grace, over.recv()).await.is_err() {
            warn!("requests still open at the gateway after {grace:?} are dropped");
            phase.send_replace(Phase::Closed);
            over.recv().await;
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
        TcpListener::bind(address).await
    }
}

// === impl Shared ===

impl Shared {
    /// Runs something that a drain waits for and its end cuts short.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let under_way: mpsc::Sender<()> = self.under_way.clone();
        let mut phase = self.phase.subscribe();
        tokio::spawn(async move {
            let _under_way = under_way;
            tokio::select! {
                () = task => {}
                () = reached(&mut phase, Phase::Closed) => {}
            }
        });
    }
}

pub(super) async fn connection(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let mut phase = shared.phase.subscribe();
    // Whoever connects and says nothing is not waited for.
    tokio::select! {
        readable = timeout(HEAD_TIMEOUT, stream.readable()) => {
            if !matches!(readable, Ok(Ok(()))) {
                return;
            }
        }
        () = reached(&mut phase, Phase::Draining) => return,
    }
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(handle(shared, request, peer).await) }
    });
    let server = builder();
    let mut connection =
        pin!(server.serve_connection_with_upgrades(TokioIo::new(Lingering::new(stream)), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = reached(&mut phase, Phase::Draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%peer, "a connection ended: {error}");
    }
}

/// Waits for a phase or one after it.
async fn reached(phases: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phases.wait_for(|phase| *phase >= wanted).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .adaptive_window(true);
    builder
}
