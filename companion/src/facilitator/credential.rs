//! What facilitators are shown to take a call. Files are read again for every call, so that a renewed secret is
//! used at once; no secret is ever part of an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use ring::rand::{SecureRandom, SystemRandom};

use super::jwt::{ApiKey, expiry};
use crate::settings::Credential;

/// The credentials of all facilitators, by address.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Arc<BTreeMap<String, Credential>>);

/// Why a credential cannot be used. The text names the file and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the credential {0}")]
pub struct CredentialError(String);

/// A file, read.
enum Secret {
    Bearer(String),
    Key(ApiKey),
}

// === impl Credentials ===

impl Credentials {
    /// The credentials of the settings.
    pub fn new(by_address: BTreeMap<String, Credential>) -> Self {
        Self(Arc::new(by_address))
    }

    /// The addresses of facilitators with a credential.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether the credential of the facilitator at `base` can be used at `now`, Unix seconds. Without one there
    /// is nothing to be wrong.
    pub async fn check(&self, base: &str, now: u64) -> Result<(), CredentialError> {
        match self.0.get(base) {
            Some(credential) => read(credential, now).await.map(drop),
            None => Ok(()),
        }
    }

    /// The `Authorization` of one request to the facilitator at `base`; `None` if it needs none.
    pub(super) async fn authorization(
        &self,
        base: &str,
        method: &Method,
        target: &Url,
        now: u64,
    ) -> Result<Option<HeaderValue>, CredentialError> {
        let Some(credential) = self.0.get(base) else { return Ok(None) };
        let token = match read(credential, now).await? {
            Secret::Bearer(token) => token,
            Secret::Key(key) => {
                let mut nonce = [0; 16];
                SystemRandom::new().fill(&mut nonce).map_err(|_| {
                    unusable(credential, "cannot be used: the system gives no random numbers")
                })?;
                key.token(method, target, now, nonce)
            }
        };
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| unusable(credential, "is not one line of text; write the bare token into it"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// What to do about a facilitator that refuses the credential it is shown, or wants one.
    pub fn advice(&self, base: &str) -> String {
        self.0.get(base).map_or_else(
            || format!("it wants a credential; set facilitator.credentials for {base}"),
            |credential| {
                let file = credential.file().display();
                format!("it does not accept the credential {file}; replace it with one that is valid there")
            },
        )
    }
}

async fn read(credential: &Credential, now: u64) -> Result<Secret, CredentialError> {
    let text = tokio::fs::read_to_string(credential.file()).await.map_err(|error| {
        unusable(credential, &format!("cannot be read: {error}; put it there, readable for farebox"))
    })?;
    let text = text.trim();
    match credential {
        Credential::Bearer(_) if text.is_empty() => {
            Err(unusable(credential, "is empty; write the token into it"))
        }
        Credential::Bearer(_) if text.contains(|c: char| !c.is_ascii_graphic()) => {
            Err(unusable(credential, "is not one line of text; write the bare token into it"))
        }
        Credential::Bearer(_) => match expiry(text) {
            Some(end) if end <= now => {
                let end = i64::try_from(end).ok().and_then(|end| Timestamp::from_second(end).ok());
                let end = end.map_or_else(String::new, |end| format!(" at {end}"));
                Err(unusable(credential, &format!("expired{end}; replace it with a new token")))
            }
            _ => Ok(Secret::Bearer(text.to_owned())),
        },
        Credential::Jwt(_) if text.is_empty() => {
            Err(unusable(credential, "is empty; write the key file of the platform into it"))
        }
        Credential::Jwt(_) => ApiKey::read(text).map(Secret::Key).map_err(|what| unusable(credential, &what)),
    }
}

fn unusable(credential: &Credential, what: &str) -> CredentialError {
    CredentialError(format!("{} {what}", credential.file().display()))
}

#[cfg(test)]
#[path = "credential_tests.rs"]
mod tests;
