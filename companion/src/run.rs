//! `farebox run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use crate::clock::unix_seconds;
use crate::counts::{Gatherer, Spools, reports};
use crate::facilitator::{Credentials, FacilitatorClient};
use crate::gateway::{Gateway, GatewayState};
use crate::ledger::{LOOKED_AT, Ledger};
use crate::loading::{Loader, Source, open_ledger};
use crate::port::{Descriptors, Port};
use crate::publish::{self, Publication, Publisher, TraefikPublisher, discovery};
use crate::relay::{self, Deadlines, Relay, Secret};
use crate::rules::{self, Readiness, Watch};
use crate::serve::{self, Shared};
use crate::settings::{FacilitatorSettings, RelaySettings, Settings, Settlement};

/// Time for requests under way after a signal to stop, beside the time for settlements and the gateway's grace.
const GRACE: Duration = Duration::from_secs(4);
/// Time for readers of metrics and status at the end.
const LAST_READERS: Duration = Duration::from_secs(1);
/// Time to write the last counts, and to close the ledger.
const CLOSING: Duration = Duration::from_secs(5);
/// How often a companion reads the publications of other companions from its ledger.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// Runs until SIGINT or SIGTERM. Returns an error only before it serves; later faults are reported, and the companion
/// continues.
///
/// The shutdown: `/readyz` reports it, the companion serves for `shutdown.delay`, its ports close, requests and
/// settlements under way finish, and the ledger is closed. A second signal ends the delay. It stops in the same way, and
/// with a failure, if somebody changes who settles the payments of its ledger.
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
    tasks.spawn(serve::log_readiness(state.clone()));
    let (finish, finished) = watch::channel(());
    let started = tokio::select! {
        started = start(&settings, descriptors, &state, &finished, &mut tasks) => started?,
        _ = signals.stop() => {
            info!("stopping before the start is over");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let Started { gatherer, gating, door, endpoint } = started;
    let ledger = door.as_ref().map(|door| door.ledger.clone());
    let calls = door.map(|door| tokio::spawn(door.serve(finished)));
    let _ = pages.send_replace(serve::router(state.clone(), gatherer.clone(), endpoint));

    let (stop, code) = tokio::select! {
        stop = signals.stop() => (stop, ExitCode::SUCCESS),
        () = other_settlement(&settings, ledger.as_ref()) => (Stop::Interrupted, ExitCode::FAILURE),
    };
    let delay = match stop {
        Stop::Interrupted => Duration::ZERO,
        Stop::Terminated => settings.shutdown_delay,
    };
    info!(?delay, "stopping");
    state.stop();
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
        if let Some(calls) = calls {
            let _ = calls.await;
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
        // The last counts, while the metrics can still be read.
        if let Some(gatherer) = gatherer {
            gatherer.show().await;
        }
        drop(close);
        let _ = serving.await;
        if let Some(ledger) = ledger {
            ledger.close().await;
        }
    };
    if tokio::time::timeout(CLOSING, end).await.is_err() {
        warn!("the ledger cannot be closed in {CLOSING:?}; what it holds is safe");
    }
    Ok(code)
}

/// Waits until payments of this ledger are settled otherwise: see [`Ledger::is_settled_by`].
async fn other_settlement(settings: &Settings, ledger: Option<&Ledger>) {
    let Some(ledger) = ledger else { return std::future::pending().await };
    let ours = settings.facilitator.settlement;
    loop {
        tokio::time::sleep(LOOKED_AT).await;
        // A ledger that cannot be read is reported by whoever writes to it.
        if let Ok(Some(theirs)) = ledger.settlement().await
            && theirs != ours
        {
            error!(
                "the payments of the ledger {} are settled by {theirs} now, and facilitator.settlement is {ours}: this \
                 companion stops",
                ledger.url()
            );
            return;
        }
    }
}

/// The port for proxies, bound to its address. Proxies send reports there and, with the relay, payments.
struct Door {
    relay: Option<(Relay, mpsc::Receiver<()>)>,
    port: Port,
    secret: Option<Arc<Secret>>,
    ledger: Ledger,
    /// How long a call may take after the stop.
    grace: Duration,
    state: Shared,
}

// === impl Door ===

impl Door {
    fn new(
        settings: &Settings,
        own: &RelaySettings,
        client: FacilitatorClient,
        port: Port,
        ledger: Ledger,
        descriptors: Descriptors,
        state: &Shared,
    ) -> anyhow::Result<Self> {
        let FacilitatorSettings { verify_timeout, settle_timeout, .. } = settings.facilitator;
        let deadlines = Deadlines { verify: verify_timeout, settle: settle_timeout };
        let secret = own.secret.clone().map(Secret::load).transpose()?.map(Arc::new);
        let most = relay::most_of_a_chain(descriptors);
        let relay = settings.relayed().map(|facilitators| {
            Relay::new(ledger.clone(), client, state.for_relay(), deadlines, facilitators.clone(), most)
        });
        Ok(Self { relay, port, secret, ledger, grace: settle_timeout + GRACE, state: state.clone() })
    }

    fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref().map(|(relay, _)| relay)
    }

    /// Serves until `finished`, then until every settlement under way ends.
    async fn serve(self, finished: watch::Receiver<()>) {
        let Self { relay, port, secret, ledger, grace, state } = self;
        let (relay, over) = relay.unzip();
        let relay = relay.map_or_else(relay::absent, Relay::router);
        let router = relay.merge(reports::router(ledger, state.for_counts()));
        let on_refused = move || state.published.lock().proxies.refused(unix_seconds());
        let (_, router) = watch::channel(relay::at_the_door(router, secret, on_refused));
        port.serve_router(router, finished, grace).await;
        if let Some(mut over) = over {
            over.recv().await;
        }
    }
}

/// Parts that are needed until the end.
struct Started {
    /// `None` where nothing is counted.
    gatherer: Option<Arc<Gatherer>>,
    /// The gateway, which serves already.
    gating: Option<JoinHandle<()>>,
    door: Option<Door>,
    endpoint: Option<publish::Endpoint>,
}

/// The state before any part has started.
fn first_state(settings: &Settings) -> Shared {
    let state = Shared::new(settings.pricing.display().to_string());
    state.ledger.lock().settles_direct = settings.facilitator.settlement == Settlement::Direct;
    state
}

/// Starts all parts but the pages. Waits for the ledger; the gateway serves meanwhile.
async fn start(
    settings: &Arc<Settings>,
    descriptors: Descriptors,
    state: &Shared,
    finished: &watch::Receiver<()>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Started> {
    let envoy = settings.envoy.as_ref();
    let last_published = publish::last_published(settings);
    let credentials = settings.relayed().map(|facilitators| facilitators.credentials.clone());
    let client = FacilitatorClient::new(Credentials::new(credentials.unwrap_or_default()))?;

    let (relays, current_relay) = watch::channel(relay::closed());
    let mut gating = None;
    let (mut deployments, mut meters) = (None, None);
    if let (Some(gateway), Some(own)) = (&settings.gateway, &settings.relay) {
        let gateway = Gateway::bind(gateway.clone(), current_relay, &own.companion, descriptors).await?;
        let address = gateway.address()?;
        info!(%address, "the gateway is listening");
        let rules = gateway.deployments();
        *state.gateway.lock() = Some(GatewayState { address, deployments: rules.clone() });
        (deployments, meters) = (Some(rules), Some(gateway.meters()));
        gating = Some(tokio::spawn(gateway.serve(finished.clone())));
    }
    let mut door = None;
    if let Some(own) = &settings.relay {
        let ledger = open_ledger(settings, own, &client, deployments.clone(), &state.for_loading()).await?;
        // The port is bound before the spools are opened, because a second companion fails here, before it takes the
        // spools of the first.
        let limits = relay::limits(descriptors);
        let port = Port::bind("relay.listen", &own.listen, own.tls.as_ref(), limits).await?;
        door = Some(Door::new(settings, own, client.clone(), port, ledger, descriptors, state)?);
    }
    let ledger = door.as_ref().map(|door| door.ledger.clone());
    let mut gatherer = None;
    if let Some(ledger) = &ledger {
        let spools = match &settings.traefik {
            Some(traefik) => Some(Spools::open(ledger, traefik.spool.clone(), state.for_counts()).await?),
            None => None,
        };
        let own = Gatherer::new(ledger.clone(), state.for_counts()).with_gateway(meters).with_spools(spools);
        let own = Arc::new(own);
        gatherer = Some(own.clone());
        tasks.spawn(async move { own.run().await });
    }
    if let Some(door) = &door {
        info!(address = %door.port.address()?, "taking calls of proxies");
    }
    if let Some(relay) = door.as_ref().and_then(Door::relay) {
        let _ = relays.send_replace(relay.clone().router());
        tasks.spawn(relay::reconcile(relay.clone()));
        tasks.spawn(relay::watch_credentials(relay.clone()));
    }
    let (publications, published) = watch::channel::<Option<Publication>>(None);
    if envoy.is_none() && settings.traefik.is_none() && deployments.is_none() {
        warn!(
            "no proxy is configured: rules are loaded and published nowhere (see `envoy:`, `traefik:` and `gateway:` in the settings)"
        );
    }
    if let Some(envoy) = envoy {
        let publisher = Publisher::new(envoy, state.published.clone());
        publisher.ensure_file().with_context(|| format!("cannot write {}", envoy.publish.display()))?;
        if let Some(settings) = &envoy.discovery {
            let server = discovery::Server::bind(settings, state.published.clone(), descriptors).await?;
            tasks.spawn(publisher.serve(server, finished.clone()));
        }
        tasks.spawn(publisher.run(published.clone()));
    }
    let mut endpoint = None;
    if let Some(traefik) = &settings.traefik {
        let publisher =
            TraefikPublisher::new(traefik.clone(), state.published.clone(), state.gateway.clone());
        endpoint = publisher.endpoint();
        tasks.spawn(publisher.run(published));
    }

    let readiness = Readiness::start(client);
    let loader = Loader::new(settings.clone(), state.for_loading(), readiness, publications, last_published)
        .sharing(ledger)
        .with_gateway(deployments);
    let reloads = signal(SignalKind::hangup())?;
    tasks.spawn(keep_loading(loader, rules::watch(settings.pricing.clone()), settings.watch, reloads));
    Ok(Started { gatherer, gating, door, endpoint })
}

/// Loads the file, then follows its changes, the facilitator's, and the other companions of the ledger. SIGHUP loads
/// the file, whether its changes are followed or not.
async fn keep_loading(mut loader: Loader, mut file: Watch, follow: bool, mut reloads: Signal) {
    let mut facilitator = loader.facilitator_changes();
    let mut looks = tokio::time::interval(FOLLOW_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = true;
    loop {
        tokio::select! {
            candidate = file.next(), if follow || asked => {
                asked = false;
                loader.reload(Source::File, candidate).await;
            }
            _ = looks.tick() => loader.follow(file.written_since()).await,
            Some(()) = reloads.recv() => {
                info!("SIGHUP: the pricing file is loaded again");
                file.forget();
                asked = true;
            }
            changed = facilitator.changed() => {
                if changed.is_err() {
                    return;
                }
                loader.facilitator_changed().await;
            }
        }
    }
}

/// The operator's signals.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Why the companion stops.
enum Stop {
    /// SIGINT: an operator waits for the end.
    Interrupted,
    /// SIGTERM: the companion is replaced.
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
