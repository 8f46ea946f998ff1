//! Errors that only a host of the component can make.

use farebox_core::rules::RuleSet;
use serde_json::{Value, json};

use crate::component::{Answer, Decision, Header, Loaded, Request};
use crate::vectors::rules;

const NOW: u64 = 1_800_000_000_000;

/// Rules with one paid route, `/premium-data`.
fn one_route(settings: Value) -> Value {
    let requirement = json!({
        "network": "base-sepolia", "amount": "1000", "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C", "maxTimeoutSeconds": 60,
        "extra": {"name": "USDC", "version": "2"},
    });
    let mut rules = rules(&requirement, settings);
    let free = json!({"pattern": "/free", "gate": "free"});
    rules["routes"].as_array_mut().unwrap().push(free);
    rules
}

fn open(settings: Value) -> Loaded {
    Loaded::new(&one_route(settings).to_string()).unwrap()
}

fn get(target: &str, headers: &[(&str, &str)]) -> Request {
    let header =
        |(name, value): &(&str, &str)| Header { name: (*name).to_owned(), value: value.as_bytes().to_vec() };
    Request {
        method: "GET".into(),
        target: target.as_bytes().to_vec(),
        authority: "api.example.com".into(),
        tls: true,
        peer: None,
        headers: headers.iter().map(header).collect(),
    }
}

fn reply(decision: Decision) -> Answer {
    match decision {
        Decision::Reply(answer) => answer,
        other => panic!("there is no answer: {other:?}"),
    }
}

#[test]
fn rules_that_cannot_be_used_are_refused_in_the_words_of_the_core() {
    let with = |member: &str, value: Value| {
        let mut rules = one_route(json!({}));
        rules[member] = value;
        rules.to_string()
    };
    let texts = [
        String::new(),
        "null".into(),
        "{}".into(),
        with("format", json!(99)),
        with("generation", json!(0)),
        with("more", json!(true)),
        with("facilitator", json!(null)),
        with("routes", json!([{"pattern": "/x", "gate": "paid", "options": []}])),
        with("settings", json!({"maxPaymentBytes": -1})),
    ];
    for text in &texts {
        let native = RuleSet::from_json(text.as_bytes()).err().map(|error| error.to_string());
        assert!(native.is_some(), "{text}");
        assert_eq!(Loaded::new(text).err(), native, "{text}");
    }
}

#[test]
fn a_pseudo_header_among_the_lines_chooses_no_other_route() {
    let mut shop = open(json!({}));
    let plain = reply(shop.decide(&get("/premium-data", &[]), NOW));
    assert_eq!(plain.status, 402);
    let lines = [(":path", "/free"), (":method", "OPTIONS"), (":authority", "elsewhere.example")];
    assert_eq!(reply(shop.decide(&get("/premium-data", &lines), NOW)), plain);
}

#[test]
fn names_are_read_in_any_letter_case() {
    let mut shop = open(json!({}));
    let lower = shop.decide(&get("/premium-data", &[("payment-signature", "e30=")]), NOW);
    let upper = shop.decide(&get("/premium-data", &[("Payment-Signature", "e30=")]), NOW);
    assert_eq!(lower, upper);
    assert_eq!(reply(lower).status, 400);
    let Decision::Forward(edits) = shop.decide(&get("/free", &[("X-Payment-Payer", "0x1")]), NOW) else {
        panic!("a free route is not free");
    };
    assert_eq!(edits.remove, ["x-payment-payer"]);
}

#[test]
fn the_host_line_counts_where_there_is_no_authority() {
    let mut shop = open(json!({}));
    let asked = get("/premium-data", &[]);
    let by_line =
        Request { authority: String::new(), ..get("/premium-data", &[("Host", "api.example.com")]) };
    assert_eq!(shop.challenge(&by_line), shop.challenge(&asked));
    let other = Request { authority: "other.example.com".into(), ..by_line };
    assert_ne!(shop.challenge(&other), shop.challenge(&asked));
}

#[test]
fn an_address_that_is_none_is_taken_for_a_public_one() {
    let mut shop = open(json!({"requireSecureTransport": true}));
    let mut from = |tls, peer: Option<&str>| {
        let asked = get("/premium-data", &[("payment-signature", "e30=")]);
        let answer = reply(shop.decide(&Request { tls, peer: peer.map(str::to_owned), ..asked }, NOW));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        body["reason"].as_str().unwrap().to_owned()
    };
    for peer in [None, Some(""), Some("10.0.0.1:80"), Some("localhost"), Some("203.0.113.9")] {
        assert_eq!(from(false, peer), "insecure_transport", "{peer:?}");
        assert_eq!(from(true, peer), "invalid_payment_header", "{peer:?}");
    }
    for peer in ["10.0.0.1", "::1"] {
        assert_eq!(from(false, Some(peer)), "invalid_payment_header", "{peer}");
    }
}
