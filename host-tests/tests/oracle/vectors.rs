//! Every vector.

use std::net::Ipv4Addr;

use farebox_core::evm::{chain_by_name, v1_name};
use farebox_host_tests::traefik;
use serde_json::{Value, json};

use crate::component::{Decision, Flow};
use crate::three::{Asked, Three};

const VECTORS: &str = include_str!("../../../plugin/core/tests/vectors.json");
/// Cases under `vectors`, and under `header_decoding`.
const CASES: (usize, usize) = (48, 18);

/// The note of the only case with another result in Farebox: a payment whose `extra` is an older copy still
/// matches.
const OLDER_EXTRA: &str = "accepted.extra lacks a member of the offer";

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} of {value}"))
}

/// Rules with one route, which asks for a requirement of either version.
pub(crate) fn rules(requirement: &Value, settings: Value) -> Value {
    let network = chain_by_name(text(requirement, "network")).expect("vectors are of known chains");
    let extra = &requirement["extra"];
    let amount = requirement["amount"].as_str().unwrap_or_else(|| text(requirement, "maxAmountRequired"));
    let option = json!({
        "tuple": 0,
        "network": network.as_str(),
        "v1Network": v1_name(&network),
        "v1Kind": true,
        "amount": amount,
        "asset": text(requirement, "asset"),
        "decimals": 6,
        "payTo": text(requirement, "payTo"),
        "maxTimeoutSeconds": requirement["maxTimeoutSeconds"],
        "flow": "authorization",
        "transferMethod": extra["assetTransferMethod"].as_str().unwrap_or("eip3009"),
        "eip712Name": text(extra, "name"),
        "eip712Version": text(extra, "version"),
        "gasSponsoring": false,
    });
    json!({
        "format": 1, "generation": 1, "hash": "0x00", "settings": settings,
        "facilitator": {
            "cluster": "farebox", "authority": "farebox", "pathPrefix": "",
            "verifyTimeoutMs": 5_000, "settleTimeoutMs": 60_000, "ready": true, "relay": true,
        },
        "tuples": [{
            "offerNamespace": "", "offerName": "", "chain": network.as_str(), "assetSymbol": "USDC", "born": 0,
        }],
        "routes": [{"pattern": "/premium-data", "gate": "paid", "options": [option]}],
        "protected": [],
    })
}

/// The requirement of a case: of its protocol version, with its override.
fn requirement(requirements: &Value, case: &Value) -> Value {
    let mut requirement = requirements[case["protocol"].as_str().unwrap_or("v2")].clone();
    for (member, value) in case["server_requirement_override"].as_object().into_iter().flatten() {
        requirement[member] = value.clone();
    }
    requirement
}

/// Asks all three, and compares what they agree on with what the file expects.
fn check(place: &str, rules: &Value, case: &Value, clock: u64, expected: &Value) {
    let header = text(case, "header").to_ascii_lowercase();
    let request = traefik::Request::get("/premium-data").header(&header, text(case, "value"));
    let asked = Asked { request, peer: Ipv4Addr::LOCALHOST.into(), now: clock * 1_000 };
    let decision = Three::with(rules).decide(&asked, place);
    let verdict = if case["note"] == OLDER_EXTRA { "accept" } else { text(expected, "verdict") };
    match (verdict, decision) {
        ("accept" | "defer", Decision::Pay(payment)) => {
            assert_eq!(payment.unless_known, None, "{place}");
            assert_eq!(payment.flow, Flow::Authorization, "{place}");
            let body: Value = serde_json::from_slice(&payment.body).expect("the call is JSON");
            let signature = &body["paymentPayload"]["payload"]["signature"];
            assert!(expected["forward_signature"].is_null() || expected["forward_signature"] == *signature);
        }
        ("challenge", Decision::Reply(answer)) => assert_eq!(answer.status, 402, "{place}"),
        ("reject", Decision::Reply(answer)) => assert_eq!(expected["http_status"], answer.status, "{place}"),
        // The payment is authentic, and fails the checks of a new payment.
        ("reject", Decision::Pay(payment)) => {
            let answer = payment.unless_known.expect("it was refused before anybody looked at its life");
            assert_eq!(expected["http_status"], answer.status, "{place}");
        }
        (verdict, decision) => panic!("{place}: {verdict} is expected, got {decision:?}"),
    }
}

#[test]
fn all_three_give_every_vector_the_same_verdict() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let (mut cases, mut headers) = (0, 0);
    for vector in file["vectors"].as_array().unwrap() {
        for (index, case) in vector["cases"].as_array().unwrap().iter().enumerate() {
            let place = format!("{} case {index}", text(vector, "id"));
            let requirement = requirement(&vector["server_requirement"], case);
            let (clock, expected) = (case["clock"].as_u64().unwrap(), &case["expected"]);
            check(&place, &rules(&requirement, json!({})), case, clock, expected);
            for (mode, setting) in [
                ("strict_mode", json!({"strictRecoveryByte": true})),
                ("local_only", json!({"deferUndecidableSignature": false})),
            ] {
                if expected[mode].is_object() {
                    let place = format!("{place}, {mode}");
                    check(&place, &rules(&requirement, setting), case, clock, &expected[mode]);
                }
            }
            cases += 1;
        }
    }
    let decoding = &file["header_decoding"];
    for case in decoding["cases"].as_array().unwrap() {
        let requirement = requirement(&decoding["server_requirement"], case);
        let clock = case["expected"]["clock"].as_u64().unwrap_or(1_800_000_000);
        check(text(case, "id"), &rules(&requirement, json!({})), case, clock, &case["expected"]);
        headers += 1;
    }
    assert_eq!((cases, headers), CASES, "a case was lost or added");
}
