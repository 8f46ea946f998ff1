//! `farebox run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::aggregate::Aggregate;
use crate::collect::{Collector, Spools};
use crate::facilitator::{Credentials, FacilitatorClient};
use crate::gateway::Gateway;
use crate::ledger::Ledger;
use crate::port::{Descriptors, Port};
use crate::publish::{self, ProxyState, Publication, Publisher, TraefikPublisher, discovery};
use crate::relay::{self, Deadlines, Relay, Secret};
use crate::rules::{self, Loader, Readiness, Source, Watch};
use crate::serve;
use crate::settings::{FacilitatorSettings, RelaySettings, Settings, Settlement};
use crate::state::{GatewayState, Shared, State};
use crate::waiting::open_ledger;

/// What requests under way may take after a signal to stop, beside their settlements and what the gateway grants them.
const GRACE: Duration = Duration::from_secs(4);
/// How long readers of metrics and status may take at the very end.
const LAST_READERS: Duration = Duration::from_secs(1);
/// How long it may take to write down what was counted last, and to close the ledger.
const CLOSING: Duration = Duration::from_secs(5);
/// How often the spools are read where there is no Envoy to be read as well.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// How often a companion looks at what others of its ledger published.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Runs until SIGINT or SIGTERM. Fails only before it serves: afterwards every fault is reported and survived.
///
/// The end: `/readyz` says so, the companion goes on for `shutdown.delay`, its ports close, requests and settlements
/// under way finish, and the ledger is closed. A second signal ends the delay.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let descriptors = Descriptors::raise();
    let settings = Arc::new(settings);
    let port = Port::bind("listen", &settings.listen.into(), None, serve::limits(descriptors)).await?;
    let address = port.address()?;
    let state = first_state(&settings);
    let (pages, current_pages) = watch::channel(serve::router(state.clone(), None, None));
    let (close, closed) = watch::channel(());
    let serving = tokio::spawn(port.serve_router(current_pages, closed, LAST_READERS));
    info!(%address, pricing = %settings.pricing.display(), "serving /metrics, /healthz, /readyz and /status");

    let mut tasks = JoinSet::new();
    let (finish, finished) = watch::channel(());
    let started = tokio::select! {
        started = start(&settings, descriptors, &state, &finished, &mut tasks) => started?,
        _ = signals.stop() => {
            info!("stopping before the start is over");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let Started { collector, gating, relay, endpoint } = started;
    let ledger = relay.as_ref().map(|relay| relay.ledger.clone());
    let relaying = relay.map(|relay| tokio::spawn(relay.serve(finished)));
    let _ = pages.send_replace(serve::router(state.clone(), Some(collector.clone()), endpoint));

    let delay = match signals.stop().await {
        Stop::Interrupted => Duration::ZERO,
        Stop::Terminated => settings.shutdown_delay,
    };
    info!(?delay, "stopping");
    state.lock().is_stopping = true;
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        _ = signals.stop() => {}
    }
    tasks.shutdown().await;
    drop(finish);
    let all = async {
        if let Some(gating) = gating {
            let _ = gating.await;
        }
        if let Some(relaying) = relaying {
            let _ = relaying.await;
        }
    };
    let drain = settings.gateway.as_ref().map_or(Duration::ZERO, |gateway| gateway.grace);
    let drain = drain.max(settings.facilitator.settle_timeout) + GRACE;
    if tokio::time::timeout(drain, all).await.is_err() {
        warn!(
            "requests still open after {drain:?} are dropped; settlements among them are resolved at the next start"
        );
    }
    let end = async {
        // What was counted last, while there is somebody to read it.
        collector.collect_on_demand().await;
        drop(close);
        let _ = serving.await;
        if let Some(ledger) = ledger {
            ledger.close().await;
        }
    };
    if tokio::time::timeout(CLOSING, end).await.is_err() {
        warn!("the ledger cannot be closed in {CLOSING:?}; what it holds is safe");
    }
    Ok(ExitCode::SUCCESS)
}

/// The relay, bound to its address.
struct Relaying {
    relay: Relay,
    over: mpsc::Receiver<()>,
    port: Port,
    secret: Option<Arc<Secret>>,
    ledger: Ledger,
    /// How long a call may take once it is told to stop.
    grace: Duration,
}

// === impl Relaying ===

impl Relaying {
    fn new(
        settings: &Settings,
        relaying: &RelaySettings,
        client: FacilitatorClient,
        port: Port,
        ledger: Ledger,
        descriptors: Descriptors,
        state: &Shared,
    ) -> anyhow::Result<Self> {
        let FacilitatorSettings { verify_timeout, settle_timeout, .. } = settings.facilitator;
        let deadlines = Deadlines { verify: verify_timeout, settle: settle_timeout };
        let facilitators = relaying.facilitators.clone();
        let secret = relaying.secret.clone().map(Secret::load).transpose()?.map(Arc::new);
        let most = relay::most_of_a_chain(descriptors);
        let (relay, over) = Relay::new(ledger.clone(), client, state.clone(), deadlines, facilitators, most);
        Ok(Self { relay, over, port, secret, ledger, grace: settle_timeout + GRACE })
    }

    /// Serves until `finished`, then until every settlement under way is over.
    async fn serve(self, finished: watch::Receiver<()>) {
        let Self { relay, mut over, port, secret, grace, .. } = self;
        let (_, router) = watch::channel(relay::at_the_door(relay.router(), secret));
        port.serve_router(router, finished, grace).await;
        over.recv().await;
    }
}

/// What is needed until the end.
struct Started {
    collector: Arc<Collector>,
    /// The gateway, which serves already.
    gating: Option<JoinHandle<()>>,
    relay: Option<Relaying>,
    endpoint: Option<publish::Endpoint>,
}

/// What is known before anything has started.
fn first_state(settings: &Settings) -> Shared {
    let listed = settings.envoy.iter().flat_map(|envoy| &envoy.proxies);
    let proxies = listed.map(|proxy| ProxyState::new(proxy.name.clone(), proxy.stats.clone())).collect();
    let mut state = State::new(settings.pricing.display().to_string(), proxies, Aggregate::default());
    state.settles_direct = settings.facilitator.settlement == Settlement::Direct;
    state.log_settlement_error();
    Shared::new(state)
}

/// Starts everything but the pages. Waits for the ledger; the gateway serves meanwhile.
async fn start(
    settings: &Arc<Settings>,
    descriptors: Descriptors,
    state: &Shared,
    finished: &watch::Receiver<()>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Started> {
    let envoy = settings.envoy.as_ref();
    let last_published = publish::last_published(settings);
    let listed = envoy.map(|envoy| envoy.proxies.clone()).unwrap_or_default();
    let births = last_published.as_ref().map(|last| last.births.clone());
    let credentials = settings.relay.as_ref().map(|relay| relay.facilitators.credentials.clone());
    let client = FacilitatorClient::new(Credentials::new(credentials.unwrap_or_default()))?;

    let (relays, current_relay) = watch::channel(relay::closed());
    let mut gating = None;
    let (mut deployments, mut meters) = (None, None);
    if let (Some(gateway), Some(own)) = (&settings.gateway, &settings.relay) {
        let gateway = Gateway::bind(gateway.clone(), current_relay, &own.companion, descriptors).await?;
        let address = gateway.address()?;
        info!(%address, "the gateway is listening");
        let rules = gateway.deployments();
        state.lock().gateway = Some(GatewayState { address, deployments: rules.clone() });
        (deployments, meters) = (Some(rules), Some(gateway.meters()));
        gating = Some(tokio::spawn(gateway.serve(finished.clone())));
    }
    let (aggregate, saved) = match &settings.relay {
        Some(relay) => {
            let ledger = open_ledger(settings, relay, &client, deployments.clone(), state).await?;
            // Before the totals are taken from whoever runs already: it would have this address.
            let limits = relay::limits(descriptors);
            let port = Port::bind("relay.listen", &relay.listen, relay.tls.as_ref(), limits).await?;
            let (totals, rows) = ledger.take_over_totals().await?;
            let aggregate = Aggregate::restored(&rows).map_err(|cause| ledger.unusable_totals(&cause))?;
            (aggregate, Some((relay, port, ledger, totals)))
        }
        None => (Aggregate::default(), None),
    };
    *state.counted() = aggregate.published(births);

    let names = envoy.map(|envoy| envoy.names.clone()).unwrap_or_default();
    let announced = envoy.and_then(|envoy| envoy.announced);
    let relays_by = settings.relay.as_ref().map(|_| settings.facilitator.cluster.as_str());
    let collector = Collector::new(listed, state.clone())?.discovering(names).announced_at(announced);
    let mut collector = collector.relaying_by(relays_by);
    let mut relay = None;
    if let Some((relaying, port, ledger, totals)) = saved {
        if let Some(traefik) = &settings.traefik {
            let spools = Spools::open(&ledger, totals.clone(), traefik.spool.clone(), state.clone()).await?;
            collector = collector.with_spools(spools);
        }
        collector = collector.with_ledger(ledger.clone(), totals);
        relay = Some(Relaying::new(settings, relaying, client.clone(), port, ledger, descriptors, state)?);
    }
    let ledger = relay.as_ref().map(|relay| relay.ledger.clone());
    if let Some(relay) = &relay {
        let _ = relays.send_replace(relay.relay.clone().router());
    }
    let collector = Arc::new(collector.with_gateway(deployments.clone().zip(meters)));
    if let Some(relay) = &relay {
        info!(address = %relay.port.address()?, "relaying to the facilitator");
        tasks.spawn(relay::reconcile(relay.relay.clone()));
        tasks.spawn(relay::watch_credentials(relay.relay.clone()));
    }
    let (publications, published) = watch::channel::<Option<Publication>>(None);
    if envoy.is_none() && settings.traefik.is_none() && deployments.is_none() {
        warn!(
            "no proxy is configured: rules are loaded and published nowhere (see `envoy:`, `traefik:` and `gateway:` in the settings)"
        );
    }
    if let Some(envoy) = envoy {
        let publisher = Publisher::new(envoy, state.clone(), collector.clone());
        publisher.ensure_file().with_context(|| format!("cannot write {}", envoy.publish.display()))?;
        if let Some(settings) = &envoy.discovery {
            let server = discovery::Server::bind(settings, state.clone(), descriptors).await?;
            tasks.spawn(publisher.serve(server, finished.clone()));
        }
        collector.discover().await;
        // What each proxy has refused so far, so that refusals of the first push can be told apart.
        collector.collect_on_demand().await;
        tasks.spawn(publisher.run(published.clone()));
    }
    if envoy.is_some() || settings.traefik.is_some() || deployments.is_some() {
        let interval = envoy.map_or(COLLECT_EVERY, |envoy| envoy.scrape_interval);
        let collector = collector.clone();
        tasks.spawn(async move { collector.run(interval).await });
    }
    let mut endpoint = None;
    if let Some(traefik) = &settings.traefik {
        let publisher = TraefikPublisher::new(traefik.clone(), state.clone());
        endpoint = publisher.endpoint();
        tasks.spawn(publisher.run(published));
    }

    let readiness = Readiness::start(client);
    let loader = Loader::new(settings.clone(), state.clone(), readiness, publications, last_published)
        .sharing(ledger)
        .with_gateway(deployments);
    let reloads = signal(SignalKind::hangup())?;
    tasks.spawn(keep_loading(loader, rules::watch(settings.pricing.clone()), settings.watch, reloads));
    Ok(Started { collector, gating, relay, endpoint })
}

/// Loads the file, then follows its changes, the facilitator's, and the other companions of the ledger. SIGHUP loads
/// the file, whether its changes are followed or not.
async fn keep_loading(mut loader: Loader, mut file: Watch, follow: bool, mut reloads: Signal) {
    let mut facilitator = loader.facilitator_changes();
    loader.reload(Source::File, file.next().await).await;
    let mut looks = tokio::time::interval(FOLLOW_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => loader.follow().await,
            Some(()) = reloads.recv() => {
                info!("SIGHUP: the pricing file is loaded again");
                loader.reload(Source::File, file.again().await).await;
            }
            candidate = file.next(), if follow => loader.reload(Source::File, candidate).await,
            changed = facilitator.changed() => {
                if changed.is_err() {
                    return;
                }
                loader.facilitator_changed().await;
            }
        }
    }
}

/// What the operator says by signals.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Why the companion stops.
enum Stop {
    /// SIGINT: somebody waits for the end.
    Interrupted,
    /// SIGTERM: somebody replaces it.
    Terminated,
}

// === impl Signals ===

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn stop(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupted,
            _ = self.terminate.recv() => Stop::Terminated,
        }
    }
}
