//! Reading the state of the middleware and the router from Traefik's API.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::{Body, NAME, TraefikState, body};
use crate::handle::Handle;
use crate::http;
use crate::publish::PublishState;
use crate::settings::TraefikSettings;

/// The rules that Traefik has loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The generation in the middleware's configuration.
    pub generation: Option<u64>,
    /// Why the middleware or the router is not in use.
    pub error: Option<String>,
}

/// The API of a Traefik.
#[derive(Debug)]
pub(super) struct Api {
    url: String,
    /// The provider in Traefik's names.
    provider: &'static str,
}

/// Interval of the questions, and the interval while a push is under way.
const INTERVAL: Duration = Duration::from_secs(5);
const PENDING_INTERVAL: Duration = Duration::from_millis(500);
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// Longest answer, bytes: the middleware holds all rules.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

// === impl Api ===

impl Api {
    pub(super) const fn new(url: String, settings: &TraefikSettings) -> Self {
        Self { url, provider: if settings.http { "http" } else { "file" } }
    }

    /// Asks again and again. Never returns.
    pub(super) async fn ask(
        &self,
        state: Handle<PublishState>,
        mut body: watch::Receiver<Option<Arc<Body>>>,
    ) {
        let Ok(client) = http::client_builder().no_proxy().timeout(REQUEST_LIMIT).build() else { return };
        loop {
            let loaded = self.read(&client).await;
            let pushed = body.borrow_and_update().as_ref().map(|body| body.generation);
            let settled = loaded.as_ref().is_ok_and(|loaded| loaded.generation == pushed);
            state.lock().traefik.get_or_insert_with(TraefikState::default).api = Some(loaded);
            tokio::select! {
                () = tokio::time::sleep(if settled { INTERVAL } else { PENDING_INTERVAL }) => {}
                Ok(()) = body.changed() => {}
            }
        }
    }

    pub(super) async fn read(&self, client: &reqwest::Client) -> Result<Loaded, String> {
        let middleware = self.get(client, "middlewares", NAME).await?;
        // Traefik shows the error of a plugin that cannot start at the router that names it.
        let router = self.get(client, "routers", NAME).await?;
        let error = [&middleware, &router].into_iter().flatten().find_map(|found| {
            if found.get("status").and_then(Value::as_str) == Some("enabled") {
                return None;
            }
            let errors = found.get("error").and_then(Value::as_array).into_iter().flatten();
            let texts = errors.filter_map(Value::as_str).collect::<Vec<_>>();
            Some(if texts.is_empty() { "it is not enabled".to_owned() } else { texts.join("; ") })
        });
        Ok(Loaded { generation: middleware.as_ref().and_then(body::generation), error })
    }

    /// `None` if Traefik has nothing of this name.
    async fn get(&self, client: &reqwest::Client, kind: &str, name: &str) -> Result<Option<Value>, String> {
        let url = format!("{}/api/http/{kind}/{name}@{}", self.url, self.provider);
        let response = client.get(url).send().await.map_err(|error| http::describe(&error))?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = response.error_for_status().map_err(|error| http::describe(&error))?;
        let text = http::body(response, MAX_ANSWER).await.map_err(|error| format!("{error:?}"))?;
        serde_json::from_slice(&text).map(Some).map_err(|_| "answered something else than JSON".to_owned())
    }
}
