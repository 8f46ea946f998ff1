use serde_json::{Value, json};

use super::*;
use crate::protocol::CheckPolicy;
use crate::protocol::fixtures::{NOW, PAYER, check, decode, option, usdc, v1, v2};

fn call(payment: &Value, option: &PaymentOption, minimal: bool) -> Value {
    let policy = CheckPolicy::from_settings(&crate::terms::Settings::default());
    let payment = decode(payment);
    let signed = check(&payment, option, &policy, NOW).unwrap();
    let body = CallBody::new(&payment, &signed, option, "https://api.example.com/x", minimal);
    serde_json::from_slice(&body.0).unwrap()
}

#[test]
fn the_facilitator_gets_our_requirement_twice_and_not_the_clients_copy() {
    let mut payment = v2(&usdc());
    payment["accepted"]["network"] = "base-sepolia".into();
    payment["accepted"]["maxTimeoutSeconds"] = 9_999_999.into();
    payment["accepted"]["extra"] = json!({ "name": "Evil", "version": "9", "more": true });
    payment["accepted"]["bonus"] = "x".into();
    let ours = json!({
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "1000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 60,
        "extra": { "name": "USDC", "version": "2", "assetTransferMethod": "eip3009" },
    });
    let body = call(&payment, &usdc(), false);
    assert_eq!(body["x402Version"], 2);
    assert_eq!(body["paymentRequirements"], ours);
    assert_eq!(body["paymentPayload"]["accepted"], ours);
}

#[test]
fn only_protocol_members_are_sent_on() {
    let mut payment = v2(&usdc());
    payment["stowaway"] = 1.into();
    payment["payload"]["stowaway"] = 1.into();
    payment["payload"]["authorization"]["stowaway"] = 1.into();
    payment["extensions"] = json!({ "bazaar": { "info": { "n": 1 } } });
    let body = call(&payment, &usdc(), false);
    let sent = &body["paymentPayload"];
    assert_eq!(sent["extensions"], payment["extensions"]);
    assert_eq!(sent["resource"], payment["resource"]);
    assert!(!body.to_string().contains("stowaway"));
    assert_eq!(sent["payload"]["authorization"]["from"], PAYER);
    let sent = call(&payment, &usdc(), true)["paymentPayload"].clone();
    let members: Vec<&String> = sent.as_object().unwrap().keys().collect();
    assert_eq!(members, ["accepted", "payload", "x402Version"]);
}

#[test]
fn a_v1_payment_stays_v1_where_the_facilitator_takes_it() {
    let option = PaymentOption { v1_kind: true, ..usdc() };
    let body = call(&v1(&option), &option, false);
    assert_eq!(body["x402Version"], 1);
    assert_eq!(body["paymentPayload"]["x402Version"], 1);
    assert_eq!(body["paymentPayload"]["network"], "base-sepolia");
    assert_eq!(
        body["paymentRequirements"],
        json!({
            "scheme": "exact",
            "network": "base-sepolia",
            "maxAmountRequired": "1000",
            "resource": "https://api.example.com/x",
            "description": "",
            "mimeType": "application/json",
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "maxTimeoutSeconds": 60,
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "extra": { "name": "USDC", "version": "2" },
        })
    );
}

#[test]
fn a_v1_payment_is_re_enveloped_as_v2_elsewhere() {
    let body = call(&v1(&usdc()), &usdc(), false);
    assert_eq!(body["x402Version"], 2);
    assert_eq!(body["paymentPayload"]["x402Version"], 2);
    assert_eq!(body["paymentPayload"]["accepted"], body["paymentRequirements"]);
    assert_eq!(body["paymentPayload"]["payload"]["authorization"]["value"], "1000");
}

#[test]
fn a_permit_is_written_back_whole() {
    let option = option("ethereum", "OBOL");
    let payment = v2(&option);
    let body = call(&payment, &option, false);
    assert_eq!(body["paymentPayload"]["payload"], payment["payload"]);
    assert_eq!(body["paymentRequirements"]["extra"]["assetTransferMethod"], "permit2");
}

#[test]
fn the_same_payment_makes_the_same_bytes() {
    let (payment, option) = (decode(&v2(&usdc())), usdc());
    let policy = CheckPolicy::from_settings(&crate::terms::Settings::default());
    let signed = check(&payment, &option, &policy, NOW).unwrap();
    let body = || CallBody::new(&payment, &signed, &option, "https://a", false);
    assert_eq!(body(), body());
}

#[test]
fn operator_members_of_extra_cannot_replace_protocol_ones() {
    let mut option = PaymentOption { flow: crate::terms::Flow::Upfront, ..usdc() };
    for name in ["name", "version", "assetTransferMethod", "paymentFlow", "agentSkills"] {
        option.extra.set(name, "operator's");
    }
    let mut payment = v2(&option);
    payment["accepted"]["extra"] = json!({ "paymentFlow": "upfront" });
    let extra = call(&payment, &option, false)["paymentRequirements"]["extra"].clone();
    assert_eq!(
        extra,
        json!({
            "name": "USDC",
            "version": "2",
            "assetTransferMethod": "eip3009",
            "paymentFlow": "upfront",
            "agentSkills": "operator's",
        })
    );
}
