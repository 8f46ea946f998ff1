//! `resource.url`, the URL in a challenge. It is for information only; no decision depends on it.

use std::net::IpAddr;

use super::Transport;
use super::seen::{Seen, first_element};
use crate::rules::{CanonicalPath, PublicPath};
use crate::terms::Settings;

/// Longest host in an answer, bytes.
const MAX_HOST: usize = 255;

/// The public URL of a request. The host is that of the rules, else of a trusted `X-Forwarded-Host`, else of the
/// request. Without a host of the rules, a trusted `X-Forwarded-Prefix` is put before the path. The scheme is `http`
/// only if the connection is plain, no trusted header says https, and the host is local.
pub(super) fn resource_url(
    seen: &Seen<'_>,
    transport: Transport,
    path: &CanonicalPath<'_>,
    public: Option<&PublicPath>,
    settings: &Settings,
) -> String {
    let forwarded = if settings.trust_forwarded { first_element(seen.forwarded_host) } else { b"" };
    let asked = if forwarded.is_empty() { seen.authority } else { forwarded };
    let host = public.map_or_else(|| clean_host(asked), |public| &public.host);
    let target = path.rewritten.as_deref().or_else(|| core::str::from_utf8(seen.path).ok()).unwrap_or("/");
    let target = public.map_or(target, |public| drop_prefix(target, &public.drop_prefix));
    let prefix = if settings.trust_forwarded && public.is_none() {
        clean_prefix(first_element(seen.forwarded_prefix))
    } else {
        ""
    };
    let plain = !transport.tls && !seen.forwarded_https() && is_local(host);
    let scheme = if plain { "http://" } else { "https://" };
    let slash = if target.starts_with('/') { "" } else { "/" };
    [scheme, host, prefix, slash, target].concat()
}

/// The host as sent, if it is a valid host, because other text of a client must not get into an answer.
fn clean_host(host: &[u8]) -> &str {
    let clean = host.iter().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(b));
    let host = if clean && host.len() <= MAX_HOST { core::str::from_utf8(host).ok() } else { None };
    host.filter(|host| !host.is_empty()).unwrap_or("localhost")
}

/// The prefix that a proxy removed from the path, without trailing slash; empty if it is not a plain path.
fn clean_prefix(prefix: &[u8]) -> &str {
    let is_plain = prefix.starts_with(b"/") && !prefix.starts_with(b"//") && prefix.len() <= MAX_HOST;
    let clean = is_plain && prefix.iter().all(|b| b.is_ascii_alphanumeric() || b"/.-_~%".contains(b));
    let prefix = if clean { core::str::from_utf8(prefix).unwrap_or_default() } else { "" };
    prefix.trim_end_matches('/')
}

fn drop_prefix<'a>(target: &'a str, prefix: &str) -> &'a str {
    let prefix = prefix.trim_end_matches('/');
    match target.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '?']) => rest,
        _ => target,
    }
}

/// Whether a host is only reachable from this machine or its network.
fn is_local(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => host.split(':').next(),
    };
    let bare = bare.unwrap_or_default().to_ascii_lowercase();
    if let Ok(address) = bare.parse::<IpAddr>() {
        return is_private(address) || address.is_unspecified();
    }
    bare == "localhost" || [".localhost", ".local", ".internal"].iter().any(|end| bare.ends_with(end))
}

/// Loopback, private and link-local addresses: the peers that need no secure transport.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
