//! Decisions by the request alone.

use super::host::{Host, MODES, Mode, rules_in};
use super::script::{End, Request, ok, request, settled, valid};
use super::world::{START, Terms, Wallet, payment, pushed, rules_with};
use crate::exchange::{HeaderEdits, Transport};
use crate::protocol::decode_base64;
use crate::rules::{Gate, PushedRoute, RuleSet};
use crate::terms::Unmatched;
use std::sync::Arc;

/// Plays a request that Farebox must answer, and returns status, reason and stamps.
fn refusal(host: &mut Host, request: &Request) -> (u16, String, String) {
    let story = host.play(request, &ok());
    assert!(story.forwarded.is_none());
    let reason = match story.status() {
        402 | 412 => story.body()["extensions"]["paymentFailure"]["reason"].clone(),
        _ => story.body()["reason"].clone(),
    };
    let short = story.short();
    (story.status(), reason.as_str().unwrap_or_default().to_owned(), short)
}

#[track_caller]
fn assert_refused(request: &Request, status: u16, reason: &str, stamps: &str) {
    let mut host = Host::new();
    let expected = (status, reason.to_owned(), stamps.to_owned());
    assert_eq!(refusal(&mut host, request), expected);
}

#[test]
fn without_rules_everything_is_refused() {
    let mut host = Host::with_rules(Arc::new(RuleSet::closed()));
    for path in ["/paid/a", "/free/a", "/", "/../x"] {
        let story = host.play(&request(path), &ok());
        assert_eq!((story.status(), story.header("retry-after")), (503, Some("1")));
        assert_eq!(story.body()["reason"], "config_not_loaded");
        assert_eq!(story.body()["retriable"], true);
        assert_eq!(story.short(), "Blocked(ConfigNotLoaded)");
    }
}

#[test]
fn payments_wait_for_the_facilitator_and_terms_and_free_routes_do_not() {
    let mut host = Host::with_rules(rules_with(|p| p.facilitator.as_mut().unwrap().ready = false));
    let story = host.play(&request("/paid/a").paying(&payment(1)), &ok());
    assert_eq!((story.status(), story.header("retry-after")), (503, Some("1")));
    assert_eq!(story.short(), "Blocked(FacilitatorNotReady)@0");
    assert_eq!(host.play(&request("/paid/a"), &ok()).status(), 402);
    let story = host.play(&request("/free/a"), &ok());
    assert!(matches!(story.end, End::Passed));
}

#[test]
fn an_ambiguous_path_is_refused() {
    for path in ["/paid%2Fa", "/paid/%00", "paid", "", "/free/%2e%2e/paid/a", "/a\\b", "/%zz"] {
        assert_refused(&request(path), 400, "ambiguous_path", "Blocked(AmbiguousPath)");
    }
}

#[test]
fn a_body_that_an_upstream_may_take_for_the_next_request_is_framed_in_chunks_or_refused() {
    let asked =
        |method: &'static str, length: &str| request("/free/a").method(method).with("content-length", length);
    for (method, length, is_ambiguous) in [
        ("GET", "28", true),
        ("HEAD", "28", true),
        ("OPTIONS", "28", true),
        ("DELETE", "28", true),
        ("GET", "0", false),
        ("POST", "28", false),
    ] {
        let asked = asked(method, length);
        let story = Host::of(Mode::Relay).play(&asked, &ok());
        let removed = story.forwarded.unwrap().remove;
        assert_eq!(removed.iter().any(|name| name == "content-length"), is_ambiguous, "{method} {length}");
        let refused = Host::of(Mode::Relay).refuses_body(&asked).map(|reply| reply.status);
        assert_eq!(refused, is_ambiguous.then_some(400), "{method} {length}");
    }
}

#[test]
fn an_upgrade_with_a_body_is_refused_on_every_route() {
    for path in ["/free/a", "/paid/a", "/up/a"] {
        let asked = request(path).with("upgrade", "websocket").with("content-length", "28");
        assert_refused(&asked, 400, "ambiguous_body", "Blocked(AmbiguousBody)");
    }
}

/// Plays paths under rules of these patterns and gates, and returns the statuses; 0 means passed
/// on.
fn statuses(routes: &[(&str, Gate)], paths: &[&str]) -> Vec<u16> {
    let mut host = Host::with_rules(rules_with(|pushed| {
        let paid = pushed.routes.remove(0);
        let options = |gate| if gate == Gate::Paid { paid.options.clone() } else { Vec::new() };
        pushed.protected.clear();
        pushed.routes = routes
            .iter()
            .map(|&(pattern, gate)| PushedRoute {
                pattern: pattern.into(),
                gate,
                options: options(gate),
                ..paid.clone()
            })
            .collect();
    }));
    let mut status = |path: &&str| match host.play(&request(path), &ok()).end {
        End::Reply(reply) => reply.status,
        _ => 0,
    };
    paths.iter().map(&mut status).collect()
}

#[test]
fn a_path_that_an_upstream_without_letter_case_serves_on_other_terms_is_ambiguous() {
    let all = [("/v1/*", Gate::Paid), ("/*", Gate::Free)];
    let paths =
        ["/v1/chat", "/v1/CHAT", "/V1/chat", "/%561/chat", "/V1./chat", "/v1%20/chat", "/V1;x", "/Img/A.PNG"];
    assert_eq!(statuses(&all, &paths), [402, 402, 400, 400, 400, 400, 400, 0]);
    let upper = [("/V1/Chat", Gate::Paid), ("/*", Gate::Free)];
    assert_eq!(statuses(&upper, &["/V1/Chat", "/v1/chat", "/V1/chat", "/v1/other"]), [402, 400, 400, 0]);
    let listed = [("/v1/Docs/*", Gate::Free), ("/v1/*", Gate::Paid)];
    assert_eq!(statuses(&listed, &["/v1/Docs/a", "/v1/docs/a", "/v1/chat"]), [0, 400, 402]);
}

#[test]
fn of_patterns_that_only_case_tells_apart_the_free_one_is_closed() {
    for routes in
        [[("/V1/*", Gate::Free), ("/v1/*", Gate::Paid)], [("/v1/*", Gate::Paid), ("/V1/*", Gate::Free)]]
    {
        assert_eq!(statuses(&routes, &["/V1/a", "/v1/a"]), [400, 402]);
    }
    let both_free = [("/V1/*", Gate::Free), ("/v1/*", Gate::Free)];
    assert_eq!(statuses(&both_free, &["/V1/a", "/v1/a"]), [0, 0]);
    // Without letter case the range `Z-a` is empty.
    let odd = [("/x/[Z-a]*/y", Gate::Paid), ("/*", Gate::Free)];
    assert_eq!(statuses(&odd, &["/x/_z/y", "/a"]), [402, 0]);
}

#[test]
fn an_unruled_path_below_a_paid_prefix_is_refused_even_where_others_pass() {
    assert_refused(&request("/guarded/x"), 403, "protected_prefix", "Blocked(ProtectedPrefix)");
    let mut host = Host::with_rules(rules_with(|p| p.settings.unmatched = Unmatched::Pass));
    assert_eq!(refusal(&mut host, &request("/PAID/x")).0, 403);
}

#[test]
fn an_unruled_path_is_not_found_or_passed_with_only_identity_stripped() {
    assert_refused(&request("/elsewhere"), 404, "unmatched", "Blocked(Unmatched)");
    let mut host = Host::with_rules(rules_with(|p| p.settings.unmatched = Unmatched::Pass));
    let request = request("/else//where?q=1")
        .paying("kept")
        .with("origin", "https://a.example")
        .with("x-obol-offer", "forged");
    let story = host.play(&request, &ok());
    assert!(matches!(story.end, End::Passed));
    let edits = story.forwarded.unwrap();
    assert_eq!(edits.remove, ["x-obol-offer"]);
    // The upstream gets the path in the form of the lookup.
    assert_eq!(edits.set, [(":path".into(), "/else/where?q=1".to_owned())]);
    assert!(story.stamps.is_empty());
}

#[test]
fn a_route_left_out_at_load_is_refused() {
    assert_refused(&request("/broken"), 403, "route_misconfigured", "Blocked(RouteSkipped)@0");
}

#[test]
fn a_free_route_is_forwarded_without_payment_and_payer() {
    let mut host = Host::new();
    let request = request("/free//a?x=%41")
        .paying(&payment(1))
        .with("x-payment", "live money")
        .with("x-payment-payer", "0xforged")
        .with("origin", "https://a.example")
        .with("accept", "*/*");
    let story = host.play(&request, &ok());
    assert!(matches!(story.end, End::Passed));
    assert_eq!(story.short(), "");
    let edits = story.forwarded.unwrap();
    assert_eq!(edits.remove, ["payment-signature", "x-payment", "x-payment-payer"]);
    assert_eq!(edits.set, [(":path".into(), "/free/a?x=%41".to_owned())]);
}

#[test]
fn sign_in_routes_are_closed() {
    assert_refused(&request("/auth"), 403, "auth_gate_unsupported", "Blocked(AuthUnsupported)@0");
}

#[test]
fn an_upgrade_needs_an_upfront_option_and_is_refused_before_any_challenge() {
    let stamps = "Blocked(UpgradeRefused)@0";
    let upgrade = |path| request(path).with("upgrade", "websocket");
    assert_refused(&upgrade("/paid/a"), 501, "upgrade_unsupported", stamps);
    assert_refused(&upgrade("/paid/a").paying(&payment(1)), 501, "upgrade_unsupported", stamps);
    assert_refused(&request("/paid/a").method("CONNECT"), 501, "upgrade_unsupported", stamps);
    let mut host = Host::new();
    assert_eq!(host.play(&upgrade("/up/a"), &ok()).status(), 402);
    for list in ["h2c, WebSocket", "websocket/13, websocket"] {
        assert_refused(&request("/paid/a").with("upgrade", list), 501, "upgrade_unsupported", stamps);
    }
}

#[test]
fn other_protocols_than_websocket_are_neither_switched_to_nor_passed_on() {
    let mut host = Host::new();
    for protocol in ["h2c", "TLS/1.2", "connect-udp", "websocket2"] {
        let asked = request("/paid/a").with("upgrade", protocol).with("http2-settings", "AAMAAABkAAQAAP__");
        assert_eq!(host.play(&asked, &ok()).status(), 402, "{protocol}");
        host.script([valid(), settled(84532, "0xabc")]);
        let story =
            host.play(&asked.paying(&Wallet::new(1).pay(&Terms::of(0, 0, protocol.len() as u8))), &ok());
        let removed = &story.forwarded.as_ref().unwrap().remove;
        assert!(["upgrade", "http2-settings"].iter().all(|name| removed.iter().any(|it| it == name)));
    }
    let free = request("/free/a").with("upgrade", "h2c").with("upgrade", "websocket, h2c");
    let edits = host.play(&free, &ok()).forwarded.unwrap();
    assert_eq!(edits.set, [("upgrade".into(), "websocket".to_owned())]);
    let plain = host.play(&request("/free/a").with("upgrade", "WebSocket"), &ok()).forwarded.unwrap();
    assert_eq!(plain, HeaderEdits::default());
}

#[test]
fn a_paid_request_is_of_the_method_it_was_priced_as() {
    let names = ["x-http-method-override", "X_HTTP_Method", "x-method-override"];
    let overriding =
        |path: &str| names.iter().fold(request(path), |request, name| request.with(name, "DELETE"));
    let mut host = Host::new();
    host.script([valid(), settled(84532, "0xabc")]);
    let removed = host.play(&overriding("/paid/a").paying(&payment(1)), &ok()).forwarded.unwrap().remove;
    assert!(names.iter().all(|name| removed.iter().any(|it| it == name)), "{removed:?}");
    assert_eq!(host.play(&overriding("/free/a"), &ok()).forwarded.unwrap(), HeaderEdits::default());
}

#[test]
fn no_payment_is_answered_with_the_terms() {
    let mut host = Host::new();
    for request in [
        request("/paid/a?q=1"),
        request("/paid/a?q=1").with("x-payment", ""),
        request("/paid/a?q=1").with("payment-signature", "  ").with("payment-signature", ""),
    ] {
        let story = host.play(&request, &ok());
        assert_eq!(story.status(), 402);
        assert_eq!(story.short(), "PaymentRequired@0");
        assert_eq!(story.header("content-type"), Some("application/json"));
        let body = story.body();
        assert_eq!((&body["x402Version"], &body["error"]), (&1.into(), &"Payment required".into()));
        assert_eq!(body["resource"]["url"], "https://api.example/paid/a?q=1");
        assert_eq!(body["accepts"][0]["network"], "base-sepolia");
        assert_eq!(body["accepts"][0]["resource"], body["resource"]["url"]);
        assert!(body["extensions"]["paymentFailure"].is_null());
        let header = decode_base64(story.header("payment-required").unwrap().as_bytes()).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header["accepts"].as_array().unwrap().len(), 1);
        assert_eq!(header["accepts"][0]["network"], "eip155:84532");
        assert_eq!(header["resource"], body["resource"]);
    }
}

#[test]
fn head_gets_the_terms_as_headers_and_buys_nothing() {
    let mut host = Host::new();
    let get = host.play(&request("/paid/a"), &ok());
    let story = host.play(&request("/paid/a").method("HEAD"), &ok());
    assert_eq!(story.short(), "PaymentRequired@0");
    assert!(story.reply().body.is_empty());
    assert_eq!(story.reply().headers, get.reply().headers);
    // A payment that is charged must not get a price, so no request with a payment gets one.
    for payment in [payment(1), "junk".to_owned()] {
        let story = host.play(&request("/paid/a").method("HEAD").paying(&payment), &ok());
        assert_eq!((story.status(), story.is_priced()), (400, false));
        assert!(story.reply().body.is_empty() && story.calls.is_empty());
    }
}

#[test]
fn a_payment_over_plaintext_is_refused_where_the_rules_say_so() {
    let peer = |ip: &str| Transport { tls: false, peer: Some(ip.parse().unwrap()) };
    let stage = |transport, proto: &str, trust| {
        let mut host = Host::with_rules(rules_with(|p| {
            p.settings.require_secure_transport = true;
            p.settings.trust_forwarded = trust;
        }));
        let request = Request { transport, ..request("/paid/a") };
        host.play(&request.paying("junk").with("x-forwarded-proto", proto), &ok())
    };
    let insecure = [
        stage(peer("203.0.113.7"), "http", true),
        stage(peer("203.0.113.7"), "https", false),
        stage(peer("2001:db8::1"), "", true),
        stage(peer("::ffff:203.0.113.7"), "", true),
        stage(Transport::default(), "", true),
    ];
    for story in insecure {
        assert_eq!(story.status(), 400);
        assert_eq!(story.body()["reason"], "insecure_transport");
        assert!(story.body()["error"].as_str().unwrap().contains("secure transport"));
        assert_eq!(story.short(), "PaymentPresented@0 PaymentFailed(InsecureTransport)@0");
    }
    let secure = [
        stage(Transport { tls: true, peer: None }, "", false),
        stage(peer("203.0.113.7"), "https", true),
        stage(peer("203.0.113.7"), "WSS, http", true),
        stage(peer("10.0.0.9"), "", false),
        stage(peer("127.0.0.1"), "", false),
        stage(peer("fd00::1"), "", false),
        stage(peer("::ffff:192.168.0.1"), "", false),
    ];
    for story in secure {
        assert_eq!(story.short(), "PaymentPresented@0 PaymentFailed(InvalidPaymentHeader)@0");
    }
    // A request without a payment needs no secure transport, because the terms are public.
    let mut host = Host::with_rules(rules_with(|p| p.settings.require_secure_transport = true));
    assert_eq!(host.play(&request("/paid/a"), &ok()).status(), 402);
}

#[test]
fn a_header_that_is_no_payment_is_a_bad_request() {
    let good = payment(1);
    let cases = [
        request("/paid/a").paying("!!!"),
        request("/paid/a").paying("eyJ4IjoxfQ-_"),
        request("/paid/a").paying("eyJ4IjoxfQ"),
        request("/paid/a").paying("W10="),
        request("/paid/a").with("x-payment", b"\xff\xfe\x00"),
        request("/paid/a").paying(&good).paying(&good),
        request("/paid/a").with("x-payment", &good).with("x-payment", "other"),
        request("/paid/a").paying(&format!("{good},{good}")),
        request("/paid/a").paying(&"A".repeat(48 * 1024 + 1)),
    ];
    for case in cases {
        let story = Host::new().play(&case, &ok());
        assert_eq!(story.status(), 400);
        let body = story.body();
        assert_eq!((&body["reason"], &body["retriable"]), (&"invalid_payment_header".into(), &false.into()));
        assert_eq!(body["x402Version"], 2);
        assert!(body["error"].as_str().unwrap().starts_with("Invalid payment header"));
        assert_eq!(story.short(), "PaymentPresented@0 PaymentFailed(InvalidPaymentHeader)@0");
    }
}

#[test]
fn with_both_headers_payment_signature_counts_alone() {
    let mut host = Host::new();
    let story = host.play(&request("/paid/a").with("x-payment", payment(1)).paying("junk"), &ok());
    assert_eq!(story.status(), 400);
    host.script([valid(), settled(84532, "0xabc")]);
    let both = request("/paid/a").with("x-payment", "junk").with("x-payment", "junk").paying(&payment(1));
    assert_eq!(host.play(&both, &ok()).status(), 200);
}

#[test]
fn a_payment_has_to_outlast_upstream_and_settlement_where_the_route_says_so() {
    let pay = |route: u64, seconds: u64| {
        let mut host = Host::with_rules(rules_with(|pushed| pushed.routes[0].min_remaining = Some(route)));
        let terms = Terms { valid_before: START + seconds, ..Terms::of(0, 0, 1) };
        host.script([valid(), settled(84532, "0xabc")]);
        host.play(&request("/paid/a").paying(&Wallet::new(1).pay(&terms)), &ok())
    };
    for (route, seconds, status) in [(180, 180, 200), (180, 174, 402), (6, 6, 200), (6, 0, 402)] {
        assert_eq!(pay(route, seconds).status(), status, "{seconds} of {route}");
    }
    let refused = pay(180, 60);
    let failure = &refused.body()["extensions"]["paymentFailure"];
    assert!(failure["hint"].as_str().unwrap().contains("maxTimeoutSeconds"), "{failure}");
}

#[test]
fn a_payment_for_other_terms_finds_no_option() {
    let buyer = Wallet::new(1);
    let base = Terms::of(0, 0, 1);
    let changes: [fn(&mut Terms); 5] = [
        |t| t.option.amount = crate::evm::Amount::from_u64(999),
        |t| t.option.asset.0[0] ^= 1,
        |t| t.option.pay_to.0[0] ^= 1,
        |t| t.option.network = super::world::network(1),
        |t| t.option.flow = crate::terms::Flow::Upfront,
    ];
    for (change, mode) in changes.into_iter().flat_map(|change| MODES.map(|mode| (change, mode))) {
        let mut terms = base.clone();
        change(&mut terms);
        let mut host = Host::of(mode);
        let story = host.play(&request("/paid/a").paying(&buyer.pay(&terms)), &ok());
        assert_eq!(story.status(), 402);
        host.assert_counted(&story, "PaymentPresented@0 PaymentFailed(NoMatchingRequirement)@0");
        assert!(host.records().is_empty() && story.calls.is_empty());
        let body = story.body();
        assert_eq!(body["extensions"]["paymentFailure"]["reason"], "no_matching_requirement");
        assert!(body["error"].as_str().unwrap().starts_with("Payment verification failed"));
        assert_eq!(body["accepts"][0]["maxAmountRequired"], "1000");
    }
}

#[test]
fn an_upgrade_can_only_be_paid_upfront() {
    let rules = rules_with(|p| {
        let mut both = p.routes[3].options[0].clone();
        both.flow = crate::terms::Flow::Authorization;
        p.routes[3].options.insert(0, both);
    });
    let mut terms = Terms::of(3, 0, 1);
    terms.option.flow = crate::terms::Flow::Authorization;
    let paid = Wallet::new(1).pay(&terms);
    let mut host = Host::with_rules(rules);
    let upgrade = request("/up/a").with("upgrade", "websocket").paying(&paid);
    let story = host.play(&upgrade, &ok());
    assert_eq!(story.short(), "PaymentPresented@3 PaymentFailed(NoMatchingRequirement)@3");
}

#[test]
fn a_payment_that_fails_a_local_check_never_reaches_a_facilitator() {
    let buyer = Wallet::new(1);
    let base = Terms::of(0, 0, 1);
    let forged = {
        let text = decode_base64(payment(1).as_bytes()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let other = Wallet::new(2).address.checksummed();
        crate::protocol::encode_base64(text.replace(&buyer.address.checksummed(), &other).as_bytes())
    };
    let expired = buyer.pay(&Terms { valid_before: START - 10, ..base.clone() });
    let short = buyer.pay(&Terms { value: 999, ..base });
    let cases = [
        (forged, "invalid_exact_evm_payload_signature"),
        (expired, "invalid_exact_evm_payload_authorization_valid_before"),
        (short, "invalid_exact_evm_payload_authorization_value_mismatch"),
    ];
    for ((header, code), mode) in cases.iter().flat_map(|case| MODES.map(|mode| (case, mode))) {
        let mut host = Host::of(mode);
        let story = host.play(&request("/paid/a").paying(header), &ok());
        assert_eq!(story.status(), 402, "{code}");
        host.assert_counted(&story, "PaymentPresented@0 PaymentFailed(PaymentInvalid)@0");
        assert!(host.records().is_empty() && story.calls.is_empty());
        let body = story.body();
        assert_eq!(body["error"], format!("Payment verification failed: {code}"));
        assert_eq!(body["extensions"]["paymentFailure"]["reason"], "payment_invalid");
        assert_eq!(body["extensions"]["paymentFailure"]["detail"], *code);
    }
}

#[test]
fn upfront_refuses_an_authorization_that_outlives_the_replay_memory() {
    let horizon = pushed().settings.replay_horizon_seconds;
    let pay = |ends| Wallet::new(1).pay(&Terms { valid_before: ends, ..Terms::of(3, 0, 1) });
    let story = Host::new().play(&request("/up/a").paying(&pay(START + horizon + 1)), &ok());
    assert_eq!(story.short(), "PaymentPresented@3 PaymentFailed(PaymentInvalid)@3");
    assert_eq!(story.status(), 402);
    let mut host = Host::new();
    host.script([valid(), settled(84532, "0xabc")]);
    assert_eq!(host.play(&request("/up/a").paying(&pay(START + horizon)), &ok()).status(), 200);
}

#[test]
fn a_proxy_that_settles_by_itself_refuses_an_authorization_that_outlives_its_memory() {
    let horizon = pushed().settings.replay_horizon_seconds;
    let pay = |ends| Wallet::new(1).pay(&Terms { valid_before: ends, ..Terms::of(0, 0, 1) });
    for (mode, status) in MODES.into_iter().zip([402, 200]) {
        let mut host = Host::of(mode);
        host.script([valid(), settled(84532, "0xabc")]);
        let far = request("/paid/a").paying(&pay(START + horizon + 1));
        assert_eq!(host.play(&far, &ok()).status(), status, "{mode:?}");
    }
}

#[test]
fn failures_before_the_match_count_on_the_primary_option_and_later_ones_on_the_matched() {
    let mut host = Host::new();
    assert_eq!(host.play(&request("/two"), &ok()).short(), "PaymentRequired@1");
    let terms = Terms { valid_before: START, ..Terms::of(2, 1, 1) };
    let late = host.play(&request("/two").paying(&Wallet::new(1).pay(&terms)), &ok());
    assert_eq!(late.short(), "PaymentPresented@1 PaymentFailed(PaymentInvalid)@2");
}

#[test]
fn a_client_without_a_valid_signature_causes_no_lookup_of_a_payment() {
    let junk = |terms: &Terms| {
        let text = String::from_utf8(decode_base64(Wallet::new(1).pay(terms).as_bytes()).unwrap()).unwrap();
        let other = Wallet::new(2).address.checksummed();
        let forged = text.replace(&Wallet::new(1).address.checksummed(), &other);
        crate::protocol::encode_base64(forged.as_bytes())
    };
    let good = Terms::of(0, 0, 1);
    let mut dearer = good.clone();
    dearer.option.amount = crate::evm::Amount::from_u64(2000);
    for forged in [
        junk(&good),
        junk(&Terms { valid_before: START - 10, ..good.clone() }),
        junk(&Terms { value: 1, ..good.clone() }),
        junk(&Terms { v1: true, value: 1, ..good }),
        junk(&dearer),
    ] {
        for mode in MODES {
            let story = Host::of(mode).play(&request("/paid/a").paying(&forged), &ok());
            let v1 = Host::of(mode).play(&request("/paid/a").with("x-payment", &forged), &ok());
            assert_eq!((story.asked, v1.asked), (0, 0));
            assert!(matches!(story.status(), 400 | 402));
            assert_eq!(v1.status(), 402);
        }
    }
}

#[test]
fn where_a_shell_keeps_nothing_the_relay_is_told_who_asks_and_what_is_bought() {
    let mut host = Host::with_rules(rules_in(Mode::Relay, |p| p.routes[0].pattern = "/paid/\u{e9}/*".into()));
    let turn = host.begin(&request("/paid/%C3%A9/a").paying(&payment(1)));
    let crate::exchange::Next::Call(state) = turn.next else { panic!("no call") };
    let headers: Vec<_> = state.call().headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let holder = format!("0x{:032x}", 1);
    let offer = crate::metrics::tuple_text(&host.rules.tuples[0]);
    let expected = [
        ("x-farebox-holder", holder.as_str()),
        ("x-farebox-offer", &offer),
        ("x-farebox-route", "/paid/%C3%A9/*"),
        ("x-farebox-generation", "7"),
        ("x-farebox-proven", "1"),
    ];
    assert_eq!(headers, expected);
}
