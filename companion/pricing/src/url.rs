//! The parts of a URL that a facilitator or an upstream needs: scheme, host, port, path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An `http` or `https` URL without user, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    /// Whether the scheme is `https`.
    pub https: bool,
    /// Host in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// Port, if the URL names one.
    pub port: Option<u16>,
    /// Path without trailing slashes; empty for the root.
    pub path: String,
}

/// Why a text is not such a URL. The message never repeats the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    #[error("must start with https:// or http://")]
    Scheme,
    /// A user or password before the host.
    #[error("must not hold a user or password")]
    UserInfo,
    /// No host, or a host with invalid characters.
    #[error("has no valid host")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("has no valid port")]
    Port,
    /// A query, a fragment, white space or a backslash.
    #[error("must end with a plain path: no query, fragment, space or backslash")]
    Path,
}

/// Hosts that may be reached without TLS, because they are this machine.
const LOCAL_HOSTS: [&str; 5] = ["localhost", "127.0.0.1", "::1", "host.k3d.internal", "host.docker.internal"];

// === impl HttpUrl ===

impl HttpUrl {
    /// Reads a URL.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(UrlError::Scheme)?;
        let rest = rest.strip_prefix("//").ok_or(UrlError::Scheme)?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(UrlError::Host)?;
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        if path.contains(|c: char| matches!(c, '?' | '#' | '\\') || !c.is_ascii_graphic()) {
            return Err(UrlError::Path);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, after) = bracketed.split_once(']').ok_or(UrlError::Host)?;
                host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
                (
                    host,
                    if after.is_empty() {
                        None
                    } else {
                        Some(after.strip_prefix(':').ok_or(UrlError::Port)?)
                    },
                )
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if !authority.starts_with('[') && !is_host_name(host) {
            return Err(UrlError::Host);
        }
        let port = port.map(parse_port).transpose()?;
        Ok(Self { https, host: host.to_ascii_lowercase(), port, path: path.trim_end_matches('/').to_owned() })
    }

    /// `host` or `host:port`, as in `:authority`; the port only if the URL names one.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// The port calls go to.
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// Whether the host is one of the five that may be reached over plain http.
    pub fn is_local(&self) -> bool {
        LOCAL_HOSTS.contains(&self.host.as_str())
    }

    /// Whether a challenge may name this host: it is not local, private or internal.
    pub fn is_public(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => is_public_v4(ip),
            Ok(IpAddr::V6(ip)) => is_public_v6(ip),
            Err(_) => {
                let host = self.host.trim_end_matches('.');
                host != "localhost"
                    && ![".localhost", ".local", ".internal"].iter().any(|suffix| host.ends_with(suffix))
            }
        }
    }
}

impl core::fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Whether a text has only letters, digits, `-`, `_` and dots, which resolvers and proxies accept
/// as a host name.
pub(super) fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.trim_end_matches('.').split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)
}

const fn is_public_v4(ip: Ipv4Addr) -> bool {
    !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified())
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HttpUrl {
        HttpUrl::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn a_url_is_taken_apart_and_loses_its_trailing_slashes() {
        let parsed = url("https://X402.gcp.obol.tech/v1//");
        assert_eq!(parsed.to_string(), "https://x402.gcp.obol.tech/v1");
        assert_eq!((parsed.authority().as_str(), parsed.effective_port()), ("x402.gcp.obol.tech", 443));
        let parsed = url("http://[::1]:4020/");
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.path.as_str()), ("::1", Some(4020), ""));
        assert_eq!(parsed.authority(), "[::1]:4020");
        assert_eq!(url("http://localhost").effective_port(), 80);
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused() {
        for (text, error) in [
            ("x402.gcp.obol.tech", UrlError::Scheme),
            ("ftp://a", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("https://", UrlError::Host),
            ("https:///a", UrlError::Host),
            ("https://a b/", UrlError::Host),
            ("https://a..b/", UrlError::Host),
            ("https://[::1", UrlError::Host),
            ("https://[localhost]", UrlError::Host),
            ("https://user:secret@a", UrlError::UserInfo),
            ("https://a:0", UrlError::Port),
            ("https://a:", UrlError::Port),
            ("https://a:65536", UrlError::Port),
            ("https://a:+80", UrlError::Port),
            ("https://[::1]80", UrlError::Port),
            ("https://a/?b", UrlError::Path),
            ("https://a#b", UrlError::Path),
            ("https://a/b c", UrlError::Path),
        ] {
            assert_eq!(HttpUrl::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn only_five_hosts_are_local() {
        for host in
            ["localhost", "127.0.0.1", "[::1]", "host.k3d.internal", "host.docker.internal", "LOCALHOST"]
        {
            assert!(url(&format!("http://{host}:1")).is_local(), "{host}");
        }
        for host in ["127.0.0.2", "10.0.0.1", "facilitator", "localhost.example.com"] {
            assert!(!url(&format!("http://{host}")).is_local(), "{host}");
        }
    }

    #[test]
    fn private_hosts_are_never_told_to_buyers() {
        for host in [
            "localhost",
            "a.localhost",
            "a.local",
            "a.internal",
            "svc.cluster.local.",
            "127.0.0.9",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
        ] {
            assert!(!url(&format!("https://{host}")).is_public(), "{host}");
        }
        for host in ["x402.gcp.obol.tech", "8.8.8.8", "[2606:4700::1]", "internal.example.com"] {
            assert!(url(&format!("https://{host}")).is_public(), "{host}");
        }
    }
}
