//! Rules over gRPC: Envoy's `ExtensionConfigDiscoveryService`, for proxies that do not share a disk with the
//! companion.
//!
//! There is one resource, the filter with its rules, and its version begins with the generation. Every stream watches
//! it, so a proxy that connects late gets what is current and a proxy that has it is left alone. What a proxy
//! refused is not offered to it again; only something newer is.
//!
//! * [`subscription`]: what one stream has asked for, was sent and said, without any I/O.
//! * [`service`]: streams, in both variants of the protocol.
//! * [`nodes`]: what each proxy said, for `/status` and `/metrics`.
//! * [`peers`]: where they are.
//! * [`listener`] and [`tls`]: connections.
//!
//! An acknowledgement is Envoy's word that it took a configuration. That rules are enforced is told by the
//! generation in the proxy's own statistics, see [`super::ProxyState`].

mod listener;
mod nodes;
mod peers;
mod service;
mod subscription;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use envoy_types::pb::google::protobuf::Any;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server as Transport;
use tracing::{error, info};

use crate::settings::DiscoverySettings;
use crate::state::Shared;

pub use nodes::{Discovery, Node, Refusal};

use tls::Tls;

/// What proxies are to have. Made once, never changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resource {
    /// See [`super::ecds::Filter::version`].
    pub(super) version: String,
    /// See [`super::ecds::Filter::message`].
    pub(super) message: Any,
}

/// The current resource, as streams see it; `None` before the first rules.
pub(super) type Current = watch::Receiver<Option<Arc<Resource>>>;

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<Tls>,
    state: Shared,
}

/// How often a silent connection is asked for a sign of life, and how long it may take to give one. A proxy
/// whose machine is gone is noticed within the sum.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection. Envoy opens one per listener that names the filter.
const STREAMS_PER_CONNECTION: u32 = 32;

// === impl Server ===

impl Server {
    /// Reads the certificates and listens.
    pub async fn bind(settings: &DiscoverySettings, state: Shared) -> anyhow::Result<Self> {
        let tls = settings.tls.clone().map(Tls::load).transpose()?;
        let listener = TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("envoy.discovery.listen: cannot listen on {}", settings.listen))?;
        let server = Self { listener, tls, state };
        let address = server.address()?;
        server.state.lock().discovery.address = Some(address);
        info!(%address, tls = server.tls.is_some(), "serving rules over gRPC");
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves what is current, for ever.
    pub(super) async fn run(self, current: Current) {
        let outcome = Transport::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(service::new(current, self.state))
            .serve_with_incoming(listener::connections(self.listener, self.tls))
            .await;
        // The listener survives every failure of a connection, so this is a fault of ours.
        if let Err(cause) = outcome {
            error!("rules are no longer served over gRPC: {cause}");
        }
    }
}
