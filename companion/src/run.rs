//! `farebox run`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::aggregate::Aggregate;
use crate::collect::Collector;
use crate::publish::{self, ProxyState, Publication, Publisher, discovery};
use crate::rules::{self, Loader, Readiness, Source, Watch};
use crate::settings::Settings;
use crate::state::{Shared, State};
use crate::{http, serve};

/// How long requests under way may take after a signal to stop.
const GRACE: Duration = Duration::from_secs(4);

/// Runs until SIGINT or SIGTERM. Fails only before it serves: afterwards every fault is reported and survived.
pub async fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen()?;
    let settings = Arc::new(settings);
    let listener = TcpListener::bind(settings.listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.listen))?;
    let address = listener.local_addr()?;

    let mut tasks = JoinSet::new();
    let (state, collector) = start(&settings, &mut tasks).await?;
    info!(%address, pricing = %settings.pricing.display(), "serving /metrics, /healthz, /readyz and /status");

    let (finish, mut finished) = watch::channel(());
    let server = axum::serve(listener, serve::router(state, collector))
        .with_graceful_shutdown(async move {
            let _ = finished.changed().await;
        })
        .into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => ended.context("the server ended")?,
        () = stop.requested() => {
            info!("stopping");
            tasks.shutdown().await;
            drop(finish);
            if tokio::time::timeout(GRACE, server).await.is_err() {
                warn!("requests still open after {GRACE:?} are dropped");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts everything but the server.
async fn start(
    settings: &Arc<Settings>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<(Shared, Arc<Collector>)> {
    let envoy = settings.envoy.as_ref();
    let last_published = envoy.and_then(|envoy| publish::last_published(&envoy.publish));
    let listed = envoy.map(|envoy| envoy.proxies.clone()).unwrap_or_default();
    let proxies =
        listed.iter().map(|proxy| ProxyState::new(proxy.name.clone(), proxy.stats.clone())).collect();
    let births = last_published.as_ref().map(|last| last.births.clone());
    let pricing = settings.pricing.display().to_string();
    let state = Shared::new(State::new(pricing, proxies, Aggregate::with_births(births)));

    let collector = Arc::new(Collector::new(listed, state.clone())?);
    let (publications, published) = watch::channel::<Option<Publication>>(None);
    match envoy {
        None => warn!(
            "no proxy is configured: rules are loaded and published nowhere (see `envoy:` in the settings)"
        ),
        Some(envoy) => {
            let publisher = Publisher::new(envoy, state.clone(), collector.clone());
            publisher.ensure_file().with_context(|| format!("cannot write {}", envoy.publish.display()))?;
            if let Some(settings) = &envoy.discovery {
                let server = discovery::Server::bind(settings, state.clone()).await?;
                tasks.spawn(publisher.serve(server));
            }
            // What each proxy has refused so far, so that refusals of the first push can be told apart.
            collector.collect_on_demand().await;
            tasks.spawn(publisher.run(published));
            let (collector, interval) = (collector.clone(), envoy.scrape_interval);
            tasks.spawn(async move { collector.run(interval).await });
        }
    }

    let readiness = Readiness::start(http::client_builder().build()?);
    let loader = Loader::new(settings.clone(), state.clone(), readiness, publications, last_published);
    tasks.spawn(keep_loading(loader, rules::watch(settings.pricing.clone()), settings.watch));
    Ok((state, collector))
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
