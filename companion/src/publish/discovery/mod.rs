//! Rules over gRPC: Envoy's `ExtensionConfigDiscoveryService`, for proxies that do not share a disk with the
//! companion.
//!
//! There is one resource, the filter with its rules, and its version begins with the generation. Every stream watches
//! this resource, so a proxy that connects late gets the current version, unless it has it already. A proxy does not
//! get a version again that it refused, only a newer one.
//!
//! * [`subscription`]: the state of one stream, without I/O.
//! * [`service`]: the streams.
//! * [`nodes`]: the answers of each proxy, for `/status` and `/metrics`.
//!
//! An acknowledgement says only that Envoy took a configuration. The proxy's own reports say which rules it enforces,
//! see [`super::ProxyState`].

mod nodes;
mod service;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use tokio::sync::watch;
use tonic::service::Routes;
use tracing::info;

use crate::handle::Handle;
use crate::port::{Descriptors, Limits, Port, Protocol, Share};
use crate::publish::PublishState;
use crate::settings::{DiscoverySettings, Listen};

pub use nodes::{Discovery, Node};

/// The resource for the proxies. It never changes after it is made.
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
    port: Port,
    state: Handle<PublishState>,
}

/// How long a proxy may take for the head of a request; for the first one including the TLS handshake.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection without a stream is kept. A connection with a stream gets pings instead.
const IDLE: Duration = Duration::from_secs(60);
/// How long a proxy may take to read.
const WRITE: Duration = Duration::from_secs(10);
/// Longest head of a request, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Most streams of one connection. Envoy opens a stream for each listener that names the filter.
const STREAMS_PER_CONNECTION: usize = 32;

// === impl Server ===

impl Server {
    /// Reads the certificates and listens.
    pub async fn bind(
        settings: &DiscoverySettings,
        state: Handle<PublishState>,
        descriptors: Descriptors,
    ) -> anyhow::Result<Self> {
        let connections = descriptors.of(Share::Discovery);
        let limits = Limits {
            protocol: Protocol::Http2,
            connections,
            requests: connections * STREAMS_PER_CONNECTION,
            head_bytes: MAX_HEAD,
            head: HEAD,
            idle: IDLE,
            write: WRITE,
        };
        let DiscoverySettings { listen, tls } = settings;
        let port = Port::bind("envoy.discovery.listen", listen, tls.as_ref(), limits).await?;
        let server = Self { port, state };
        let address = server.address()?;
        info!(%address, tls = server.port.has_tls(), "serving rules over gRPC");
        server.state.lock().discovery.address = Some(address);
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<Listen> {
        self.port.address()
    }

    /// Serves the current resource until `finished`. Streams do not end by themselves, so the end does not wait for
    /// them.
    pub(super) async fn run(self, current: Current, finished: watch::Receiver<()>) {
        let routes = Routes::new(service::new(current, self.state));
        let (_, router) = watch::channel(routes.into_axum_router());
        self.port.serve_router(router, finished, Duration::ZERO).await;
    }
}
