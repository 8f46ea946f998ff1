//! The `Authorization` for an upstream, in place of the client's.

use std::sync::{Mutex, PoisonError};

use farebox_pricing::Credential;
use http::HeaderValue;

/// A credential in use.
#[derive(Debug)]
pub(super) struct Authorization {
    source: Credential,
    /// The last good value, for the time when the file cannot be read.
    last: Mutex<Option<HeaderValue>>,
}

// === impl Authorization ===

impl Authorization {
    pub(super) fn new(source: Credential) -> Self {
        Self { source, last: Mutex::default() }
    }

    /// The value. A file is read again each time, so that a new secret is used at once.
    pub(super) async fn value(&self) -> Result<HeaderValue, String> {
        match self.read().await {
            Ok(value) => {
                self.last().replace(value.clone());
                Ok(value)
            }
            Err(error) => self.last().clone().ok_or(error),
        }
    }

    /// Whether there is a value; reads it at the first use.
    pub(super) async fn is_usable(&self) -> bool {
        let known = self.last().is_some();
        known || self.value().await.is_ok()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<HeaderValue, String> {
        let (text, source) = match &self.source {
            Credential::Value(value) => (value.clone(), "the value".to_owned()),
            Credential::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                (text.map_err(|error| format!("{path} cannot be read: {error}"))?, path.clone())
            }
            Credential::Env(name) => {
                let text = std::env::var(name).map_err(|_| format!("{name} is not in the environment"))?;
                (text, name.clone())
            }
        };
        let text = text.trim();
        let value = HeaderValue::try_from(text).ok().filter(|_| !text.is_empty());
        let mut value = value.ok_or_else(|| format!("{source} is not one line of text"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
