//! How the companion calls out.

use std::error::Error;
use std::time::Duration;

/// A client that follows no redirect: nothing that is asked here may be answered from elsewhere.
pub fn client_builder() -> reqwest::ClientBuilder {
    // The first caller installs the provider, later ones find it in place.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(2))
        .user_agent(concat!("farebox/", env!("CARGO_PKG_VERSION")))
}

/// The innermost cause, which is what an operator can act on, without the address.
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
