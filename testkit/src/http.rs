//! The HTTP client of the stack, the benchmark and the tests.

/// A client that uses no proxy and follows no redirect. It only calls servers on this machine in plain text.
/// But if the whole workspace is built together, the companion's TLS is part of the client, too, and the
/// client then needs a provider of cryptography.
pub fn client_builder() -> reqwest::ClientBuilder {
    // The first call installs the provider; later calls find it installed and fail, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}
