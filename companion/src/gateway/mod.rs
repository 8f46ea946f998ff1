//! The gateway: a reverse proxy that runs the core's exchange itself. A third shell beside those for Envoy and
//! Traefik, and complete: `farebox run --gateway` needs no other proxy.
//!
//! * Whatever reaches it is checked in full, whoever sent it on. Behind a Traefik, terms that were replaced a moment
//!   ago still buy, as that goes on asking for them.
//! * The facilitator is called by way of the companion's own relay, so that ledger, reservations, counting of
//!   money and reconciliation are the same for every proxy.
//! * Bodies stream both ways. The head of a paid response is held until its settlement has answered.
//! * What it counts it reports to the ledger every second and whenever metrics are read.
//! * A client that goes away abandons its exchange; a settlement under way is finished by the relay.
//! * HTTP/1.1 and HTTP/2 without TLS on both sides, and TLS to upstreams. Interim responses other than 100 are
//!   not passed on, and the only upgrade is WebSocket.
//!
//! [`exchange_shell`] is one request, [`server`] the port, [`upstream`] the way on, [`deployment`] the rules with where
//! their routes lead.

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
    /// Closes when nothing runs any more.
    over: mpsc::Receiver<()>,
}

/// What every request needs.
#[derive(Debug)]
struct Shared {
    settings: GatewaySettings,
    deployments: Arc<Deployments>,
    meters: Arc<Meters>,
    relayed: Relayed,
    upstreams: Upstreams,
    /// Places for requests that nobody pays for, so that they leave some for those that are paid for.
    unpaid: Arc<Semaphore>,
    /// Nothing goes on.
    closed: watch::Sender<bool>,
    /// Held by everything under way.
    under_way: mpsc::Sender<()>,
}

/// Stands for a client without an address.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The gateway, as others see it.
#[derive(Debug, Clone)]
pub struct GatewayState {
    /// Where it listens.
    pub address: Listen,
    /// Its rules; always those of the last load that was applied.
    pub deployments: Arc<Deployments>,
}

// === impl Gateway ===

impl Gateway {
    /// Binds a gateway that settles through what `relay` is at the time. `companion` names it in the
    /// books. It answers 503 until [`Deployments::apply`].
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

    /// What it counts.
    pub fn meters(&self) -> Arc<Meters> {
        self.shared.meters.clone()
    }

    /// The rules in force.
    pub fn deployments(&self) -> Arc<Deployments> {
        self.shared.deployments.clone()
    }
}
