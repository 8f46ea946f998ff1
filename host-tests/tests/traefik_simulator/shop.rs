//! A shop with paid, free and refused routes, and a buyer: the setup of every test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farebox_core::rules::{Facilitator, PushedRules, RuleSet};
use farebox_core::terms;
use farebox_host_tests::traefik::{Request, START, Traefik};
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::{Value, json};

/// The generation of the shop's rules.
pub(crate) const GENERATION: u64 = 7;

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
facilitatorURL: https://pay.example.com
routes:
- {pattern: "/paid/*", price: "0.001", offerNamespace: shop, offerName: paid}
- {pattern: "/upfront/*", price: "0.0025", paymentFlow: upfront, offerNamespace: shop, offerName: upfront}
- {pattern: "/free/*", gate: free}
- {pattern: "/broken/*", price: "no price", offerNamespace: shop, offerName: broken}
"#;

/// The shop's rules.
pub(crate) fn pushed() -> PushedRules {
    pushed_of(PRICING)
}

/// The rules of a pricing file.
fn pushed_of(pricing: &str) -> PushedRules {
    let loaded = farebox_pricing::load(pricing);
    let snapshot = loaded.snapshot.unwrap_or_else(|| panic!("{:#?}", loaded.findings));
    let facilitator = Facilitator {
        cluster: "farebox".into(),
        authority: "farebox".into(),
        path_prefix: String::new(),
        verify_timeout_ms: 5_000,
        settle_timeout_ms: 60_000,
        ready: true,
        relay: true,
    };
    snapshot.push(GENERATION, &terms::Settings::default(), &facilitator, &BTreeMap::new(), &BTreeSet::new())
}

/// The same, compiled natively.
pub(crate) fn native() -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(pushed()).unwrap())
}

/// The plugin's configuration.
pub(crate) fn config(signature: &str) -> Value {
    config_of(signature, &pushed())
}

fn config_of(signature: &str, rules: &PushedRules) -> Value {
    let spool = json!({"file": "/spool/farebox", "maxBytes": 100_000});
    json!({"signature": signature, "spool": spool, "rules": serde_json::to_value(rules).unwrap()})
}

/// The plugin's configuration with the shop's routes and so many more, each with different terms.
pub(crate) fn large_config(more: usize) -> Value {
    let routes = (1..=more).map(|number| {
        format!(
            "- {{pattern: \"/more/{number}/*\", price: \"0.{number:06}\", offerNamespace: shop, offerName: more-{number}, \
             description: \"The model of \\\"customer\\\" {number}, one call.\"}}\n"
        )
    });
    config_of("guest", &pushed_of(&(PRICING.to_owned() + &routes.collect::<String>())))
}

/// A Traefik with the shop's rules.
pub(crate) fn open() -> Traefik {
    Traefik::new(&config("guest"))
}

/// The JSON of a base64 header.
fn decode(value: &str) -> Value {
    let bytes = farebox_core::protocol::decode_base64(value.as_bytes()).expect("the header is base64");
    serde_json::from_slice(&bytes).expect("the header holds JSON")
}

/// A payment with the terms of a path.
pub(crate) fn payment(traefik: &Traefik, path: &str, number: u64) -> Value {
    let reply = traefik.send(Request::get(path)).expect_reply();
    assert_eq!(reply.status, 402, "{reply:?}");
    let offer =
        decode(reply.header("payment-required").expect("a 402 carries a challenge"))["accepts"][0].clone();
    Wallet::numbered(1).pay_v2(&offer, Window::numbered(number, START, 600)).expect("the offer can be paid")
}

/// A request with a payment.
pub(crate) fn paying(path: &str, payment: &Value) -> Request {
    Request::get(path).header("payment-signature", header_value(payment))
}

/// The payment with another signature of the right form.
pub(crate) fn forged(payment: &Value) -> Value {
    let mut forged = payment.clone();
    let signature = forged["payload"]["signature"].as_str().expect("a signature").to_owned();
    let last = signature.len() - 3;
    let digit = if signature.as_bytes()[last - 8] == b'1' { '2' } else { '1' };
    let text = format!("{}{digit}{}", &signature[..last - 8], &signature[last - 7..]);
    forged["payload"]["signature"] = text.into();
    forged
}
