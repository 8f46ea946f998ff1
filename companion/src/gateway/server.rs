//! The gateway's port, until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;
use tracing::warn;

use super::exchange_shell::handle;
use super::{Gateway, Shared};
use crate::port::{Descriptors, Limits, Peer, Protocol, Share};
use crate::settings::{GatewaySettings, Listen};

/// How long a client may take for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the proxies that stand before it keep a silent connection, so that it is they who close it.
const KEPT: Duration = Duration::from_secs(120);
/// Longest request head, bytes.
const MAX_HEAD: usize = 128 * 1024;

// === impl Gateway ===

impl Gateway {
    /// Serves until `finished`, then until requests under way are over, but no longer than the grace.
    pub async fn serve(self, finished: watch::Receiver<()>) {
        let Self { port, shared, mut over } = self;
        let (grace, closed) = (shared.settings.grace, shared.closed.clone());
        let service = move |mut request: Request<Incoming>| {
            let shared = shared.clone();
            let peer = request.extensions_mut().remove().and_then(|Peer(address)| address);
            async move { handle(shared, request, peer.unwrap_or(super::NOWHERE)).await }
        };
        // Whatever runs holds the other end of `over`.
        let end = port.serve(service, finished, grace).await;
        if timeout_at(end, over.recv()).await.is_err() {
            warn!("connections still open at the gateway after {grace:?} are dropped");
            closed.send_replace(true);
            over.recv().await;
        }
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<Listen> {
        self.port.address()
    }
}

// === impl Shared ===

impl Shared {
    /// Runs something that a drain waits for and its end cuts short.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let under_way: mpsc::Sender<()> = self.under_way.clone();
        let mut closed = self.closed.subscribe();
        tokio::spawn(async move {
            let _under_way = under_way;
            tokio::select! {
                () = task => {}
                _ = closed.wait_for(|is_closed| *is_closed) => {}
            }
        });
    }
}

/// What the gateway grants its clients.
pub(super) fn limits(settings: &GatewaySettings, descriptors: Descriptors) -> Limits {
    let connections = descriptors.of(Share::Gateway);
    Limits {
        protocol: Protocol::Both,
        connections,
        // Each may need a connection to an upstream.
        requests: connections,
        head_bytes: MAX_HEAD,
        head: HEAD_TIMEOUT,
        idle: KEPT.max(settings.idle_timeout),
        write: settings.idle_timeout,
    }
}

/// Requests nobody pays for that may be under way.
pub(super) const fn unpaid(limits: &Limits) -> usize {
    limits.requests / 4 * 3
}
