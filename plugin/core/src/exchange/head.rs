//! What a shell captures of a request and of a response.

use std::net::IpAddr;

/// A request head. Pseudo-headers are part of `headers`, as HTTP/2 and Envoy have them:
/// `:method`, `:path`, `:authority`, `:scheme`. Values are bytes, never assumed to be text.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// Every header line in order, names in lower case, repeated names repeated.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// How the request arrived.
    pub transport: Transport,
}

/// How a request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transport {
    /// The connection to the proxy is TLS.
    pub tls: bool,
    /// Peer address, where the shell knows it. Only needed if the rules require secure transport.
    pub peer: Option<IpAddr>,
}

/// A response head on its way to the client.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// Final status (never 1xx but 101).
    pub status: u16,
    /// Every header line, names in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Who made it.
    pub origin: ResponseOrigin,
}

/// Who made a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseOrigin {
    /// The upstream.
    Upstream,
    /// The proxy, because the upstream could not be reached or broke off before its headers.
    ProxyUnavailable,
    /// The proxy, which let the upstream switch to no protocol the client had not asked for.
    ProxyRefusedSwitch,
    /// The proxy, because the upstream did not answer in time.
    ProxyTimeout,
}
