use super::*;
use crate::HostSetting;
use farebox_core::rules::{Facilitator, Lookup, PushedRules, RouteIndex, RuleSet, canonicalize};
use farebox_core::terms::{Flow, Settings};
use std::collections::{BTreeMap, BTreeSet};

const WALLET: &str = "0x2222222222222222222222222222222222222222";

/// A file with a wallet on base-sepolia and these routes.
fn file(routes: &str) -> String {
    format!("wallet: {WALLET}\nchain: base-sepolia\nroutes:\n{routes}{SOLD_BY}")
}

/// The end of a file. It comes last, so that it does not change the line numbers of the routes.
const SOLD_BY: &str = "\nfacilitatorURL: https://f.example\n";

fn snapshot(text: &str) -> Snapshot {
    let loaded = load(text);
    loaded.snapshot.unwrap_or_else(|| panic!("rejected: {:#?}", loaded.findings))
}

fn rejections(text: &str) -> Vec<String> {
    let loaded = load(text);
    assert!(loaded.snapshot.is_none(), "accepted:\n{text}");
    let rejected = loaded.findings.iter().filter(|finding| finding.severity == Severity::Reject);
    rejected.map(ToString::to_string).collect()
}

fn rejection(text: &str) -> String {
    let mut all = rejections(text);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.findings);
    loaded.findings.iter().map(ToString::to_string).collect()
}

fn facilitator() -> Facilitator {
    Facilitator {
        cluster: "facilitator".into(),
        authority: "f.example".into(),
        path_prefix: String::new(),
        verify_timeout_ms: 5_000,
        settle_timeout_ms: 60_000,
        ready: true,
        relay: false,
    }
}

fn rules(snapshot: &Snapshot) -> RuleSet {
    let pushed = snapshot.push(1, &Settings::default(), &facilitator(), &BTreeMap::new(), &BTreeSet::new());
    let json = serde_json::to_vec(&pushed).unwrap();
    RuleSet::from_json(&json).unwrap_or_else(|error| panic!("{error}"))
}

fn gate(rules: &RuleSet, path: &str) -> Option<Gate> {
    match rules.lookup(&canonicalize(path.as_bytes()).unwrap()) {
        Lookup::Route(RouteIndex(index)) => Some(rules.routes[index as usize].gate),
        Lookup::Protected | Lookup::Unmatched | Lookup::Ambiguous => None,
    }
}

/// The skip reasons of a file with one route, which must answer as blocked.
fn skip_reason(route: &str) -> &'static str {
    let snapshot = snapshot(&file(route));
    assert_eq!(snapshot.skipped.len(), 1, "{:?}", snapshot.skipped);
    assert_eq!(snapshot.skipped[0].scope, SkipScope::Route);
    assert_eq!(snapshot.routes[0].gate, Gate::Blocked);
    assert!(snapshot.routes[0].options.is_empty());
    assert!(snapshot.tuples.is_empty());
    snapshot.skipped[0].reason.as_str()
}

// --- the file as a whole ---

#[test]
fn what_buyers_and_facilitators_do_not_take_is_named() {
    let warned = |route: &str| -> Vec<String> {
        let loaded =
            load(&format!("wallet: \"{WALLET}\"\nchain: base\nroutes:\n- pattern: /a\n{route}{SOLD_BY}"));
        assert!(loaded.snapshot.is_some(), "{:?}", loaded.findings);
        loaded.findings.iter().map(|finding| format!("{} {}", finding.line, finding.key)).collect()
    };
    assert_eq!(warned("  price: \"1\""), Vec::<String>::new());
    assert_eq!(warned("  price: \"1.01\""), ["5 routes[0].price"]);
    assert_eq!(warned("  price: \"0.1\"\n  maxTimeoutSeconds: 59"), ["6 routes[0].maxTimeoutSeconds"]);
    assert_eq!(warned("  price: \"0.1\"\n  maxTimeoutSeconds: 60"), Vec::<String>::new());
    let text = |length: usize| format!("  price: \"0.1\"\n  description: {}", "a".repeat(length));
    assert_eq!(warned(&text(501)), ["6 routes[0].description"]);
    assert_eq!(warned(&text(500)), Vec::<String>::new());
    for host in ["shop.local", "10.0.0.5", "localhost"] {
        assert_eq!(
            warned(&format!("  price: \"0.1\"\n  hostname: {host}")),
            ["6 routes[0].hostname"],
            "{host}"
        );
    }
    assert_eq!(warned("  price: \"0.1\"\n  hostname: shop.example"), Vec::<String>::new());
}

#[test]
fn the_time_a_payment_has_to_live_on_is_the_files_or_comes_from_the_timeouts() {
    let pushed = |route: &str, upstream: Option<u64>, horizon: u64| {
        let loaded = load(&format!(
            "wallet: \"{WALLET}\"\nchain: base\nroutes:\n- {{pattern: /a, price: \"0.1\"{route}}}{SOLD_BY}"
        ));
        let snapshot = loaded.snapshot.unwrap();
        let settings = Settings {
            upstream_timeout_seconds: upstream,
            replay_horizon_seconds: horizon,
            ..Settings::default()
        };
        let facilitator = Facilitator {
            cluster: "f".into(),
            authority: "f".into(),
            path_prefix: String::new(),
            verify_timeout_ms: 7_000,
            settle_timeout_ms: 62_000,
            ready: true,
            relay: true,
        };
        let push = snapshot.push(1, &settings, &facilitator, &BTreeMap::new(), &BTreeSet::new());
        let route = push.routes[0].clone();
        (route.gate, route.min_remaining, route.options.first().map(|option| option.max_timeout_seconds))
    };
    let paid = |seconds, timeout| (Gate::Paid, seconds, Some(timeout));
    assert_eq!(pushed("", None, 90_000), paid(None, 600));
    assert_eq!(pushed("", Some(120), 90_000), paid(Some(182), 600));
    assert_eq!(pushed(", maxTimeoutSeconds: 100", Some(120), 90_000), paid(Some(50), 100));
    assert_eq!(pushed(", maxTimeoutSeconds: 2", Some(120), 90_000), paid(Some(6), 2));
    assert_eq!(pushed(", paymentFlow: upfront", Some(120), 300), paid(Some(62), 300));
    assert_eq!(pushed(", minRemaining: 20", Some(120), 90_000), paid(Some(20), 600));
    for bad in ["600", "5", "-1"] {
        assert_eq!(pushed(&format!(", minRemaining: {bad}"), None, 90_000).0, Gate::Blocked, "{bad}");
    }
}

#[test]
fn routes_that_only_letter_case_tells_apart_are_named_unless_they_are_on_the_same_terms() {
    let warned = |routes: &str| -> Option<usize> {
        let loaded = load(&format!("wallet: \"{WALLET}\"\nroutes:\n{routes}chain: base{SOLD_BY}"));
        let about = |finding: &&Finding| finding.message.contains("letter case");
        loaded.findings.iter().find(about).map(|finding| finding.line)
    };
    let (paid, free) = ("price: \"0.1\"", "gate: free");
    let two = |first: &str, terms: &str, second: &str, others: &str| {
        warned(&format!("- {{pattern: {first}, {terms}}}\n- {{pattern: {second}, {others}}}\n"))
    };
    assert_eq!(two("/V1/*", free, "/v1/chat", paid), Some(4));
    assert_eq!(two("/v1/*", paid, "/V1/public", free), Some(4));
    assert_eq!(two("/v1/Docs/*", free, "/v1/*", paid), None);
    assert_eq!(two("/v1/*", paid, "/*", free), None);
    assert_eq!(two("/V1/*", free, "/v1/*", free), None);
    assert_eq!(two("/V1/*", paid, "/v1/*", paid), None);
}

#[test]
fn a_free_route_that_leads_to_what_a_paid_one_sells_is_named() {
    let warned = |routes: &str| -> Option<usize> {
        let loaded = load(&format!("wallet: \"{WALLET}\"\nroutes:\n{routes}chain: base{SOLD_BY}"));
        let about = |finding: &&Finding| finding.message.contains("is free and reaches");
        loaded.findings.iter().find(about).map(|finding| finding.line)
    };
    let sold =
        "- {pattern: /svc/llm/*, price: \"0.1\", stripPrefix: /svc/llm, upstreamURL: \"http://u.example\"}\n";
    let free = |route: &str| warned(&format!("{sold}- {{{route}, gate: free}}\n"));
    assert_eq!(free("pattern: /*, upstreamURL: \"http://u.example\""), Some(4));
    assert_eq!(free("pattern: /v1/*, upstreamURL: \"http://u.example\""), Some(4));
    assert_eq!(free("pattern: /*, upstreamURL: \"http://other.example\""), None);
    assert_eq!(free("pattern: /health, upstreamURL: \"http://u.example\""), None);
    assert_eq!(
        free("pattern: /svc/llm/docs/*, stripPrefix: /svc/llm, upstreamURL: \"http://u.example\""),
        None
    );
    let plain = "- {pattern: /v1/*, price: \"0.1\"}\n";
    let free = |route: &str| warned(&format!("{plain}- {{{route}, gate: free}}\n"));
    assert_eq!(free("pattern: /open/*, stripPrefix: /open"), Some(4));
    assert_eq!(free("pattern: /open/v2/*, stripPrefix: /open"), None);
    assert_eq!(free("pattern: /*"), None);
}

#[test]
fn a_file_that_sells_nothing_needs_neither_chain_nor_facilitator() {
    for routes in
        ["routes: []\n", "routes: [{pattern: /a, gate: free}]\n", "routes: [{pattern: /a, gate: auth}]\n"]
    {
        let snapshot = snapshot(routes);
        assert_eq!((snapshot.facilitator_url, snapshot.tuples), (None, Vec::new()), "{routes}");
    }
}

#[test]
fn a_paid_route_needs_a_chain_and_a_facilitator_that_the_file_names() {
    let text = |top: &str| format!("wallet: {WALLET}\n{top}routes:\n- pattern: /a\n  price: 1\n");
    let rejected = rejection(&text("chain: base\n"));
    assert!(
        rejected.starts_with("1: rejected: facilitatorURL: is missing, so payments cannot be verified"),
        "{rejected}"
    );
    assert!(rejected.contains("write `facilitatorURL: `"), "{rejected}");
    let named = "facilitatorURL: https://f.example\n";
    let loaded = load(&text(named));
    let found: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("4: skipped: routes[0].network: is not set, and there is no `chain`"),
        "{found:?}"
    );
    assert!(found[0].contains("write `chain: base-sepolia` (test money)"), "{found:?}");
    let snapshot = loaded.snapshot.unwrap();
    assert_eq!((snapshot.routes[0].gate, snapshot.tuples.len()), (Gate::Blocked, 0));
    assert_eq!(snapshot.skipped[0].reason, SkipReason::MissingChain);
    let own =
        load(&format!("{named}wallet: {WALLET}\nroutes:\n- pattern: /a\n  price: 1\n  network: base\n"));
    assert_eq!((own.findings, own.snapshot.unwrap().tuples[0].chain.as_str()), (Vec::new(), "eip155:8453"));
}

#[test]
fn a_chain_whose_payments_go_elsewhere_needs_no_facilitator_of_the_file() {
    let options = |chain| LoadOptions {
        served_elsewhere: [read_chain(chain).unwrap()].into(),
        ..LoadOptions::default()
    };
    let text = format!("wallet: {WALLET}\nchain: base\nroutes:\n- pattern: /a\n  price: 1\n");
    assert_eq!(load_with(&text, &options("base")).snapshot.unwrap().facilitator_url, None);
    assert!(load_with(&text, &options("polygon")).snapshot.is_none());
}

#[test]
fn the_name_of_no_chain_in_particular_sells_nothing() {
    let rejected = rejection(&format!("chain: mainnet\n{}", "routes: []\n"));
    assert_eq!(
        rejected,
        "1: rejected: chain: \"mainnet\" is not the name of one chain; write the chain, such as base, ethereum, polygon, \
         avalanche or arbitrum-one"
    );
    let skipped = &snapshot(&file("- pattern: /a\n  price: 1\n  network: mainnet\n")).skipped[0];
    assert_eq!(skipped.reason, SkipReason::UnsupportedChain);
    assert!(rejection("chain: bse-sepolia\nroutes: []\n").contains("did you mean `base-sepolia`?"));
}

#[test]
fn patterns_of_another_language_are_refused_whatever_the_gate() {
    for pattern in ["/v1/.*", "/v1/{id}", "/v1/:id", "/v1/(a|b)", "/v1/**", "/v1/**/x", "^/v1/a$"] {
        for gate in ["price: 1", "gate: free"] {
            let rejected = rejection(&file(&format!("- {{pattern: \"{pattern}\", {gate}}}\n")));
            let start = format!("4: rejected: routes[0].pattern: {pattern:?} cannot be used: ");
            assert!(rejected.starts_with(&start), "{rejected}");
        }
    }
}

#[test]
fn files_without_a_meaning_are_rejected() {
    let empty = "1: rejected: pricing file: is empty; a file without routes says `routes: []`";
    for text in ["", "\n\n", "# prices\n", "null\n", "~\n", "---\n"] {
        assert_eq!(rejection(text), empty, "{text:?}");
    }
    let truncated = format!("wallet: {WALLET}\nchain: base\n");
    assert_eq!(
        rejection(&truncated),
        "1: rejected: routes: is missing; write `routes: []` if there are none"
    );
    assert!(rejection("routes: [\n").starts_with("2: rejected: pricing file: not valid YAML"));
}

#[test]
fn everything_wrong_is_found_at_once_in_file_order() {
    let text = "wallet: 0x12\nchain: nowhere\nfacilitatorURL: http://example.com\nroutez: []\nroutes:\n- price: 1\n- pattern: /a/../b\n  \
                price: 1\n- pattern: /c\n  gate: open\n";
    let found = load(text);
    let lines: Vec<(usize, &str)> = found.findings.iter().map(|f| (f.line, f.key.as_str())).collect();
    assert_eq!(
        lines,
        [
            (1, "wallet"),
            (2, "chain"),
            (3, "facilitatorURL"),
            (4, "routez"),
            (6, "routes[0].pattern"),
            (7, "routes[1].pattern"),
            (10, "routes[2].gate"),
        ]
    );
    assert!(found.snapshot.is_none());
    assert_eq!((found.count(Severity::Reject), found.count(Severity::Skip)), (6, 1));
}

#[test]
fn unquoted_values_are_the_same_as_quoted_ones() {
    let quoted = file(
        "- pattern: \"/a\"\n  price: \"0.001\"\n  payTo: \"0x3333333333333333333333333333333333333333\"\n  eip712Version: \"2\"\n",
    );
    let unquoted = file(
        "- pattern: /a\n  price: 0.001\n  payTo: 0x3333333333333333333333333333333333333333\n  eip712Version: 2\n",
    );
    assert_eq!(snapshot(&quoted), snapshot(&unquoted));
    assert_eq!(snapshot(&unquoted).routes[0].options[0].amount.to_string(), "1000");
}

#[test]
fn a_wallet_must_be_an_address_somebody_can_own() {
    let wallet = |text: &str| format!("wallet: {text}\nroutes: []\n");
    for bad in [
        "2222222222222222222222222222222222222222",
        "0x222222222222222222222222222222222222222",
        "0x22222222222222222222222222222222222222222",
        "0x222222222222222222222222222222222222222g",
        "0x0000000000000000000000000000000000000000",
    ] {
        assert!(rejection(&wallet(bad)).starts_with("1: rejected: wallet: "), "{bad}");
    }
    for one_case in
        ["0X036CBD53842C5426634E7929541EC2318F3DCF7E", "0x036cbd53842c5426634e7929541ec2318f3dcf7e"]
    {
        assert_eq!(warnings(&wallet(one_case)), [format!("1: warning: wallet: {NO_CHECKSUM}")]);
    }
    assert!(warnings(&wallet("0x036CbD53842c5426634e7929541eC2318f3dCF7e")).is_empty());
    let mixed = rejection(&wallet("0x036cbD53842c5426634e7929541eC2318f3dCF7e"));
    assert_eq!(mixed, format!("1: rejected: wallet: {CHECKSUM_FAILS}"));
}

#[test]
fn a_facilitator_is_https_or_on_this_machine() {
    let url = |text: &str| format!("facilitatorURL: {text}\nroutes: []\n");
    for (typed, effective) in [
        ("https://x402.org/facilitator//", "https://x402.org/facilitator"),
        ("http://localhost:4020/", "http://localhost:4020"),
        ("http://127.0.0.1:4020", "http://127.0.0.1:4020"),
        ("\"http://[::1]:4020\"", "http://[::1]:4020"),
        ("http://host.k3d.internal", "http://host.k3d.internal"),
        ("http://host.docker.internal", "http://host.docker.internal"),
    ] {
        assert_eq!(snapshot(&url(typed)).facilitator_url.as_deref(), Some(effective));
    }
    for bad in ["http://example.com", "http://10.0.0.1", "x402.org", "https://", "https://u:hush@x402.org"] {
        let message = rejection(&url(bad));
        assert!(message.starts_with("1: rejected: facilitatorURL: "), "{message}");
        assert!(!message.contains("hush"));
    }
}

#[test]
fn a_facilitator_from_outside_replaces_the_file_s_and_is_held_to_the_same_rules() {
    let options = |url: &str| LoadOptions { facilitator_url: Some(url.into()), ..LoadOptions::default() };
    let text = "facilitatorURL: https://a.example\nroutes: []\n";
    let replaced = load_with(text, &options("http://127.0.0.1:4020/")).snapshot.unwrap();
    assert_eq!(replaced.facilitator_url.as_deref(), Some("http://127.0.0.1:4020"));
    assert_eq!(replaced.replaced_facilitator.as_deref(), Some("https://a.example"));
    let same = load_with(text, &options("https://a.example/")).snapshot.unwrap();
    assert_eq!(same.replaced_facilitator, None, "both say the same");
    assert_eq!(snapshot(text).replaced_facilitator, None);
    assert!(load_with(text, &options("http://b.example")).snapshot.is_none());
    let plain = LoadOptions { plain_http: true, ..options("http://b.example") };
    assert_eq!(
        load_with(text, &plain).snapshot.unwrap().facilitator_url.as_deref(),
        Some("http://b.example")
    );
    assert!(load_with("facilitatorURL: http://b.example\nroutes: []\n", &plain).snapshot.is_some());
}

#[test]
fn an_unknown_global_chain_rejects_but_one_on_a_route_skips_it() {
    for (chain, says) in [
        ("sepolia", "unsupported chain \"sepolia\"; did you mean `base-sepolia`?"),
        ("eip155:999999", "eip155:999999 has no asset that Farebox knows; set `network` on each route"),
        ("solana", "unsupported chain \"solana\". Known are base, "),
    ] {
        let message = rejection(&format!("chain: {chain}\nroutes: []\n"));
        assert!(message.starts_with(&format!("1: rejected: chain: {says}")), "{message}");
    }
    let snapshot =
        snapshot(&file("- pattern: /a\n  price: 1\n  network: sepolia\n- pattern: /b\n  price: 1\n"));
    assert_eq!(snapshot.skipped[0].reason, SkipReason::UnsupportedChain);
    let rules = rules(&snapshot);
    assert_eq!((gate(&rules, "/a"), gate(&rules, "/b")), (Some(Gate::Blocked), Some(Gate::Paid)));
}

#[test]
fn verify_only_is_accepted_with_one_warning() {
    let found = warnings(&format!("verifyOnly: true\n{}", file("- pattern: /a\n  price: 1\n")));
    assert_eq!(found, ["1: warning: verifyOnly: has no effect: a verified payment is always settled"]);
    assert!(warnings("verifyOnly: false\nroutes: []\n").is_empty());
}

#[test]
fn secure_transport_of_the_file_reaches_the_push() {
    let snapshot = snapshot("requireSecureTransport: true\nroutes: []\n");
    let pushed = snapshot.push(1, &Settings::default(), &facilitator(), &BTreeMap::new(), &BTreeSet::new());
    assert!(pushed.settings.require_secure_transport);
}

#[test]
fn capture_unlock_blocks_everything_below_its_prefix_before_any_other_rule() {
    let text = format!(
        "authCaptureUnlock:\n  enabled: true\n  offerPrefix: /offers/\n  price: 1\n{}",
        file("- pattern: /offers/free\n  gate: free\n- pattern: /*\n  gate: free\n")
    );
    let rules = rules(&snapshot(&text));
    for path in ["/offers", "/offers/", "/offers/free", "/offers/a/b"] {
        assert_eq!(gate(&rules, path), Some(Gate::Blocked), "{path}");
    }
    assert_eq!(gate(&rules, "/other"), Some(Gate::Free));
    assert_eq!(snapshot(&text).skipped[0].reason, SkipReason::UnsupportedFeature);
    let off = "authCaptureUnlock: {enabled: false, offerPrefix: /offers}\nroutes: []\n";
    assert!(snapshot(off).routes.is_empty());
    let lost = "authCaptureUnlock: {enabled: true}\nroutes: []\n";
    assert!(rejection(lost).starts_with("1: rejected: authCaptureUnlock.offerPrefix: must be a plain path"));
}

// --- inheritance and payments ---

#[test]
fn routes_inherit_what_they_do_not_set() {
    let snapshot = snapshot(&file(
        "- pattern: /a\n  price: 1\n- pattern: /b\n  price: 1\n  network: base\n  payTo: \"0x3333333333333333333333333333333333333333\"\n",
    ));
    let option = |index: usize| &snapshot.routes[index].options[0];
    assert_eq!((option(0).network.as_str(), option(0).pay_to), ("eip155:84532", Address([0x22; 20])));
    assert_eq!((option(1).network.as_str(), option(1).pay_to), ("eip155:8453", Address([0x33; 20])));
    let chains: Vec<&str> = snapshot.tuples.iter().map(|tuple| tuple.chain.as_str()).collect();
    assert_eq!(chains, ["eip155:84532", "eip155:8453"]);
}

#[test]
fn one_tuple_serves_every_option_with_the_same_labels() {
    let snapshot = snapshot(&file(
        "- pattern: /a\n  offerNamespace: ns\n  offerName: o\n  price: 1\n- pattern: /b\n  offerNamespace: ns\n  offerName: o\n  price: 2\n  network: eip155:84532\n",
    ));
    assert_eq!(snapshot.tuples.len(), 1);
    assert_eq!(snapshot.tuples[0].asset_symbol, "USDC");
    assert_eq!(snapshot.tuples[0].offer_name, "o");
    assert_eq!(snapshot.routes[1].options[0].tuple, 0);
    assert_eq!((snapshot.offers_loaded(), snapshot.keep_set().len()), (1, 1));
    assert_eq!(snapshot.routes_with(Gate::Paid), 2);
}

#[test]
fn a_bad_payment_is_dropped_and_the_next_becomes_the_primary() {
    let text = file(
        "- pattern: /a\n  offerName: o\n  payments:\n  - price: abc\n  - price: 0.2\n    network: base\n",
    );
    let snapshot = snapshot(&text);
    assert_eq!(snapshot.routes[0].gate, Gate::Paid);
    assert_eq!(snapshot.routes[0].options.len(), 1);
    assert_eq!(snapshot.routes[0].options[0].network.as_str(), "eip155:8453");
    let skipped = &snapshot.skipped[0];
    assert_eq!((skipped.scope, skipped.reason, skipped.line), (SkipScope::Option, SkipReason::BadPrice, 7));
    assert_eq!(
        warnings(&text),
        ["7: skipped: routes[0].payments[0].price: \"abc\" is not a plain decimal number such as 0.001 \
          [bad_price: this payment is left out]"]
    );
}

#[test]
fn a_route_without_a_usable_payment_is_skipped() {
    assert_eq!(skip_reason("- pattern: /a\n  payments:\n  - price: abc\n  - price: 0\n"), "bad_price");
}

#[test]
fn payments_fall_back_to_the_globals_and_not_to_inline_keys() {
    let text = file(
        "- pattern: /a\n  paymentFlow: upfront\n  payments:\n  - price: 1\n  - price: 0.2\n    paymentFlow: authorization\n",
    );
    let snapshot = snapshot(&text);
    let flows: Vec<Flow> = snapshot.routes[0].options.iter().map(|option| option.flow).collect();
    assert_eq!(flows, [Flow::Upfront, Flow::Authorization]);
    assert!(warnings(&text).is_empty());
}

#[test]
fn inline_keys_may_repeat_the_first_payment_and_nothing_else() {
    let route = |inline: &str| {
        file(&format!(
            "- pattern: /a\n{inline}  payments:\n  - price: 1\n    network: base\n  - price: 0.2\n"
        ))
    };
    assert!(warnings(&route("  price: \"1.0\"\n  network: eip155:8453\n  assetSymbol: usdc\n")).is_empty());
    for conflict in
        ["  price: 2\n", "  network: base-sepolia\n", "  assetSymbol: OBOL\n", "  maxTimeoutSeconds: 5\n"]
    {
        let snapshot = snapshot(&route(conflict));
        assert_eq!(snapshot.skipped[0].reason, SkipReason::ConflictingTerms, "{conflict}");
        assert_eq!(snapshot.routes[0].gate, Gate::Blocked);
    }
}

// --- skipping one route ---

#[test]
fn every_skip_reason_blocks_its_path_even_where_a_later_free_rule_matches() {
    for (reason, keys) in [
        ("bad_address", "price: 1\n  payTo: 0x1"),
        ("bad_address", "price: 1\n  payTo: 0x036cbD53842c5426634e7929541eC2318f3dCF7e"),
        ("unsupported_chain", "price: 1\n  network: sepolia"),
        ("asset_incomplete", "price: 1\n  assetSymbol: DAI"),
        ("asset_mismatch", "price: 1\n  assetDecimals: 18"),
        ("missing_price", "description: no price"),
        ("bad_price", "price: 1e3"),
        ("price_precision", "price: 0.0000001"),
        ("zero_price", "price: 0"),
        ("unsupported_price_model", "price: 1\n  priceModel: perEpoch"),
        ("unsupported_transfer_method", "price: 1\n  assetTransferMethod: permit3"),
        ("unsupported_feature", "price: 1\n  async: true"),
        ("unsupported_feature", "gate: free\n  async: true"),
        ("unsupported_feature", "price: 1\n  paymentFlow: never"),
        ("conflicting_terms", "price: 2\n  payments: [{price: 1}]"),
        ("bad_gate", "gate: open"),
        ("bad_timeout", "price: 1\n  maxTimeoutSeconds: -1"),
        ("challenge_too_large", &format!("price: 1\n  description: {}", "x".repeat(17_000))),
        ("other", "price: 1\n  offerName: \"a;.;b\""),
        ("other", "price: 1\n  offerNamespace: \"a\\nb\""),
        ("other", "price: 1\n  upstreamURL: nowhere"),
        ("other", "price: 1\n  hostname: \"a b\""),
        ("other", "price: 1\n  stripPrefix: services"),
    ] {
        let route = format!("- pattern: /a\n  {keys}\n");
        assert_eq!(skip_reason(&route), reason, "{keys}");
        let rules = rules(&snapshot(&file(&format!("{route}- pattern: /*\n  gate: free\n"))));
        assert_eq!(gate(&rules, "/a"), Some(Gate::Blocked), "{keys}");
        assert_eq!(gate(&rules, "/b"), Some(Gate::Free));
    }
    let homeless = snapshot("chain: base\nroutes:\n- pattern: /a\n  price: 1\n");
    assert_eq!(homeless.skipped[0].reason, SkipReason::MissingPayTo);
    assert_eq!(homeless.protected, ["/a"]);
}

#[test]
fn a_large_challenge_warns_before_it_is_refused() {
    let found =
        warnings(&file(&format!("- pattern: /a\n  price: 1\n  description: {}\n", "x".repeat(7_000))));
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("6: warning: routes[0].description: has more than 500 "), "{found:?}");
    assert!(found[1].starts_with("6: warning: routes[0].description: the 402 header has "), "{found:?}");
}

#[test]
fn gates_are_paid_free_and_auth() {
    let snapshot = snapshot(&file(
        "- pattern: /a\n  price: 1\n  gate:\n- pattern: /b\n  gate: paid\n  price: 1\n- pattern: /c\n  gate: free\n- pattern: /d\n  gate: auth\n",
    ));
    let gates: Vec<Gate> = snapshot.routes.iter().map(|route| route.gate).collect();
    assert_eq!(gates, [Gate::Paid, Gate::Paid, Gate::Free, Gate::Auth]);
    assert_eq!(snapshot.protected, ["/a", "/b", "/d"]);
}

#[test]
fn a_route_that_is_free_and_has_terms_rejects_the_file() {
    let free =
        |terms: &str| file(&format!("- pattern: /a/*\n  gate: free\n  {terms}\n- pattern: /b\n  price: 1\n"));
    assert_eq!(
        rejection(&free("price: 0.01")),
        "6: rejected: routes[0].price: contradicts `gate: free` on line 5, which would serve /a/* without a \
         payment; remove `gate: free` to sell it, or `price` to give it away"
    );
    for terms in [
        "price: 0",
        "perMTok: 2",
        "payTo: \"0x2222222222222222222222222222222222222222\"",
        "network: base",
        "payments: [{price: 1}]",
        "paymentFlow: upfront",
        "minRemaining: 30",
    ] {
        let key = terms.split(':').next().unwrap();
        assert!(rejection(&free(terms)).contains(&format!("routes[0].{key}: contradicts")), "{terms}");
    }
    for empty in ["price:", "price: \"\"", "payments: []", "payTo: ~"] {
        let key = empty.split(':').next().unwrap();
        let found = warnings(&free(empty)).join("\n");
        assert!(
            found.contains(&format!("routes[0].{key}: is empty, and `gate: free` serves /a/*")),
            "{empty}: {found}"
        );
    }
    assert!(warnings(&file("- pattern: /a\n  gate: paid\n  price: 1\n")).is_empty());
}

#[test]
fn a_free_quota_is_ignored_with_a_warning() {
    let text = file("- pattern: /a\n  price: 1\n  freeQuota: 5\n");
    assert_eq!(snapshot(&text).routes[0].gate, Gate::Paid);
    assert_eq!(
        warnings(&text),
        ["6: warning: routes[0].freeQuota: needs wallet identity and is ignored: every call is paid"]
    );
}

// --- routes among each other ---

#[test]
fn one_pattern_with_two_prices_rejects_and_a_plain_repetition_warns() {
    let two = |second: &str| file(&format!("- pattern: /a\n  price: 1\n- pattern: {second}\n"));
    assert_eq!(
        rejection(&two("/a/\n  price: 2")),
        "6: rejected: routes[1].pattern: repeats the pattern of line 4, with other terms"
    );
    assert_eq!(rejections(&two("//a\n  gate: free")).len(), 1);
    assert_eq!(
        warnings(&two("/%61\n  price: \"1.0\"")),
        ["6: warning: routes[1].pattern: repeats the pattern of line 4, which has precedence"]
    );
}

#[test]
fn a_paid_route_below_an_earlier_free_one_rejects() {
    for (free, paid) in [("/*", "/a"), ("/a/*", "/a/b/*"), ("/a-*/x", "/a-1/x"), ("/*/b*/c", "/a/bb/c")] {
        let text = file(&format!("- pattern: {free}\n  gate: free\n- pattern: {paid}\n  price: 1\n"));
        assert_eq!(
            rejection(&text),
            format!(
                "6: rejected: routes[1].pattern: would be served free: {free} on line 4 comes first and takes all its \
                 paths; move this route up"
            )
        );
    }
}

#[test]
fn other_hidden_routes_warn() {
    let text = file("- pattern: /a/*\n  price: 1\n- pattern: /a/b\n  gate: free\n");
    assert_eq!(
        warnings(&text),
        ["6: warning: routes[1].pattern: is never reached: /a/* on line 4 takes all its paths"]
    );
    assert!(warnings(&file("- pattern: /a/b\n  gate: free\n- pattern: /a/*\n  price: 1\n")).is_empty());
}

#[test]
fn the_protected_set_holds_prefixes_globs_and_stripped_prefixes_of_what_is_not_free() {
    let snapshot = snapshot(&file(
        "- pattern: /services/o/*\n  price: 1\n  stripPrefix: /services/o/\n- pattern: /inference-*/v1/*\n  price: 1\n  stripPrefix: /inner\n\
         - pattern: /free/*\n  gate: free\n  stripPrefix: /free\n- pattern: /broken/*\n",
    ));
    assert_eq!(snapshot.protected, ["/services/o", "/inference-*/v1", "/inner", "/broken"]);
    let rules = rules(&snapshot);
    let lookup = |path: &str| rules.lookup(&canonicalize(path.as_bytes()).unwrap());
    assert_eq!(lookup("/Services/O/x"), Lookup::Protected);
    assert_eq!(lookup("/inference-a/v1"), Lookup::Protected);
    assert_eq!(lookup("/inner/x"), Lookup::Protected);
    assert_eq!(lookup("/services/other"), Lookup::Unmatched);
    assert_eq!(lookup("/elsewhere"), Lookup::Unmatched);
}

#[test]
fn what_earlier_rules_protected_stays_so_where_no_route_names_it() {
    let earlier = snapshot(&file(
        "- pattern: /*\n  price: 1\n- pattern: /gone/*\n  price: 1\n- pattern: /opened/*\n  price: 1\n- pattern: /exact\n  \
         price: 1\n- pattern: /same/*\n  price: 1\n",
    ));
    let earlier = earlier.protected;
    assert_eq!(earlier, ["/", "/gone", "/opened", "/exact", "/same"]);
    let text = "- pattern: /opened/*\n  gate: free\n- pattern: /exact\n  gate: free\n- pattern: /same/*\n  price: 2\n";
    let mut later = snapshot(&file(text));
    assert_eq!(later.keep_protected(&earlier.into_iter().collect()), ["/", "/gone"]);
    assert_eq!(later.protected, ["/same", "/", "/gone"]);
    let rules = rules(&later);
    let lookup = |path: &str| rules.lookup(&canonicalize(path.as_bytes()).unwrap());
    assert_eq!(lookup("/gone/x"), Lookup::Protected);
    assert!(matches!(lookup("/opened/x"), Lookup::Route(_)));
}

// --- what is not pushed ---

#[test]
fn a_secret_is_shown_by_no_finding_and_no_snapshot_and_is_in_no_push() {
    let text = file(
        "- pattern: /a/*\n  price: 1\n  upstreamAuth: Bearer hush\n  upstreamURL: https://u.example/v1\n  stripPrefix: /a\n  offerType: inference\n  gate: broken\n",
    );
    let loaded = load(&text);
    assert!(!format!("{loaded:?}").contains("hush"));
    let snapshot = loaded.snapshot.unwrap();
    let pushed = snapshot.push(1, &Settings::default(), &facilitator(), &BTreeMap::new(), &BTreeSet::new());
    let json = serde_json::to_string(&pushed).unwrap();
    assert!(!json.contains("hush") && !json.contains("u.example"));
    let listed: Vec<(usize, &str, HostSetting)> =
        snapshot.not_pushed.iter().map(|entry| (entry.line, entry.key.as_str(), entry.setting)).collect();
    assert_eq!(
        listed,
        [
            (7, "routes[0].upstreamURL", HostSetting::UpstreamUrl),
            (8, "routes[0].stripPrefix", HostSetting::StripPrefix),
            (6, "routes[0].upstreamAuth", HostSetting::UpstreamAuth),
            (9, "routes[0].offerType", HostSetting::ChatRewrite),
        ]
    );
    let without = text.replace("  upstreamAuth: Bearer hush\n", "");
    let hash =
        |snapshot: &Snapshot| snapshot.draft(&Settings::default(), &facilitator(), &BTreeSet::new()).hash;
    assert_eq!(hash(&snapshot), hash(&self::snapshot(&without)));
}

#[test]
fn a_dedicated_hostname_drops_the_stripped_prefix_from_public_urls() {
    let snapshot = snapshot(&file(
        "- pattern: /services/o/*\n  price: 1\n  hostname: O.Example.com\n  stripPrefix: /services/o\n",
    ));
    let public = snapshot.routes[0].public.as_ref().unwrap();
    assert_eq!((public.host.as_str(), public.drop_prefix.as_str()), ("o.example.com", "/services/o"));
}

#[test]
fn agent_metadata_goes_to_extra() {
    let snapshot =
        snapshot(&file("- pattern: /a\n  price: 1\n  agentSkills: [search, code]\n  agentRuntime: hermes\n"));
    let extra = serde_json::to_string(&snapshot.routes[0].options[0].extra).unwrap();
    assert_eq!(extra, r#"{"agentRuntime":"hermes","agentSkills":["search","code"]}"#);
}

// --- the push ---

#[test]
fn the_hash_covers_behaviour_and_not_generation_or_births() {
    let snapshot = snapshot(&file("- pattern: /a\n  price: 1\n"));
    let push = |generation: u64, born: &BTreeMap<Tuple, u64>, kinds: &BTreeSet<String>| {
        snapshot.push(generation, &Settings::default(), &facilitator(), born, kinds)
    };
    let none = BTreeSet::new();
    let first = push(1, &BTreeMap::new(), &none);
    let born: BTreeMap<Tuple, u64> = snapshot.keep_set().into_iter().map(|tuple| (tuple, 0)).collect();
    let second = push(2, &born, &none);
    assert_eq!(first.hash, second.hash);
    assert_eq!(first.hash, snapshot.draft(&Settings::default(), &facilitator(), &none).hash);
    assert_eq!((first.hash.len(), &first.hash[..2]), (66, "0x"));
    assert_eq!((first.generation, first.tuples[0].born), (1, 1));
    assert_eq!((second.generation, second.tuples[0].born), (2, 0));
    let compiled = |pushed: &PushedRules| RuleSet::compile(pushed.clone()).unwrap();
    let renumbered = compiled(&first).numbered_as(&second);
    assert_eq!(
        format!("{renumbered:?}"),
        format!("{:?}", compiled(&second)),
        "numbers are no part of the rules"
    );
    let kinds = BTreeSet::from(["eip155:84532".to_owned()]);
    let with_kinds = push(1, &born, &kinds);
    assert!(with_kinds.routes[0].options[0].v1_kind);
    assert_ne!(with_kinds.hash, first.hash);
    let dearer = self::snapshot(&file("- pattern: /a\n  price: 2\n"));
    assert_ne!(dearer.draft(&Settings::default(), &facilitator(), &none).hash, first.hash);
}

#[test]
fn only_a_public_facilitator_is_named_to_buyers() {
    let public = |url: &str| snapshot(&format!("facilitatorURL: {url}\nroutes: []\n")).public_facilitator();
    assert_eq!(public("https://x402.org/facilitator/").as_deref(), Some("https://x402.org/facilitator"));
    assert_eq!(public("http://127.0.0.1:4020"), None);
    assert_eq!(public("https://facilitator.internal"), None);
}

#[test]
fn ten_thousand_routes_load_without_comparing_each_with_each() {
    let routes: String = (0..10_000)
        .map(|index| {
            format!("- pattern: /s/{index}/*\n  price: 0.001\n  offerNamespace: ns\n  offerName: o{index}\n")
        })
        .collect();
    let snapshot = snapshot(&file(&routes));
    assert_eq!((snapshot.routes.len(), snapshot.tuples.len()), (10_000, 10_000));
    assert_eq!(snapshot.protected.len(), 10_000);
    assert_eq!(snapshot.routes[9_999].options[0].tuple, 9_999);
}
