//! The gateway's port, from start to end.

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
/// How long a silent connection is kept: longer than in the proxies in front, so that these close it
/// first.
const KEPT: Duration = Duration::from_secs(120);
/// Longest request head, bytes.
const MAX_HEAD: usize = 128 * 1024;

// === impl Gateway ===

impl Gateway {
    /// Serves until `finished`, then until the requests under way end, but no longer than the grace.
    pub async fn serve(self, finished: watch::Receiver<()>) {
        let Self { port, shared, mut over } = self;
        let (grace, closed) = (shared.settings.grace, shared.closed.clone());
        let service = move |mut request: Request<Incoming>| {
            let shared = shared.clone();
            let peer = request.extensions_mut().remove().and_then(|Peer(address)| address);
            async move { handle(shared, request, peer.unwrap_or(super::NOWHERE)).await }
        };
        // Every running request holds the other end of `over`.
        let end = port.serve(service, finished, grace).await;
        if timeout_at(end, over.recv()).await.is_err() {
            warn!("connections still open at the gateway after {grace:?} are dropped");
            closed.send_replace(true);
            over.recv().await;
        }
    }

    /// The address on which it listens.
    pub fn address(&self) -> std::io::Result<Listen> {
        self.port.address()
    }
}

// === impl Shared ===

impl Shared {
    /// Runs a task for which the shutdown waits, and which the end of the shutdown cancels.
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

/// The limits of the gateway for its clients.
pub(super) fn limits(settings: &GatewaySettings, descriptors: Descriptors) -> Limits {
    let connections = descriptors.of(Share::Gateway);
    Limits {
        protocol: Protocol::Both,
        connections,
        // Each request may also need a connection to an upstream.
        requests: connections,
        head_bytes: MAX_HEAD,
        head: HEAD_TIMEOUT,
        idle: KEPT.max(settings.idle_timeout),
        write: settings.idle_timeout,
    }
}

/// The number of unpaid requests that may be under way.
pub(super) const fn unpaid(limits: &Limits) -> usize {
    limits.requests / 4 * 3
}
