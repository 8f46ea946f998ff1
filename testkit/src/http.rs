//! How the stack, the benchmark and the tests call out.

/// A client that uses no proxy and follows no redirect. Everything it calls is on this machine and in plain
/// text; but where the whole workspace is built as one, the companion's TLS is part of the client too, and a
/// client does not start without a provider of cryptography.
pub fn client_builder() -> reqwest::ClientBuilder {
    // The first caller installs the provider, later ones find it in place.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none())
}
