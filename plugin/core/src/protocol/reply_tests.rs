use serde_json::{Value, json};

use super::*;
use crate::protocol::fixtures::usdc;

const HASH: &str = "0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef";

fn verify(status: u16, body: &Value) -> VerifyOutcome {
    read_verify_reply(status, body.to_string().as_bytes())
}

fn settle(status: u16, body: &Value) -> SettleOutcome {
    read_settle_reply(status, body.to_string().as_bytes(), &usdc(), false)
}

fn success() -> Value {
    json!({ "success": true, "transaction": HASH, "network": "eip155:84532", "payer": "0xabc" })
}

fn failure(reason: &str) -> Value {
    json!({ "success": false, "errorReason": reason, "transaction": "", "network": "eip155:84532" })
}

fn is_unknown(outcome: &SettleOutcome) -> bool {
    matches!(outcome, SettleOutcome::Unknown { nonce_already_used: false, .. })
}

#[test]
fn only_a_plain_yes_in_a_2xx_is_valid() {
    assert_eq!(verify(200, &json!({ "isValid": true, "payer": "0xabc" })), VerifyOutcome::Valid);
    for status in [100, 199, 300, 301, 302, 307, 308, 400, 402, 429, 500, 503, 0, 999] {
        let outcome = verify(status, &json!({ "isValid": true }));
        assert!(matches!(outcome, VerifyOutcome::Failed { .. }), "{status}: {outcome:?}");
    }
    for body in [
        json!({ "isValid": "true" }),
        json!({ "isValid": 1 }),
        json!({ "isValid": null }),
        json!({}),
        json!([true]),
        json!(true),
        json!({ "isValid": false, "invalidReason": 7 }),
    ] {
        assert_eq!(verify(200, &body), VerifyOutcome::Failed { retriable: false }, "{body}");
    }
}

#[test]
fn bytes_that_are_no_json_are_a_failure() {
    let twice = br#"{"isValid":false,"isValid":true}"#;
    let deep = format!("{{\"isValid\":true,\"x\":{}{}}}", "[".repeat(500), "]".repeat(500));
    for body in [&b""[..], b"<html>", b"{\"isValid\":true", b"\xff\xfe", twice, deep.as_bytes()] {
        assert_eq!(read_verify_reply(200, body), VerifyOutcome::Failed { retriable: false });
        assert!(is_unknown(&read_settle_reply(200, body, &usdc(), false)));
    }
}

#[test]
fn a_no_below_500_refuses_with_its_reason_cut_to_printable_text() {
    let body = json!({ "isValid": false, "invalidReason": "insufficient_funds", "invalidMessage": "a\nb" });
    let invalid = VerifyOutcome::Invalid { reason: "insufficient_funds".into(), detail: Some("a?b".into()) };
    for status in [200, 400, 402, 412, 422] {
        assert_eq!(verify(status, &body), invalid, "{status}");
    }
    for status in [301, 308, 429, 500, 502] {
        assert!(matches!(verify(status, &body), VerifyOutcome::Failed { .. }), "{status}");
    }
    let long = json!({ "isValid": false, "invalidReason": "x".repeat(5000) });
    let VerifyOutcome::Invalid { reason, .. } = verify(200, &long) else { panic!("not invalid") };
    assert_eq!(reason.len(), 200);
    let bare = VerifyOutcome::Invalid { reason: "unspecified".into(), detail: None };
    assert_eq!(verify(200, &json!({ "isValid": false })), bare);
}

#[test]
fn a_facilitator_that_broke_is_not_a_refusal() {
    let body = json!({ "isValid": false, "invalidReason": "unexpected_verify_error" });
    assert_eq!(verify(200, &body), VerifyOutcome::Failed { retriable: false });
}

#[test]
fn only_rate_limits_and_gateways_are_worth_another_attempt() {
    for (status, retriable) in [
        (429, true),
        (502, true),
        (503, true),
        (504, true),
        (500, false),
        (501, false),
        (404, false),
        (302, false),
    ] {
        assert_eq!(verify(status, &json!({})), VerifyOutcome::Failed { retriable }, "{status}");
    }
    let broke = json!({ "isValid": false, "invalidReason": "unexpected_error: rpc" });
    assert_eq!(verify(503, &broke), VerifyOutcome::Failed { retriable: false });
}

#[test]
fn a_success_names_its_transaction_on_our_network() {
    let settled = SettleOutcome::Settled { transaction: HASH.into(), payer: Some("0xabc".into()) };
    assert_eq!(settle(200, &success()), settled);
    for network in ["base-sepolia", "eip155:84532"] {
        let mut body = success();
        body["network"] = network.into();
        body["status"] = "settled".into();
        assert_eq!(settle(201, &body), settled, "{network}");
    }
}

#[test]
fn a_success_with_anything_odd_about_it_is_unknown() {
    for (member, value) in [
        ("network", json!("eip155:8453")),
        ("network", json!("base")),
        ("network", json!(84532)),
        ("network", Value::Null),
        ("transaction", json!("")),
        ("transaction", json!(7)),
        ("transaction", Value::Null),
        ("status", json!("pending")),
        ("status", json!("blocked")),
        ("success", json!("true")),
        ("success", json!(1)),
        ("success", Value::Null),
    ] {
        let mut body = success();
        body[member] = value.clone();
        let outcome = settle(200, &body);
        assert!(is_unknown(&outcome), "{member} {value}: {outcome:?}");
    }
    for status in [199, 302, 308, 400, 429, 500, 503] {
        let outcome = settle(status, &success());
        let SettleOutcome::Unknown { transaction, .. } = outcome else { panic!("{status}: {outcome:?}") };
        assert_eq!(transaction.as_deref(), Some(HASH), "{status}");
    }
}

#[test]
fn a_known_refusal_below_500_is_final() {
    for reason in [
        "insufficient_funds",
        "invalid_exact_evm_payload_signature",
        "permit2_allowance_required",
        "eip2612_deadline_expired",
        "invalid_transaction_state",
        "invalid_exact_evm_transaction_failed",
        "invalid_upto_evm_transaction_failed",
    ] {
        for status in [200, 400, 402] {
            let refused = SettleOutcome::Refused { reason: reason.into() };
            assert_eq!(settle(status, &failure(reason)), refused, "{status} {reason}");
        }
        for status in [302, 429, 500, 503] {
            assert!(is_unknown(&settle(status, &failure(reason))), "{status} {reason}");
        }
    }
}

#[test]
fn a_reason_that_proves_nothing_is_unknown() {
    for reason in [
        "",
        "unexpected_settle_error",
        "invalid_exact_evm_transfer_event_mismatch",
        "erc20_approval_broadcast_failed",
        "erc20_approval_tx_failed",
        "smart_wallet_deployment_failed",
        "something_new",
    ] {
        assert!(is_unknown(&settle(200, &failure(reason))), "{reason}");
    }
    assert!(is_unknown(&settle(200, &json!({ "success": false }))));
    assert!(is_unknown(&settle(200, &json!({ "success": false, "errorReason": 7 }))));
}

#[test]
fn pending_with_a_transaction_is_repeated_and_without_one_unknown() {
    let mut body = failure("settlement_pending");
    assert!(is_unknown(&settle(200, &body)));
    body["transaction"] = HASH.into();
    body["status"] = "pending".into();
    assert_eq!(settle(200, &body), SettleOutcome::Pending { transaction: HASH.into() });
}

#[test]
fn a_used_nonce_is_a_refusal_only_if_no_attempt_of_ours_may_have_used_it() {
    for reason in ["invalid_exact_evm_nonce_already_used", "permit2_invalid_nonce"] {
        let body = failure(reason).to_string();
        let read = |earlier| read_settle_reply(200, body.as_bytes(), &usdc(), earlier);
        assert_eq!(read(false), SettleOutcome::Refused { reason: reason.into() });
        let unknown =
            SettleOutcome::Unknown { transaction: None, reason: reason.into(), nonce_already_used: true };
        assert_eq!(read(true), unknown);
    }
}

#[test]
fn after_an_unknown_attempt_only_what_would_have_refused_that_one_too_is_a_refusal() {
    let read = |reason: &str| read_settle_reply(200, failure(reason).to_string().as_bytes(), &usdc(), true);
    for reason in [
        "insufficient_funds",
        "invalid_exact_evm_insufficient_balance",
        "permit2_insufficient_balance",
        "permit2_allowance_required",
        "invalid_exact_evm_transaction_simulation_failed",
        "permit2_simulation_failed",
        "invalid_exact_evm_payload_authorization_valid_before",
        "permit2_deadline_expired",
        "invalid_transaction_state",
        "invalid_exact_evm_transaction_failed",
    ] {
        let unknown =
            SettleOutcome::Unknown { transaction: None, reason: reason.into(), nonce_already_used: false };
        assert_eq!(read(reason), unknown);
    }
    for reason in ["invalid_exact_evm_payload_signature", "invalid_network", "permit2_amount_mismatch"] {
        assert_eq!(read(reason), SettleOutcome::Refused { reason: reason.into() });
    }
}
