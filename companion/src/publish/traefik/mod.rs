//! Rules on their way to Traefik: one dynamic configuration, in a file of a folder that Traefik watches, from
//! an endpoint that it polls, or both for two Traefiks.
//!
//! * [`routers`]: which router takes which path.
//! * [`body`]: the text.
//! * [`api`]: what Traefik says of it.
//! * [`probe`]: whether the gateway is where Traefik looks for it.
//!
//! Each change makes Traefik build the plugin anew for every router, and let go of the old one only after a
//! while. So the text is replaced when it has changed, and not before Traefik has had time for the last one.

mod api;
mod body;
mod expression;
mod probe;
mod routers;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farebox_core::rules::PushedRules;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info};

use super::{Publication, Published, file};
use crate::clock::unix_seconds;
use crate::gateway::GatewayState;
use crate::handle::Handle;
use crate::publish::PublishState;
use crate::settings::TraefikSettings;

use api::Api;

pub use api::Loaded;

/// Name of the plugin, of its middleware, and of the router of the table.
const NAME: &str = "farebox";
/// Name of the middleware that bounds the plugin's instances.
const LIMIT: &str = "farebox-limit";
/// Makes all requests alike for that.
const ALIKE: &str = "farebox-alike";
/// By the absence of this header.
const ALIKE_BY: &str = "X-Farebox-Alike";
/// Name of the gateway's service.
const GATEWAY: &str = "farebox-gateway";
/// Traefik puts changes off that follow sooner (`providersThrottleDuration`).
const THROTTLE: Duration = Duration::from_secs(2);
/// How long Traefik is kept waiting for the first rules; it gives up after 5 seconds (`pollTimeout`).
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a failed write is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long Traefik may not ask before that is said. It asks every five seconds, or as its `pollInterval` says.
const SILENT_SECONDS: u64 = 60;
/// How long Traefik may take to begin with new rules.
const STARTS_SECONDS: u64 = 30;

/// What became of the rules in Traefik.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraefikState {
    /// The generation last published.
    pub pushed: Option<u64>,
    /// When its publishing began, Unix seconds.
    pub pushed_at: u64,
    /// Traefik is to ask the companion for it.
    pub is_asked: bool,
    /// Why it could not be written; `None` once it was.
    pub publish_error: Option<String>,
    /// When Traefik last asked for it, Unix seconds.
    pub polled_at: Option<u64>,
    /// What its API said last, if there is one.
    pub api: Option<Result<Loaded, String>>,
    /// Why the companion itself does not reach the gateway where Traefik looks for it; `None` while it does.
    pub gateway_error: Option<String>,
    /// Whether it was tried.
    pub gateway_tried: bool,
}

/// What Traefik is to read.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    generation: u64,
    text: String,
}

/// Publishes for Traefik.
#[derive(Debug)]
pub struct TraefikPublisher {
    settings: TraefikSettings,
    body: watch::Sender<Option<Arc<Body>>>,
    state: Handle<PublishState>,
    /// Where the companion is a proxy itself.
    gateway: Handle<Option<GatewayState>>,
}

/// The endpoint Traefik polls.
#[derive(Debug, Clone)]
pub struct Endpoint {
    body: watch::Receiver<Option<Arc<Body>>>,
    state: Handle<PublishState>,
}

// === impl TraefikState ===

impl TraefikState {
    /// As `/status` shows it: what Traefik's API or, failing that, the plugin itself has said of the last push.
    /// `started` is the generation the plugin last said it starts with.
    pub fn push(&self, started: Option<u64>, now: u64) -> &'static str {
        let Some(pushed) = self.pushed else { return "idle" };
        if self.silence(now).is_some() {
            return "silent";
        }
        match &self.api {
            Some(Ok(loaded)) if loaded.generation == Some(pushed) => match loaded.error {
                None => "confirmed",
                Some(_) => "refused",
            },
            _ if started.is_some_and(|started| started >= pushed) => "confirmed",
            _ => "pending",
        }
    }

    /// Why it is not known whether Traefik serves the rules, or why what its plugin counts does not come in.
    pub fn trouble(&self, started: Option<u64>, now: u64) -> Option<String> {
        let has_them = matches!(&self.api, Some(Ok(loaded)) if loaded.generation == self.pushed && loaded.error.is_none());
        let uncounted = || {
            let is_overdue = now.saturating_sub(self.pushed_at) >= STARTS_SECONDS;
            (self.pushed.is_some() && has_them && started < self.pushed && is_overdue).then(|| {
                "Traefik has the rules, and no spool says that the plugin began with them: what the plugin answers is not \
                 counted; see that `mounts` of the plugin in traefik.yaml names a folder that exists, and that \
                 traefik.spool of the companion leads to the same"
                    .to_owned()
            })
        };
        self.silence(now).or_else(uncounted)
    }

    /// Why Traefik is not heard of.
    fn silence(&self, now: u64) -> Option<String> {
        self.pushed?;
        let asked_at = self.polled_at.unwrap_or_default().max(self.pushed_at);
        if self.is_asked && now.saturating_sub(asked_at) >= SILENT_SECONDS {
            return Some(
                "Traefik does not ask for its rules any more: see that Traefik runs, and that the endpoint of its HTTP \
                 provider is /traefik of this companion"
                    .to_owned(),
            );
        }
        match &self.api {
            Some(Err(error)) if now.saturating_sub(self.pushed_at) >= STARTS_SECONDS => Some(format!(
                "Traefik's API does not answer: {error}; see that Traefik runs, and that traefik.api is its address"
            )),
            _ => None,
        }
    }
}

// === impl TraefikPublisher ===

impl TraefikPublisher {
    /// A publisher for these Traefiks.
    pub fn new(
        settings: TraefikSettings,
        state: Handle<PublishState>,
        gateway: Handle<Option<GatewayState>>,
    ) -> Self {
        let known = TraefikState { is_asked: settings.http, ..TraefikState::default() };
        state.lock().traefik = Some(known);
        Self { settings, body: watch::channel(None).0, state, gateway }
    }

    /// Where Traefik's HTTP provider finds what is published, if it is to.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.settings.http.then(|| Endpoint { body: self.body.subscribe(), state: self.state.clone() })
    }

    /// Publishes whatever is newest, for ever.
    pub async fn run(self, mut publications: watch::Receiver<Option<Publication>>) {
        let asking = self.settings.api.clone().map(|url| Api::new(url, &self.settings));
        let (state, body) = (self.state.clone(), self.body.subscribe());
        let asking = async {
            match asking {
                Some(api) => api.ask(state, body).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.publish_changes(&mut publications) => {}
            () = asking => {}
            () = probe::keep_looking(&self.settings.gateway, &self.gateway, &self.state) => {}
        }
    }

    async fn publish_changes(&self, publications: &mut watch::Receiver<Option<Publication>>) {
        loop {
            let publication = publications.borrow_and_update().clone();
            let began = Instant::now();
            let done = publication.is_none_or(|publication| self.publish(&publication));
            if done {
                if publications.changed().await.is_err() {
                    return;
                }
                tokio::time::sleep_until(began + THROTTLE).await;
            } else {
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// Whether nothing is left to do.
    fn publish(&self, publication: &Publication) -> bool {
        let generation = publication.rules.generation;
        let text = body::of(&publication.rules, &publication.upstreams, &self.settings);
        let written = match &self.settings.publish {
            Some(path) => replace(path, &text),
            None => Ok(()),
        };
        let is_new = self.body.send_if_modified(|current| {
            let is_new = current.as_ref().is_none_or(|current| current.text != text);
            if is_new {
                *current = Some(Arc::new(Body { generation, text }));
            }
            is_new
        });
        let mut state = self.state.lock();
        let known = state.traefik.get_or_insert_default();
        if known.pushed != Some(generation) {
            (known.pushed, known.pushed_at) = (Some(generation), unix_seconds());
        }
        let failed = written.err();
        if known.publish_error != failed
            && let Some(message) = &failed
        {
            error!(generation, "{message}");
        }
        if is_new && failed.is_none() {
            info!(generation, "rules published for Traefik");
        }
        known.publish_error = failed;
        known.publish_error.is_none()
    }
}

/// Writes the file unless it says the same already: Traefik rebuilds the plugin for every change.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    file::replace(path, text.as_bytes())
        .map_err(|cause| format!("{} cannot be written: {cause}", path.display()))
}

// === impl Endpoint ===

impl Endpoint {
    /// What Traefik is to read, or why there is nothing yet. Waits a while before it says so, as Traefik waits
    /// longer with each refusal before it asks again.
    pub async fn text(&self) -> Result<String, &'static str> {
        self.state.lock().traefik.get_or_insert_default().polled_at = Some(unix_seconds());
        let mut body = self.body.clone();
        let first = tokio::time::timeout(PATIENCE, body.wait_for(Option::is_some)).await;
        let body = first.ok().and_then(Result::ok).and_then(|body| body.clone());
        body.map(|body| body.text.clone()).ok_or("no rules are in force yet\n")
    }
}

/// Reads back what was published in a file, so that generations go on rising and lives go on over a restart of
/// the companion. `None` if there is nothing readable.
pub(super) fn last_published(path: &Path) -> Option<Published> {
    let body: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let config = body.pointer("/http/middlewares/farebox/plugin/farebox/config")?.as_str()?;
    let config: Value = serde_json::from_str(config).ok()?;
    let rules = PushedRules::from_json(&config.get("rules")?.to_string()).ok()?;
    Some(Published::from(rules))
}
