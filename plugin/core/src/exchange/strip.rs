//! What a client cannot send to an upstream, and an upstream cannot send to a client.

use super::{HeaderEdits, RequestHead};

/// Beside an answer that is not what was paid for: how to fetch what was.
pub(super) const OWED: &str = "x-payment-owed";

/// Headers by which a proxy tells an upstream who paid and for what. A client's own are lies.
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
/// Payments, which are money until used, and copies of what only this proxy says.
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
/// Headers of a browser that an upstream behind a paid gateway would take for a cross-site request.
const BROWSER: [&str; 5] = ["origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"];

/// How much of a request is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Strip {
    /// Identity only: a request that is none of our business.
    Identity,
    /// And payments: free routes and preflights.
    Payments,
    /// And traces of a browser: priced routes.
    Browser,
}

/// Edits for a forwarded request: `path` is the canonical target where it differs from what came.
pub(super) fn to_upstream(head: &RequestHead<'_>, strip: Strip, path: Option<&str>) -> HeaderEdits {
    let groups: &[&[&str]] = match strip {
        Strip::Identity => &[&IDENTITY],
        Strip::Payments => &[&IDENTITY, &PAYMENT],
        Strip::Browser => &[&IDENTITY, &PAYMENT, &BROWSER],
    };
    let mut edits = HeaderEdits { remove: present(head.headers, groups), set: Vec::new() };
    if let Some(path) = path {
        edits.set.push((":path".into(), path.to_owned()));
    }
    edits
}

/// Edits for a request that goes to another shell of this core, which begins its exchange anew: the payment
/// stays, forged identities do not.
pub fn to_gateway(head: &RequestHead<'_>) -> HeaderEdits {
    to_upstream(head, Strip::Identity, None)
}

/// The names among `headers`, a response's or the trailers of either direction, that are ours to say.
pub fn forged_names(headers: &[(&str, &[u8])]) -> Vec<String> {
    present(headers, &[&IDENTITY, &PAYMENT])
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

/// Whether an upstream could read `name` as `known`: letter case never matters, and gateways of the CGI
/// family turn `-`, `_` and `.` into the same variable.
pub(super) fn is_alias(name: &str, known: &str) -> bool {
    let fold = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == known.len() && name.bytes().zip(known.bytes()).all(|(a, b)| fold(a) == b)
}
