//! Publishing rules to Traefik: one dynamic configuration, as a file in a folder that Traefik watches, from an
//! endpoint that Traefik polls, or both for two Traefiks.
//!
//! * [`routers`]: which router takes which path.
//! * [`body`]: the text.
//! * [`api`]: Traefik's answer.
//! * [`probe`]: whether the gateway is where Traefik looks for it.
//!
//! With each change Traefik builds the plugin again for every router, and frees the old one only after some
//! time. So the text is replaced only when it has changed, and only after Traefik has had time for the last
//! change.

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
/// Name of the middleware that limits the plugin's instances.
const LIMIT: &str = "farebox-limit";
/// Name of the middleware that makes all requests equal for this limit.
const ALIKE: &str = "farebox-alike";
/// The header that this middleware removes.
const ALIKE_BY: &str = "X-Farebox-Alike";
/// Name of the gateway's service.
const GATEWAY: &str = "farebox-gateway";
/// Least time between two changes; Traefik delays earlier ones (`providersThrottleDuration`).
const THROTTLE: Duration = Duration::from_secs(2);
/// How long the endpoint waits for the first rules. Traefik gives up after 5 seconds (`pollTimeout`).
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before a failed write is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long Traefik may not poll before it counts as silent. It polls every five seconds, or at its
/// `pollInterval`.
const SILENT_SECONDS: u64 = 60;
/// How long Traefik may take to enforce new rules.
const STARTS_SECONDS: u64 = 30;

/// The state of the rules in Traefik.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraefikState {
    /// The generation last published.
    pub pushed: Option<u64>,
    /// When its publishing began, Unix seconds.
    pub pushed_at: u64,
    /// Whether Traefik polls the companion.
    pub is_asked: bool,
    /// Why the file could not be written; `None` after a successful write.
    pub publish_error: Option<String>,
    /// When Traefik polled last, Unix seconds.
    pub polled_at: Option<u64>,
    /// The last answer of its API, if `traefik.api` is set.
    pub api: Option<Result<Loaded, String>>,
    /// Why the companion itself does not reach the gateway at Traefik's address for it; `None` if it does.
    pub gateway_error: Option<String>,
    /// Whether the companion has tried to reach it.
    pub gateway_tried: bool,
}

/// The configuration for Traefik.
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
    /// The companion's own gateway.
    gateway: Handle<Option<GatewayState>>,
}

/// The endpoint that Traefik polls.
#[derive(Debug, Clone)]
pub struct Endpoint {
    body: watch::Receiver<Option<Arc<Body>>>,
    state: Handle<PublishState>,
}

// === impl TraefikState ===

impl TraefikState {
    /// The state of the last push for `/status`, by Traefik's API or else by the plugin. `started` is the
    /// generation with which the plugin last said that it starts.
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

    /// Why it is unknown whether Traefik serves the rules, or why the plugin's counts do not arrive.
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

    /// Why there is no answer of Traefik.
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

    /// The endpoint for Traefik's HTTP provider, if it is set.
    pub fn endpoint(&self) -> Option<Endpoint> {
        self.settings.http.then(|| Endpoint { body: self.body.subscribe(), state: self.state.clone() })
    }

    /// Publishes the newest publication, again and again. Never returns.
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

    /// Publishes rules. Returns whether nothing is left to do.
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

/// Writes the file unless it has the same text already, because Traefik rebuilds the plugin for every change.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    file::replace(path, text.as_bytes())
        .map_err(|cause| format!("{} cannot be written: {cause}", path.display()))
}

// === impl Endpoint ===

impl Endpoint {
    /// The configuration for Traefik, or why there is none yet. Waits a while before it refuses, because
    /// Traefik waits longer after each refusal before it polls again.
    pub async fn text(&self) -> Result<String, &'static str> {
        self.state.lock().traefik.get_or_insert_default().polled_at = Some(unix_seconds());
        let mut body = self.body.clone();
        let first = tokio::time::timeout(PATIENCE, body.wait_for(Option::is_some)).await;
        let body = first.ok().and_then(Result::ok).and_then(|body| body.clone());
        body.map(|body| body.text.clone()).ok_or("no rules are in force yet\n")
    }
}

/// Reads the last published file, so that generations still rise, and series keep their births, after a restart
/// of the companion. `None` if there is no readable file.
pub(super) fn last_published(path: &Path) -> Option<Published> {
    let body: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let config = body.pointer("/http/middlewares/farebox/plugin/farebox/config")?.as_str()?;
    let config: Value = serde_json::from_str(config).ok()?;
    let rules = PushedRules::from_json(&config.get("rules")?.to_string()).ok()?;
    Some(Published::from(rules))
}
