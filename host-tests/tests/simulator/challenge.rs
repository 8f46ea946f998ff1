//! Requests that end without a payment: challenges, blocks, free routes.

use crate::shop::{GENERATION, PAY_TO, PAYMENTS, Shop, body, counters, decode, rules};
use farebox_core::metrics::{BlockedReason, FailureReason, MetricSeries};
use farebox_host_tests::envoy::{Origin, Request, Response};
use serde_json::json;

fn blocked(shop: &Shop, offer: Option<&str>, reason: BlockedReason) -> Option<u64> {
    let namespace = if offer.is_some() { "shop" } else { "" };
    let series = MetricSeries::Blocked(namespace.to_owned(), offer.unwrap_or_default().to_owned(), reason);
    shop.envoy.counted().get(&series).copied()
}

#[test]
fn an_unpaid_request_is_challenged_and_goes_nowhere() {
    let shop = Shop::open();
    let stream = shop.envoy.send(1, Request::get("/paid/x?q=1"));
    let response = stream.expect_response(402);
    assert_eq!((response.origin, stream.forwarded()), (Origin::Guest, None));
    assert_eq!(response.headers.get("content-type").as_deref(), Some("application/json"));
    assert_eq!(response.headers.get("cache-control").as_deref(), Some("no-store"));
    let challenge = decode(&response.headers.get("payment-required").unwrap());
    assert_eq!(challenge["x402Version"], 2);
    assert_eq!(challenge["resource"]["url"], "https://api.example.com/paid/x?q=1");
    assert_eq!(
        challenge["accepts"],
        json!([{
            "scheme": "exact", "network": "eip155:84532", "amount": "1000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": PAY_TO, "maxTimeoutSeconds": 600,
            "extra": { "name": "USDC", "version": "2", "assetTransferMethod": "eip3009" },
        }])
    );
    assert_eq!(
        (&body(&response)["x402Version"], &body(&response)["resource"]),
        (&json!(1), &challenge["resource"])
    );
    assert_eq!(shop.counted("paid"), counters(&[("PaymentRequired", 1)]));
}

#[test]
fn an_empty_payment_header_is_none() {
    let shop = Shop::open();
    for name in ["x-payment", "payment-signature"] {
        shop.envoy.send(0, Request::get("/paid/x").header(name, "")).expect_response(402);
    }
    assert_eq!(shop.counted("paid"), counters(&[("PaymentRequired", 2)]));
}

#[test]
fn a_head_request_is_challenged_without_a_body_and_buys_nothing() {
    let shop = Shop::open();
    let header = shop.header("/paid/x", 1);
    let request = || Request::with_method("HEAD", "/paid/x");
    for (request, status) in [(request(), 402), (request().header("payment-signature", header), 400)] {
        let stream = shop.envoy.send(0, request);
        let response = stream.expect_response(status);
        assert_eq!(response.body, b"");
        assert_eq!(response.headers.get("payment-required").is_some(), status == 402);
        assert_eq!((stream.forwarded(), shop.envoy.shared_keys(PAYMENTS)), (None, 0));
    }
}

#[test]
fn a_free_request_passes_without_forged_identity_or_a_live_authorization() {
    let shop = Shop::open();
    let request = Request::get("/free/x")
        .header("x-payment", "live")
        .header("payment-signature", "live")
        .header("X-Payment-Payer", "0xforged")
        .header("x_payment_payer", "0xforged")
        .header("x-verified-wallet", "0xforged")
        .header("x-kept", "yes");
    let stream = shop.envoy.send(0, request);
    let forwarded = stream.expect_forwarded();
    for name in ["x-payment", "payment-signature", "x-payment-payer", "x_payment_payer", "x-verified-wallet"]
    {
        assert_eq!(forwarded.get(name), None, "{name}");
    }
    assert_eq!(forwarded.get("x-kept").as_deref(), Some("yes"));
    stream.upstream_answers(200, &[]);
    stream.body_ends();
    assert_eq!(stream.expect_response(200).origin, Origin::Upstream);
}

#[test]
fn what_no_rule_allows_is_refused() {
    let shop = Shop::open();
    let refused = |path: &str, status: u16| {
        let stream = shop.envoy.send(0, Request::get(path));
        assert_eq!(stream.forwarded(), None, "{path}");
        stream.expect_response(status);
    };
    refused("/nowhere", 404);
    refused("/broken/x", 403);
    refused("/PAID/x", 403);
    for path in ["/free/../paid/x", "/free/%2e%2e/paid/x", "/free%2fx", "/free/%252e", "/free/\\x", "free"] {
        refused(path, 400);
    }
    assert_eq!(blocked(&shop, None, BlockedReason::Unmatched), Some(1));
    assert_eq!(blocked(&shop, Some("broken"), BlockedReason::RouteSkipped), Some(1));
    assert_eq!(blocked(&shop, None, BlockedReason::ProtectedPrefix), Some(1));
    assert_eq!(blocked(&shop, None, BlockedReason::AmbiguousPath), Some(6));
}

#[test]
fn no_payment_is_taken_while_the_facilitator_is_not_ready() {
    let mut rules = rules(GENERATION);
    rules["facilitator"]["ready"] = json!(false);
    let shop = Shop::with_rules(&rules, 1);
    shop.envoy.send(0, Request::get("/paid/x")).expect_response(402);
    let stream = shop.envoy.send(0, Request::get("/paid/x").header("payment-signature", "e30="));
    let response = stream.expect_response(503);
    assert_eq!(response.headers.get("retry-after").as_deref(), Some("1"));
    assert_eq!(response.headers.get("payment-required"), None);
    shop.envoy.send(0, Request::get("/free/x")).expect_forwarded();
    assert_eq!(blocked(&shop, Some("paid"), BlockedReason::FacilitatorNotReady), Some(1));
}

#[test]
fn an_upgrade_is_refused_before_anybody_signs_for_it() {
    let shop = Shop::open();
    let request = Request::get("/paid/x").header("connection", "upgrade").header("upgrade", "websocket");
    let response = shop.envoy.send(0, request).expect_response(501);
    assert_eq!(response.headers.get("payment-required"), None);
    assert_eq!(body(&response)["reason"], "upgrade_unsupported");
}

#[test]
fn a_preflight_is_answered_here_and_not_priced() {
    let mut rules = rules(GENERATION);
    rules["settings"]["cors"] = json!({ "origins": ["https://app.example.com"] });
    let shop = Shop::with_rules(&rules, 1);
    let request = Request::with_method("OPTIONS", "/paid/x")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST");
    let allowed = |response: &Response| response.headers.get("access-control-allow-origin");
    let response = shop.envoy.send(0, request.clone()).expect_response(204);
    assert_eq!(allowed(&response).as_deref(), Some("https://app.example.com"));
    assert_eq!(
        (response.body.len(), allowed(&Shop::open().envoy.send(0, request.clone()).expect_response(204))),
        (0, None)
    );
    assert_eq!(shop.counted("paid"), counters(&[]));
    let response = shop.envoy.send(0, request.header("content-length", "3")).expect_response(402);
    assert_eq!(allowed(&response).as_deref(), Some("https://app.example.com"));
}

#[test]
fn a_browser_gets_a_page() {
    let shop = Shop::open();
    let request =
        Request::get("/paid/<script>").header("accept", "text/html").replacing("user-agent", "Mozilla/5.0");
    let stream = shop.envoy.send(0, request);
    let response = stream.expect_response(402);
    let kind = response.headers.get("content-type").unwrap();
    assert!(kind.starts_with("text/html"), "{kind}");
    assert!(response.headers.get("payment-required").is_some());
    assert!(!String::from_utf8_lossy(&response.body).contains("<script>"));
}

#[test]
fn a_payment_in_plaintext_from_a_public_address_is_refused_before_the_facilitator_hears_of_it() {
    let mut rules = rules(GENERATION);
    rules["settings"]["requireSecureTransport"] = true.into();
    let shop = Shop::with_rules(&rules, 1);
    let header = shop.header("/paid/x", 1);
    let paying = || Request::get("/paid/x").header("payment-signature", &header);
    for peer in ["203.0.113.7:40000", "[2001:db8::1]:40000"] {
        let stream = shop.envoy.send(0, paying().from_peer(peer));
        let response = stream.expect_response(400);
        assert_eq!(body(&response)["reason"], "insecure_transport", "{peer}");
        assert_eq!((stream.forwarded(), shop.envoy.shared_keys(PAYMENTS)), (None, 0));
    }
    assert_eq!(shop.failed("paid", FailureReason::InsecureTransport), 2);
    for request in [paying().from_peer("10.0.0.9:40000"), paying().from_peer("203.0.113.7:40000").over_tls()]
    {
        let stream = shop.envoy.send(0, request);
        stream.expect_callout("/verify");
        stream.client_leaves();
    }
}
