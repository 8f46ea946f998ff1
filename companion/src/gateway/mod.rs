//! The gateway: a reverse proxy that runs the core's exchange itself. It is the third shell beside those for Envoy and
//! Traefik, and needs no other proxy: `farebox run --gateway`.
//!
//! * Every request is checked in full, also if another proxy sent it. Behind a Traefik, the gateway still takes terms
//!   that were replaced a moment ago, because Traefik takes new rules later.
//! * The facilitator is called through the companion's own relay, so that ledger, reservations, counts of money and
//!   reconciliation are the same for every proxy.
//! * Bodies stream both ways. The head of a paid response is held until the settlement ends.
//! * The gateway reports its counts to the ledger every second, and when metrics are read.
//! * If a client leaves, its exchange is abandoned; the relay finishes a settlement under way.
//! * HTTP/1.1 and HTTP/2 without TLS on both sides, and TLS to upstreams. Interim responses other than 100 are
//!   not passed on, and the only upgrade is WebSocket.
//!
//! [`exchange_shell`] handles one request, [`server`] the port, [`upstream`] the connections to upstreams, and
//! [`deployment`] the rules with the upstreams of their routes.

mod body;
mod credential;
mod deployment;
mod exchange_shell;
mod going;
mod headers;
mod meters;
mod relayed;
mod server;
#[cfg(test)]
mod tests;
mod upgrade;
mod upstream;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::port::{Descriptors, Port};
use crate::settings::{GatewaySettings, Listen};

use relayed::Relayed;
use upstream::Upstreams;

pub use deployment::Deployments;
pub use meters::Meters;

/// A gateway, bound to its address.
#[derive(Debug)]
pub struct Gateway {
    port: Port,
    shared: Arc<Shared>,
    /// Closes when no request runs any more.
    over: mpsc::Receiver<()>,
}

/// The state that all requests share.
#[derive(Debug)]
struct Shared {
    settings: GatewaySettings,
    deployments: Arc<Deployments>,
    meters: Arc<Meters>,
    relayed: Relayed,
    upstreams: Upstreams,
    /// Places for unpaid requests. They are fewer than all places, so that some are left for paid requests.
    unpaid: Arc<Semaphore>,
    /// The end of the gateway.
    closed: watch::Sender<bool>,
    /// Held by every request under way.
    under_way: mpsc::Sender<()>,
}

/// The address for a client without one.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The state of the gateway for other parts.
#[derive(Debug, Clone)]
pub struct GatewayState {
    /// Its address.
    pub address: Listen,
    /// Its rules; always those of the last load that was applied.
    pub deployments: Arc<Deployments>,
}

// === impl Gateway ===

impl Gateway {
    /// Binds a gateway that settles through the current `relay`. `companion` is its name in the ledger. It answers 503
    /// until [`Deployments::apply`].
    pub async fn bind(
        settings: GatewaySettings,
        relay: watch::Receiver<Router>,
        companion: &str,
        descriptors: Descriptors,
    ) -> anyhow::Result<Self> {
        let limits = server::limits(&settings, descriptors);
        let port = Port::bind("gateway.listen", &Listen::Tcp(settings.listen), None, limits).await?;
        let (under_way, over) = mpsc::channel(1);
        let shared = Shared {
            deployments: Arc::new(Deployments::new(
                settings.upstream.clone(),
                if settings.is_behind { deployment::BEHIND } else { Duration::ZERO },
            )),
            meters: Arc::new(Meters::new()),
            relayed: Relayed::new(relay, format!("{companion}.gateway")),
            upstreams: Upstreams::new(&settings).context("the gateway cannot use TLS")?,
            unpaid: Arc::new(Semaphore::new(server::unpaid(&limits))),
            closed: watch::Sender::new(false),
            under_way,
            settings,
        };
        Ok(Self { port, shared: Arc::new(shared), over })
    }

    /// The counters of the gateway.
    pub fn meters(&self) -> Arc<Meters> {
        self.shared.meters.clone()
    }

    /// The rules in force.
    pub fn deployments(&self) -> Arc<Deployments> {
        self.shared.deployments.clone()
    }
}
