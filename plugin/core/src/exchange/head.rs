//! The heads of a request and of a response, as a shell reads them.

use std::net::IpAddr;

/// A request head. Pseudo-headers are part of `headers`, as in HTTP/2 and Envoy: `:method`,
/// `:path`, `:authority`, `:scheme`. Values are bytes, and may not be text.
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
    /// Peer address, if the shell knows it. Only needed if the rules require secure transport.
    pub peer: Option<IpAddr>,
}

/// A response head on its way to the client.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// Final status (of 1xx only 101).
    pub status: u16,
    /// Every header line, names in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Which program made it.
    pub origin: ResponseOrigin,
}

/// Which program made a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseOrigin {
    /// The upstream.
    Upstream,
    /// The proxy, because the upstream could not be reached or broke off before its headers.
    ProxyUnavailable,
    /// The proxy, because the upstream switched to a protocol that the client had not asked for.
    ProxyRefusedSwitch,
    /// The proxy, because the upstream did not answer in time.
    ProxyTimeout,
}
