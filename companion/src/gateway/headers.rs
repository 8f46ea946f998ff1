//! Headers of requests and responses: headers of one connection are removed (RFC 9110, section 7.6.1), the core's
//! edits are carried out, and headers for the upstream name the client.

use std::net::IpAddr;

use farebox_core::exchange::{HeaderEdits, may_leave_unread};
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

/// Headers of one connection, beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Why a request head is invalid or ambiguous. The request is answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadHead(pub(super) &'static str);

/// The host of a request, as the client named it. Only HTTP/1.0 requests may have none.
pub(super) fn host_of(parts: &Parts) -> Result<Option<HeaderValue>, BadHead> {
    let mut lines = parts.headers.get_all(header::HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(BadHead("the Host header is repeated"));
    }
    if let Some(authority) = parts.uri.authority() {
        return HeaderValue::from_str(authority.as_str()).map_err(|_| UNREADABLE).map(Some);
    }
    if line.is_none() && parts.version > http::Version::HTTP_10 {
        return Err(BadHead("the Host header is missing"));
    }
    // Only characters of a name, an address and a port, because the host is sent to buyers and upstreams.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(byte);
    match line {
        Some(line) if !line.as_bytes().iter().all(is_plain) => Err(UNREADABLE),
        line => Ok(line.cloned()),
    }
}

const UNREADABLE: BadHead = BadHead("the host is unreadable");

/// A request head for the core. Headers about earlier proxies are left out unless the operator trusts the sender. The
/// length of a body that is sent over its own connection is left out, too, because such a body cannot be taken for
/// the next request.
pub(super) fn lines<'a>(
    parts: &'a Parts,
    path: &'a str,
    host: Option<&'a HeaderValue>,
    trusted: bool,
) -> Vec<(&'a str, &'a [u8])> {
    let mut lines: Vec<(&str, &[u8])> = Vec::with_capacity(parts.headers.len() + 4);
    lines.push((":method", parts.method.as_str().as_bytes()));
    lines.push((":scheme", b"http"));
    lines.push((":path", path.as_bytes()));
    lines.extend(host.map(|host| (":authority", host.as_bytes())));
    let is_believed = |name: &HeaderName| trusted || *name != FORWARDED_PROTO;
    // The core has to see the length of an OPTIONS request, which is then not a preflight, and of an upgrade.
    let is_seen = parts.method == Method::OPTIONS || parts.headers.contains_key(header::UPGRADE);
    let stands_alone = may_leave_unread(parts.method.as_str().as_bytes()) && !is_seen;
    let is_alone = |name: &HeaderName| stands_alone && *name == header::CONTENT_LENGTH;
    let own = parts.headers.iter();
    let own = own.filter(|(name, _)| *name != header::HOST && is_believed(name) && !is_alone(name));
    lines.extend(own.map(|(name, value)| (name.as_str(), value.as_bytes())));
    lines
}

/// A response head for the core.
pub(super) fn response_lines(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// Removes headers of the connection over which a message came.
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        named.extend(options.filter_map(|option| HeaderName::from_bytes(option).ok()));
    }
    // A client must not remove the headers for framing and destination.
    named.retain(|name| *name != header::HOST && *name != header::CONTENT_LENGTH);
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// Whether a list header contains `token`.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Carries out the core's edits. The caller handles pseudo-headers.
pub(super) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name.as_str());
    }
    for (name, value) in edits.set.iter().filter(|(name, _)| !name.starts_with(':')) {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => headers.insert(name, value),
            // If the new value is invalid, the old one must not stay.
            Err(_) => headers.remove(name),
        };
    }
}

/// Sets headers with the client's address, host and scheme for the upstream. Received values are kept only if the
/// operator trusts the sender.
pub(super) fn forwarded(headers: &mut HeaderMap, host: Option<&HeaderValue>, peer: IpAddr, trusted: bool) {
    let mut chain = Vec::new();
    if trusted {
        for value in headers.get_all(FORWARDED_FOR) {
            chain.extend_from_slice(value.as_bytes());
            chain.extend_from_slice(b", ");
        }
    } else {
        headers.remove(FORWARDED);
    }
    chain.extend_from_slice(peer.to_canonical().to_string().as_bytes());
    if let Ok(chain) = HeaderValue::from_bytes(&chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    if !trusted || !headers.contains_key(FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !trusted || !headers.contains_key(FORWARDED_HOST) {
        headers.remove(FORWARDED_HOST);
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host.clone());
        }
    }
}

/// HTTP/2 may split a cookie over several lines; HTTP/1.1 may not (RFC 9113, section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_connections_own_headers_stay_with_it_and_so_do_those_it_names() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Private"),
            ("connection", "upgrade,host,content-length"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("proxy-authorization", "Basic eA=="),
            ("host", "shop.example"),
            ("content-length", "3"),
            ("x-public", "2"),
        ]);
        end_to_end(&mut headers);
        assert_eq!(headers, map(&[("host", "shop.example"), ("content-length", "3"), ("x-public", "2")]));
    }

    #[test]
    fn forwarded_headers_of_a_client_are_replaced_unless_they_are_trusted() {
        let came = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "a.example"),
        ];
        let peer = "10.0.0.9".parse().unwrap();
        let host = HeaderValue::from_static("b.example");
        let told = |trusted| {
            let mut headers = map(&came);
            forwarded(&mut headers, Some(&host), peer, trusted);
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
                .map(|name| headers[name].to_str().unwrap().to_owned())
        };
        assert_eq!(told(false), ["10.0.0.9", "http", "b.example"]);
        assert_eq!(told(true), ["1.1.1.1, 10.0.0.9", "https", "a.example"]);
    }

    #[test]
    fn an_edit_replaces_every_line_also_with_text_beyond_ascii() {
        let mut headers =
            map(&[("cache-control", "public"), ("cache-control", "s-maxage=9"), ("vary", "a"), ("gone", "")]);
        let set = |name: &'static str, value: &str| (name.into(), value.to_owned());
        let edits = HeaderEdits {
            remove: vec!["gone".into()],
            set: vec![set("cache-control", "private, x=\u{e9}"), set("vary", "a\nb"), set(":path", "/x")],
        };
        edit(&mut headers, &edits);
        let values: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(values, [("cache-control", "private, x=\u{e9}".as_bytes())]);
    }

    #[test]
    fn cookies_that_http2_split_are_joined() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2")]);
        join_cookies(&mut headers);
        assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
    }
}
