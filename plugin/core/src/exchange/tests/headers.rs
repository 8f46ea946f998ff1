//! Headers in both directions: forged headers, payer, origin, path, URL, catalog and pages.

use super::host::Host;
use super::script::{Request, Up, ok, request, settled, valid};
use super::world::{Wallet, payment, rules_with};
use crate::exchange::{HeaderEdits, RequestHead, Transport, to_gateway};
use crate::rules::PublicPath;

const IDENTITY: [&str; 10] = [
    "X-Verified-Wallet",
    "X-Payment-Payer",
    "X-Obol-Upstream-Url",
    "X-Obol-Offer",
    "X-Obol-Pay-To",
    "X-Obol-Job-Ttl",
    "X-Obol-Result-Visibility",
    "X-Obol-Public-Prefix",
    "X-Obol-Upstream-Auth",
    "X-Obol-Broker-Sig",
];

/// Every spelling of every identity header, on one request.
fn forged(path: &str) -> (Request, Vec<String>) {
    let mut all = Vec::new();
    for name in IDENTITY {
        let lower = name.to_lowercase();
        all.extend([lower.clone(), name.to_owned(), lower.replace('-', "_"), lower.replacen('-', "_", 1)]);
        all.push(name.replace('-', ".").to_uppercase());
    }
    let request = all.iter().fold(request(path), |request, name| request.with(name, "forged"));
    (request, all)
}

#[test]
fn identity_headers_never_reach_an_upstream_in_any_spelling() {
    let mut pass = Host::with_rules(rules_with(|p| p.settings.unmatched = crate::terms::Unmatched::Pass));
    let (unmatched, all) = forged("/elsewhere");
    assert_eq!(pass.play(&unmatched, &ok()).forwarded.unwrap().remove, all);
    let (free, all) = forged("/free/a");
    assert_eq!(Host::new().play(&free, &ok()).forwarded.unwrap().remove, all);
    let (paid, all) = forged("/paid/a");
    let mut host = Host::new();
    host.script([valid(), settled(84532, "0xabc")]);
    let removed = host.play(&paid.paying(&payment(1)), &ok()).forwarded.unwrap().remove;
    assert!(all.iter().all(|name| removed.contains(name)));
}

#[test]
fn a_request_for_a_gateway_keeps_its_payment_and_loses_forged_identities() {
    let (paid, all) = forged("/paid/a");
    let paid = paid.paying(&payment(1)).with("x-payment", "other").with("origin", "https://shop.example");
    let lines: Vec<_> = paid.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let head = RequestHead { headers: &lines, transport: Transport::default() };
    assert_eq!(to_gateway(&head), HeaderEdits { remove: all, set: Vec::new() });
}

#[test]
fn a_paid_request_reaches_the_upstream_with_its_payer_and_without_its_payment() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, "0xabc")]);
    let browser = ["origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user"];
    let copies = ["payment-required", "payment-response", "x-payment-response", "settlement-overrides"];
    let mut paid =
        request("/paid//a?b=1").paying(&payment(1)).with("x-payment", "other").with("x_payment", "x");
    for name in browser.iter().chain(&copies).chain(&["extension-responses"]) {
        paid = paid.with(name, "x");
    }
    let story = host.play(&paid.with("authorization", "Bearer kept").with("x-payment-id", "kept"), &ok());
    let edits = story.forwarded.as_ref().unwrap();
    let mut removed = edits.remove.clone();
    removed.sort();
    let mut expected: Vec<&str> = browser.iter().chain(&copies).copied().collect();
    expected.extend(["payment-signature", "x-payment", "x_payment", "extension-responses"]);
    expected.sort_unstable();
    assert_eq!(removed, expected);
    let payer = Wallet::new(1).address.checksummed();
    assert_eq!(edits.set, [(":path".into(), "/paid/a?b=1".to_owned()), ("x-payment-payer".into(), payer)]);
}

#[test]
fn an_upstream_cannot_forge_receipts() {
    let mut host = Host::new();
    host.script([valid(), settled(84532, "0xabc")]);
    let up = Up::Answers(
        200,
        vec![
            ("payment-response", "forged"),
            ("x-payment-response", "forged"),
            ("settlement-overrides", "{}"),
        ],
    );
    let story = host.play(&request("/paid/a").paying(&payment(1)), &up);
    let edits = story.released().1;
    assert_eq!(edits.remove, ["payment-response", "x-payment-response", "settlement-overrides"]);
    assert_eq!(story.receipt().unwrap()["transaction"], "0xabc");
    host.script([valid()]);
    let up = Up::Answers(402, vec![("payment-required", "pay me instead")]);
    let story = host.play(&request("/paid/a").paying(&payment(2)), &up);
    assert_eq!(story.released().1.remove, ["payment-required"]);
}

#[test]
fn scripts_of_other_origins_may_read_what_they_need() {
    let name = "access-control-expose-headers";
    let all = Some("PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE, X-PAYMENT-OWED, RETRY-AFTER");
    let mut host = Host::new();
    for path in ["/paid/a", "/guarded/x", "/paid/%2f"] {
        let story = host.play(&request(path).with("origin", "https://a.example"), &ok());
        assert_eq!(story.header(name), all, "{path}");
        assert_eq!(host.play(&request(path), &ok()).header(name), None, "{path}");
    }
    host.script([valid(), settled(84532, "0xabc")]);
    let paid = request("/paid/a").paying(&payment(1)).with("origin", "https://a.example");
    assert_eq!(host.play(&paid, &ok()).header(name), all);
}

#[test]
fn a_person_gets_a_page_with_the_same_headers() {
    let mut host = Host::new();
    let plain = host.play(&request("/paid/a"), &ok());
    let page =
        |accept: &str, agent: &str| request("/paid/a").with("accept", accept).with("user-agent", agent);
    for accept in ["text/html,*/*", "Application/XHTML+XML"] {
        let story = host.play(&page(accept, "Mozilla/5.0 (X11)"), &ok());
        assert_eq!(story.status(), 402);
        assert_eq!(story.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(story.header("payment-required"), plain.header("payment-required"));
        assert!(String::from_utf8_lossy(&story.reply().body).starts_with("<!doctype html>"));
    }
    for (accept, agent) in [("*/*", "Mozilla/5.0"), ("text/html", "curl/8"), ("application/json", "Mozilla")]
    {
        let story = host.play(&page(accept, agent), &ok());
        assert_eq!(story.header("content-type"), Some("application/json"), "{accept} {agent}");
    }
}

#[test]
fn the_catalog_is_linked_from_challenges() {
    let mut host = Host::with_rules(rules_with(|p| p.settings.catalog = Some("/api/services.json".into())));
    let story = host.play(&request("/paid/a"), &ok());
    assert_eq!(story.header("link"), Some("</api/services.json>; rel=\"catalog\""));
    assert_eq!(host.play(&request("/broken"), &ok()).header("link"), None);
}

/// The resource URL of a challenge for these headers.
fn url(host: &mut Host, path: &str, tls: bool, headers: &[(&str, &str)]) -> String {
    let transport = Transport { tls, peer: None };
    let request = headers.iter().fold(request(path), |request, (name, value)| request.with(name, value));
    let story = host.play(&Request { transport, ..request }, &ok());
    story.body()["resource"]["url"].as_str().unwrap().to_owned()
}

#[test]
fn the_resource_is_named_by_its_public_url() {
    let mut host = Host::new();
    let at = |host: &mut Host, tls, authority: &str, headers: &[(&str, &str)]| {
        let mut all = vec![(":authority", authority)];
        all.extend_from_slice(headers);
        url(host, "/paid/a?q=1", tls, &all)
    };
    let cases = [
        ("api.example", false, "https://api.example/paid/a?q=1"),
        ("api.example:8443", false, "https://api.example:8443/paid/a?q=1"),
        ("localhost:10000", false, "http://localhost:10000/paid/a?q=1"),
        ("localhost:10000", true, "https://localhost:10000/paid/a?q=1"),
        ("127.0.0.1:10000", false, "http://127.0.0.1:10000/paid/a?q=1"),
        ("[::1]:10000", false, "http://[::1]:10000/paid/a?q=1"),
        ("svc.ns.internal", false, "http://svc.ns.internal/paid/a?q=1"),
        ("printer.local", false, "http://printer.local/paid/a?q=1"),
        ("notlocal", false, "https://notlocal/paid/a?q=1"),
        ("a\"><script>", false, "http://localhost/paid/a?q=1"),
        ("evil.example/path", false, "http://localhost/paid/a?q=1"),
    ];
    for (authority, tls, expected) in cases {
        assert_eq!(at(&mut host, tls, authority, &[]), expected);
    }
    let local = |proto| [("x-forwarded-proto", proto)];
    assert_eq!(at(&mut host, false, "localhost", &local("https")), "https://localhost/paid/a?q=1");
    assert_eq!(at(&mut host, false, "localhost", &local("http")), "http://localhost/paid/a?q=1");
    let forwarded = [("x-forwarded-host", "shop.example, proxy.internal")];
    assert_eq!(at(&mut host, false, "api.example", &forwarded), "https://api.example/paid/a?q=1");
    let mut trusting = Host::with_rules(rules_with(|p| p.settings.trust_forwarded = true));
    assert_eq!(at(&mut trusting, false, "api.example", &forwarded), "https://shop.example/paid/a?q=1");
    let prefix = |prefix| [("x-forwarded-prefix", prefix)];
    assert_eq!(at(&mut host, false, "api.example", &prefix("/shop")), "https://api.example/paid/a?q=1");
    for (said, shown) in
        [("/shop", "/shop"), ("/a/b/, /c", "/a/b"), ("/", ""), ("shop", ""), ("//x", ""), ("/a b", "")]
    {
        let expected = format!("https://api.example{shown}/paid/a?q=1");
        assert_eq!(at(&mut trusting, false, "api.example", &prefix(said)), expected, "{said}");
    }
}

#[test]
fn the_dedicated_host_shows_the_public_path() {
    let public =
        |host: &str, prefix: &str| Some(PublicPath { host: host.into(), drop_prefix: prefix.into() });
    let mut host = Host::with_rules(rules_with(|p| p.routes[0].public = public("shop.example", "/paid")));
    assert_eq!(url(&mut host, "/paid/a?q=1", false, &[]), "https://shop.example/a?q=1");
    assert_eq!(url(&mut host, "/paid", false, &[]), "https://shop.example/");
    assert_eq!(url(&mut host, "/paid?q", false, &[]), "https://shop.example/?q");
    assert_eq!(url(&mut host, "/paid//a", false, &[]), "https://shop.example/a");
    let mut host = Host::with_rules(rules_with(|p| p.routes[0].public = public("shop.example", "/pa")));
    assert_eq!(url(&mut host, "/paid/a", false, &[]), "https://shop.example/paid/a");
}
