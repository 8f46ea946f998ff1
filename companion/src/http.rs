//! HTTP calls of the companion.

use std::error::Error;
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::{Response, Url};

/// A client that follows no redirects, because only the configured server may answer.
pub fn client_builder() -> reqwest::ClientBuilder {
    // The first call installs the provider; later calls find it installed and fail, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .user_agent(concat!("farebox/", env!("CARGO_PKG_VERSION")))
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub enum BodyError {
    /// The connection broke.
    Broken(reqwest::Error),
    /// It is longer than allowed.
    TooLong,
}

/// Reads a body of at most `max` bytes.
pub async fn body(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Where a redirect leads; `None` if that cannot be read.
pub fn redirect_target(response: &Response) -> Option<Url> {
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

/// The innermost cause, without the address, because an operator can act on it.
pub fn describe(error: &reqwest::Error) -> String {
    if let Some(status) = error.status() {
        return format!("answered {status}");
    }
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
