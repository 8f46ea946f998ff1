//! Pages of other origins: the CORS headers for their browsers.

use std::borrow::Cow;

use super::Reply;
use super::reply::Asker;
use super::seen::Seen;
use crate::terms::Settings;

type Headers = Vec<(Cow<'static, str>, String)>;

/// The methods that a page may send to a paid route.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// The headers that a page needs for payment and authentication.
const HEADERS: &str = "PAYMENT-SIGNATURE, X-PAYMENT, Authorization, Content-Type";
/// Longest list of further header names that is allowed, bytes.
const MAX_ASKED: usize = 1024;

/// Lets a page of an allowed origin read an answer.
pub(super) fn grant(headers: &mut Headers, settings: &Settings, asker: Asker) {
    let Some(cors) = &settings.cors else { return };
    let Some(origin) = asker.page.and_then(|place| cors.origins.get(usize::from(place))) else { return };
    headers.push(("access-control-allow-origin".into(), origin.clone()));
    if cors.credentials {
        headers.push(("access-control-allow-credentials".into(), "true".to_owned()));
    }
}

/// As [`grant`], for Farebox's own answer.
pub(super) fn grant_reply(reply: &mut Reply, settings: &Settings, asker: Asker) {
    if settings.cors.is_some() {
        reply.headers.push(("vary".into(), "Origin".to_owned()));
        grant(&mut reply.headers, settings, asker);
    }
}

/// The answer to a preflight. Without `filter.cors`, or for another origin, it allows nothing.
pub(super) fn preflight(seen: &Seen<'_>, settings: &Settings, asker: Asker) -> Reply {
    let mut headers: Headers = vec![("cache-control".into(), "no-store".to_owned())];
    if let (Some(cors), true) = (&settings.cors, asker.page.is_some()) {
        let asked = core::str::from_utf8(seen.asked_headers).unwrap_or_default();
        let is_list = asked.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(&b));
        let asked = if is_list && asked.len() <= MAX_ASKED { asked } else { "" };
        let comma = if asked.is_empty() { "" } else { ", " };
        headers.push(("access-control-allow-methods".into(), METHODS.to_owned()));
        headers.push(("access-control-allow-headers".into(), [HEADERS, comma, asked].concat()));
        headers.push(("access-control-max-age".into(), cors.max_age.to_string()));
    }
    Reply { status: 204, headers, body: Vec::new() }
}
