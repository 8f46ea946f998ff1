//! Header edits of an upstream's response on a priced route.

use super::cors::grant;
use super::reply::Asker;
use super::strip::{forged_names, is_alias};
use super::{HeaderEdits, ResponseHead};
use crate::terms::Settings;

/// The headers that a page of another origin may read.
pub(super) const EXPOSED: [&str; 5] =
    ["PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE", "X-PAYMENT-OWED", "RETRY-AFTER"];
/// The request headers on which an answer depends, for caches.
const VARY: [&str; 2] = ["PAYMENT-SIGNATURE", "X-PAYMENT"];

/// Edits for an unpaid response: only headers that an upstream must not set are removed.
///
/// If the upstream itself sends CORS headers, only they decide which pages may read the response.
pub(super) fn unpaid(head: &ResponseHead<'_>, settings: &Settings, asker: Asker) -> HeaderEdits {
    edits(head, settings, asker, &[])
}

fn edits(head: &ResponseHead<'_>, settings: &Settings, asker: Asker, vary: &[&str]) -> HeaderEdits {
    let mut edits = HeaderEdits { remove: forged_names(head.headers), set: Vec::new() };
    if join(head, "access-control-allow-origin").is_empty() {
        grant(&mut edits.set, settings, asker);
    }
    if asker.cors {
        expose(head, settings, &mut edits);
    }
    let mut vary = vary.to_vec();
    if settings.cors.is_some() {
        vary.push("Origin");
    }
    if let Some(vary) = with_missing(&join(head, "vary"), &vary) {
        edits.set.push(("vary".into(), vary));
    }
    edits
}

/// Edits for a paid response without its receipts: no shared cache may keep the response.
pub(super) fn paid(head: &ResponseHead<'_>, settings: &Settings, asker: Asker) -> HeaderEdits {
    let mut edits = edits(head, settings, asker, &VARY);
    for (name, _) in head.headers {
        let cdn = is_alias(name, "surrogate-control") || name.ends_with("cdn-cache-control");
        if cdn && !edits.remove.iter().any(|known| known == name) {
            edits.remove.push((*name).to_owned());
        }
    }
    edits.set.push(("cache-control".into(), private_cache_control(&join(head, "cache-control"))));
    edits
}

/// Adds the missing names to `Access-Control-Expose-Headers`. A single `*` already exposes
/// everything, unless credentials are allowed: then browsers read `*` literally.
fn expose(head: &ResponseHead<'_>, settings: &Settings, edits: &mut HeaderEdits) {
    let credentials = join(head, "access-control-allow-credentials").eq_ignore_ascii_case("true")
        || settings.cors.as_ref().is_some_and(|cors| cors.credentials);
    let present = join(head, "access-control-expose-headers");
    let value = if credentials { add_missing(&present, &EXPOSED) } else { with_missing(&present, &EXPOSED) };
    if let Some(value) = value {
        edits.set.push(("access-control-expose-headers".into(), value));
    }
}

/// All lines of a header as one list. Lines that are not text are left out.
fn join(head: &ResponseHead<'_>, name: &str) -> String {
    let mut out = String::new();
    for (_, value) in head.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)) {
        let Ok(value) = core::str::from_utf8(value.trim_ascii()) else { continue };
        if !out.is_empty() && !value.is_empty() {
            out.push_str(", ");
        }
        out.push_str(value);
    }
    out
}

/// `None` if nothing is missing or a `*` covers it.
fn with_missing(list: &str, names: &[&str]) -> Option<String> {
    if list.split(',').any(|item| item.trim() == "*") { None } else { add_missing(list, names) }
}

fn add_missing(list: &str, names: &[&str]) -> Option<String> {
    let mut out = list.to_owned();
    for name in names {
        if !list.split(',').any(|item| item.trim().eq_ignore_ascii_case(name)) {
            if !out.is_empty() {
                out.push_str(", ");
            }
            out.push_str(name);
        }
    }
    (out.len() > list.len()).then_some(out)
}

/// Adds the directive `private`, and removes `public` and `s-maxage`. A `private` with field names
/// (`private="set-cookie"`) is not enough, because caches may still share the rest.
fn private_cache_control(value: &str) -> String {
    let mut kept = vec!["private"];
    for directive in directives(value) {
        let name = directive.split('=').next().unwrap_or_default().trim();
        let dropped = ["public", "s-maxage", "private"].iter().any(|d| name.eq_ignore_ascii_case(d));
        if !dropped && !directive.is_empty() {
            kept.push(directive);
        }
    }
    kept.join(", ")
}

/// Splits at commas outside quotes.
fn directives(value: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    value
        .split(move |c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::super::ResponseOrigin;
    use super::*;

    fn edits(headers: &[(&str, &str)], cors: bool) -> HeaderEdits {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
        let head = ResponseHead { status: 200, headers: &headers, origin: ResponseOrigin::Upstream };
        paid(&head, &Settings::default(), Asker { cors, ..Asker::default() })
    }
    fn set(edits: &HeaderEdits, name: &str) -> Option<String> {
        edits.set.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn paid_responses_are_private_whatever_the_upstream_said() {
        let cases = [
            ("", "private"),
            ("public, max-age=60", "private, max-age=60"),
            ("max-age=60, S-MaxAge=600", "private, max-age=60"),
            ("no-store", "private, no-store"),
            ("private", "private"),
            ("private=\"a, b\", no-cache=\"x, public\"", "private, no-cache=\"x, public\""),
        ];
        for (given, expected) in cases {
            assert_eq!(set(&edits(&[("cache-control", given)], false), "cache-control").unwrap(), expected);
        }
        let two = edits(&[("cache-control", "public"), ("cache-control", "max-age=1")], false);
        assert_eq!(set(&two, "cache-control").unwrap(), "private, max-age=1");
    }

    #[test]
    fn cdn_directives_and_forged_receipts_are_removed() {
        let given = [
            ("surrogate-control", "max-age=9"),
            ("cdn-cache-control", "max-age=9"),
            ("cloudflare-cdn-cache-control", "max-age=9"),
            ("payment-response", "forged"),
            ("x-payment-response", "forged"),
            ("x_payment_response", "forged"),
            ("payment-required", "forged"),
            ("settlement-overrides", "{}"),
            ("extension-responses", "e30="),
            ("x-payment-payer", "0x"),
            ("etag", "kept"),
        ];
        let removed = edits(&given, false).remove;
        assert_eq!(removed.len(), given.len() - 1);
        assert!(!removed.contains(&"etag".to_owned()));
    }

    #[test]
    fn vary_gains_the_payment_headers_once() {
        let both = Some("accept, PAYMENT-SIGNATURE, X-PAYMENT".to_owned());
        assert_eq!(set(&edits(&[("vary", "accept")], false), "vary"), both);
        assert_eq!(set(&edits(&[], false), "vary").unwrap(), "PAYMENT-SIGNATURE, X-PAYMENT");
        assert_eq!(set(&edits(&[("vary", "x-payment, payment-signature")], false), "vary"), None);
        assert_eq!(set(&edits(&[("vary", "*")], false), "vary"), None);
    }

    #[test]
    fn browsers_may_read_receipts_when_they_came_from_another_origin() {
        let name = "access-control-expose-headers";
        let all = "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, X-PAYMENT-OWED, RETRY-AFTER";
        assert_eq!(set(&edits(&[], true), name).unwrap(), all);
        assert_eq!(set(&edits(&[], false), name), None);
        assert_eq!(set(&edits(&[(name, "x-id")], true), name).unwrap(), format!("x-id, {all}"));
        assert_eq!(set(&edits(&[(name, "*")], true), name), None);
        let credentials = [(name, "*"), ("access-control-allow-credentials", "true")];
        assert_eq!(set(&edits(&credentials, true), name).unwrap(), format!("*, {all}"));
    }
}
