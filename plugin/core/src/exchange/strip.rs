//! Headers that a client cannot send to an upstream, and an upstream cannot send to a client.

use super::seen::{Seen, WEBSOCKET, is_websocket};
use super::{HeaderEdits, RequestHead};

/// Header of an answer that may not be the paid one: how to fetch the paid answer.
pub(super) const OWED: &str = "x-payment-owed";

/// Headers by which a proxy tells an upstream who paid and for what. A client must not set them.
const IDENTITY: [&str; 10] = [
    "x-verified-wallet",
    "x-payment-payer",
    "x-obol-upstream-url",
    "x-obol-offer",
    "x-obol-pay-to",
    "x-obol-job-ttl",
    "x-obol-result-visibility",
    "x-obol-public-prefix",
    "x-obol-upstream-auth",
    "x-obol-broker-sig",
];
/// Headers by which an upstream may use another path than the one in the request.
const PATH: [&str; 2] = ["x-original-url", "x-rewrite-url"];
/// Payments, which are worth money until they are used, and headers that only this proxy may set.
const PAYMENT: [&str; 8] = [
    "payment-signature",
    "x-payment",
    "payment-required",
    "payment-response",
    "x-payment-response",
    OWED,
    "settlement-overrides",
    "extension-responses",
];
/// Headers of a browser that would make an upstream refuse a request as cross-site.
const BROWSER: [&str; 5] = ["origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"];

/// Headers by which an upstream may use another method than the one in the request.
const METHOD: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Which headers of a request are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strip {
    /// Identities and other paths only, for requests without a rule.
    Identity,
    /// Also payments, for free routes.
    Payments,
    /// Also headers of a browser and other methods, for priced routes.
    Priced,
}

/// Edits for a forwarded request. `path` is the canonical target if it differs from the client's.
pub(super) fn to_upstream(
    head: &RequestHead<'_>,
    seen: &Seen<'_>,
    strip: Strip,
    path: Option<&str>,
) -> HeaderEdits {
    let groups: &[&[&str]] = match strip {
        Strip::Identity => &[&IDENTITY, &PATH],
        Strip::Payments => &[&IDENTITY, &PATH, &PAYMENT],
        Strip::Priced => &[&IDENTITY, &PATH, &PAYMENT, &BROWSER, &METHOD],
    };
    let mut edits = HeaderEdits { remove: present(head.headers, groups), set: Vec::new() };
    one_upgrade(head, &mut edits);
    // An upstream cannot take an unread body in chunks for a request, because the body begins with a number.
    if seen.may_stay_unread() {
        edits.remove.push("content-length".into());
    }
    if let Some(path) = path {
        edits.set.push((":path".into(), path.to_owned()));
    }
    edits
}

/// Edits for a request to another shell of this core, which begins a new exchange. The payment stays, and forged
/// identities are removed.
pub fn to_gateway(head: &RequestHead<'_>) -> HeaderEdits {
    to_upstream(head, &Seen::scan(head), Strip::Identity, None)
}

/// The names among `headers` that only Farebox may set. `headers` are those of a response, or trailers of either
/// direction.
pub fn forged_names(headers: &[(&str, &[u8])]) -> Vec<String> {
    present(headers, &[&IDENTITY, &PAYMENT])
}

/// Reduces `Upgrade` to WebSocket, the only protocol to switch to. If the header does not name WebSocket, it is
/// removed.
fn one_upgrade(head: &RequestHead<'_>, edits: &mut HeaderEdits) {
    let (mut is_named, mut is_asked, mut is_alone, mut has_settings) = (false, false, true, false);
    for (name, value) in head.headers {
        if *name == "upgrade" {
            is_named = true;
            is_asked |= is_websocket(value);
            is_alone &= value.trim_ascii().eq_ignore_ascii_case(WEBSOCKET);
        }
        has_settings |= *name == "http2-settings";
    }
    if has_settings {
        edits.remove.push("http2-settings".into());
    }
    if is_asked && !is_alone {
        edits.set.push(("upgrade".into(), "websocket".to_owned()));
    } else if is_named && !is_asked {
        edits.remove.push("upgrade".into());
    }
}

/// The distinct names of a head that belong to one of the groups, as they are spelled there.
fn present(headers: &[(&str, &[u8])], groups: &[&[&str]]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (name, _) in headers {
        let first = name.as_bytes().first().map(u8::to_ascii_lowercase);
        if !matches!(first, Some(b'x' | b'p' | b's' | b'e' | b'o')) {
            continue;
        }
        let ours = groups.iter().any(|group| group.iter().any(|known| is_alias(name, known)));
        if ours && !found.iter().any(|known| known == name) {
            found.push((*name).to_owned());
        }
    }
    found
}

/// Whether an upstream could read `name` as `known`: letter case never matters, and CGI and similar gateways map `-`,
/// `_` and `.` to the same variable.
pub(super) fn is_alias(name: &str, known: &str) -> bool {
    let fold = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == known.len() && name.bytes().zip(known.bytes()).all(|(a, b)| fold(a) == b)
}
