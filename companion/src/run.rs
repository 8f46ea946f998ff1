//! `farebox run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::aggregate::Aggregate;
use crate::collect::{Collector, Spools};
use crate::facilitator::FacilitatorClient;
use crate::ledger::Ledger;
use crate::publish::{self, ProxyState, Publication, Publisher, TraefikPublisher, discovery};
use crate::relay::{self, Deadlines, Relay};
use crate::rules::{self, Loader, Readiness, Source, Watch};
use crate::settings::{FacilitatorSettings, RelaySettings, Settings};
use crate::state::{Shared, State};
use crate::{http, serve};

/// How long requests under way may take after a signal to stop.
const GRACE: Duration = Duration::from_secs(4);
/// How often spools are read where there is no Envoy to be read as well.
const SPOOL_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until SIGINT or SIGTERM. Fails only before it serves: afterwards every fault is reported and survived.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let settings = Arc::new(settings);
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;

    let mut tasks = JoinSet::new();
    let Started { state, collector, relay, endpoint } = start(&settings, &mut tasks).await?;
    let (finish, finished) = watch::channel(());
    let relaying = relay.map(|relay| tokio::spawn(relay.serve(finished.clone())));
    info!(%address, pricing = %settings.pricing.display(), "serving /metrics, /healthz, /readyz and /status");

    let server = axum::serve(listener, serve::router(state, collector, endpoint))
        .with_graceful_shutdown(ended(finished))
        .into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => ended.context("the server ended")?,
        () = stop.requested() => {
            info!("stopping");
            tasks.shutdown().await;
            drop(finish);
            let all = async {
                let _ = server.await;
                if let Some(relaying) = relaying {
                    let _ = relaying.await;
                }
            };
            if tokio::time::timeout(GRACE, all).await.is_err() {
                warn!("requests still open after {GRACE:?} are dropped; settlements among them are resolved at the next start");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Completes when its sender is gone.
async fn ended(mut finished: watch::Receiver<()>) {
    let _ = finished.changed().await;
}

/// The relay, bound to its address.
struct Relaying {
    relay: Relay,
    over: mpsc::Receiver<()>,
    listener: TcpListener,
    ledger: Ledger,
}

// === impl Relaying ===

impl Relaying {
    async fn bind(settings: &Settings, relay: &RelaySettings, state: &Shared) -> anyhow::Result<Self> {
        let ledger = Ledger::open(&relay.ledger, &relay.companion).await?;
        let listener = TcpListener::bind(relay.listen)
            .await
            .with_context(|| format!("cannot listen on {} (relay.listen)", relay.listen))?;
        let client = FacilitatorClient::new(relay.credential.clone())?;
        let FacilitatorSettings { verify_timeout, settle_timeout, .. } = settings.facilitator;
        let deadlines = Deadlines { verify: verify_timeout, settle: settle_timeout };
        let (relay, over) = Relay::new(ledger.clone(), client, state.clone(), deadlines);
        Ok(Self { relay, over, listener, ledger })
    }

    /// Serves until `finished`, then until every settlement under way is over.
    async fn serve(self, finished: watch::Receiver<()>) {
        let Self { relay, mut over, listener, ledger } = self;
        let served = axum::serve(listener, relay.router()).with_graceful_shutdown(ended(finished)).await;
        if let Err(error) = served {
            warn!("the relay ended: {error}");
        }
        over.recv().await;
        ledger.close().await;
    }
}

/// What the servers need.
struct Started {
    state: Shared,
    collector: Arc<Collector>,
    relay: Option<Relaying>,
    endpoint: Option<publish::Endpoint>,
}

/// Starts everything but the servers.
async fn start(settings: &Arc<Settings>, tasks: &mut JoinSet<()>) -> anyhow::Result<Started> {
    let envoy = settings.envoy.as_ref();
    let last_published = publish::last_published(settings);
    let listed = envoy.map(|envoy| envoy.proxies.clone()).unwrap_or_default();
    let proxies =
        listed.iter().map(|proxy| ProxyState::new(proxy.name.clone(), proxy.stats.clone())).collect();
    let births = last_published.as_ref().map(|last| last.births.clone());
    let pricing = settings.pricing.display().to_string();
    let state = Shared::new(State::new(pricing, proxies, Aggregate::with_births(births)));

    let relay = match &settings.relay {
        Some(relay) => Some(Relaying::bind(settings, relay, &state).await?),
        None => None,
    };
    let ledger = relay.as_ref().map(|relay| relay.ledger.clone());
    let names = envoy.map(|envoy| envoy.names.clone()).unwrap_or_default();
    let spools = match (&settings.traefik, &ledger) {
        (Some(traefik), Some(ledger)) => {
            Some(Spools::open(ledger.clone(), traefik.spool.clone(), state.clone()).await?)
        }
        _ => None,
    };
    let collector = Collector::new(listed, state.clone())?.discovering(names).with_ledger(ledger);
    let collector = Arc::new(collector.with_spools(spools));
    if let Some(relay) = &relay {
        info!(address = %relay.listener.local_addr()?, "relaying to the facilitator");
        tasks.spawn(relay::reconcile(relay.relay.clone()));
    }
    let (publications, published) = watch::channel::<Option<Publication>>(None);
    if envoy.is_none() && settings.traefik.is_none() {
        warn!(
            "no proxy is configured: rules are loaded and published nowhere (see `envoy:` and `traefik:` in the settings)"
        );
    }
    if let Some(envoy) = envoy {
        let publisher = Publisher::new(envoy, state.clone(), collector.clone());
        publisher.ensure_file().with_context(|| format!("cannot write {}", envoy.publish.display()))?;
        if let Some(settings) = &envoy.discovery {
            let server = discovery::Server::bind(settings, state.clone()).await?;
            tasks.spawn(publisher.serve(server));
        }
        collector.discover().await;
        // What each proxy has refused so far, so that refusals of the first push can be told apart.
        collector.collect_on_demand().await;
        tasks.spawn(publisher.run(published.clone()));
    }
    if envoy.is_some() || settings.traefik.is_some() {
        let interval = envoy.map_or(SPOOL_INTERVAL, |envoy| envoy.scrape_interval);
        let collector = collector.clone();
        tasks.spawn(async move { collector.run(interval).await });
    }
    let mut endpoint = None;
    if let Some(traefik) = &settings.traefik {
        let publisher = TraefikPublisher::new(traefik.clone(), state.clone());
        endpoint = publisher.endpoint();
        tasks.spawn(publisher.run(published));
    }

    let readiness = Readiness::start(http::client_builder().build()?);
    let loader = Loader::new(settings.clone(), state.clone(), readiness, publications, last_published);
    tasks.spawn(keep_loading(loader, rules::watch(settings.pricing.clone()), settings.watch));
    Ok(Started { state, collector, relay, endpoint })
}

/// Loads the file, then follows its changes and the facilitator's.
async fn keep_loading(mut loader: Loader, mut file: Watch, follow: bool) {
    let mut facilitator = loader.facilitator_changes();
    loader.reload(Source::File, file.next().await).await;
    loop {
        tokio::select! {
            candidate = file.next(), if follow => loader.reload(Source::File, candidate).await,
            changed = facilitator.changed() => {
                if changed.is_err() {
                    return;
                }
                loader.facilitator_changed();
            }
        }
    }
}

/// SIGINT and SIGTERM.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

// === impl Stop ===

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
