use serde_json::{Value, json};

use super::*;
use crate::protocol::fixtures::{recorded_replies, usdc};

const HASH: &str = "0x1234567890abcdef1234567890abcdef1234567890abcdef1234567890abcdef";

/// Of all recorded replies.
const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

fn payer() -> Address {
    Address::parse(PAYER).unwrap()
}

fn verify(status: u16, body: &Value) -> VerifyOutcome {
    read_verify_reply(status, body.to_string().as_bytes(), payer())
}

fn settle(status: u16, body: &Value) -> SettleReply {
    read_settle_reply(status, body.to_string().as_bytes(), &usdc(), payer())
}

fn success() -> Value {
    json!({ "success": true, "transaction": HASH, "network": "eip155:84532", "payer": PAYER })
}

fn failure(reason: &str) -> Value {
    json!({ "success": false, "errorReason": reason, "transaction": "", "network": "eip155:84532" })
}

fn is_unclear(reply: &SettleReply) -> bool {
    matches!(reply, SettleReply::Unclear { .. })
}

#[test]
fn only_a_plain_yes_in_a_2xx_is_valid() {
    assert_eq!(verify(200, &json!({ "isValid": true, "payer": PAYER })), VerifyOutcome::Valid);
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
        assert_eq!(read_verify_reply(200, body, payer()), VerifyOutcome::Failed { retriable: false });
        assert!(is_unclear(&read_settle_reply(200, body, &usdc(), payer())));
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
    let settled = SettleReply::Settled { transaction: HASH.into() };
    assert_eq!(settle(200, &success()), settled);
    for network in ["base-sepolia", "eip155:84532"] {
        let mut body = success();
        body["network"] = network.into();
        body["status"] = "settled".into();
        assert_eq!(settle(201, &body), settled, "{network}");
    }
}

#[test]
fn a_success_with_anything_odd_about_it_is_unclear() {
    for (member, value) in [
        ("network", json!("eip155:8453")),
        ("network", json!("base")),
        ("network", json!(84532)),
        ("network", Value::Null),
        ("transaction", json!("")),
        ("transaction", json!(7)),
        ("transaction", Value::Null),
        ("status", json!("blocked")),
        ("status", json!(1)),
        ("success", json!("true")),
        ("success", json!(1)),
        ("success", Value::Null),
    ] {
        let mut body = success();
        body[member] = value.clone();
        let reply = settle(200, &body);
        assert!(is_unclear(&reply), "{member} {value}: {reply:?}");
    }
    for status in [199, 302, 308, 400, 429, 500, 503] {
        let reply = settle(status, &success());
        let SettleReply::Unclear { transaction, .. } = reply else { panic!("{status}: {reply:?}") };
        assert_eq!(transaction.as_deref(), Some(HASH), "{status}");
    }
}

#[test]
fn every_recorded_reply_reads_as_it_was_meant() {
    for recorded in recorded_replies() {
        let (status, body) = (recorded.status, recorded.bytes());
        let reads = if recorded.call == "verify" {
            match read_verify_reply(status, &body, payer()) {
                VerifyOutcome::Valid => "valid",
                VerifyOutcome::Invalid { .. } => "invalid",
                VerifyOutcome::Malformed { .. } => "malformed",
                VerifyOutcome::Failed { .. } => "failed",
            }
        } else {
            match read_settle_reply(status, &body, &usdc(), payer()) {
                SettleReply::Settled { .. } => "settled",
                SettleReply::Refused { .. } => "refused",
                SettleReply::Malformed { .. } => "malformed",
                SettleReply::Pending { .. } => "pending",
                SettleReply::Unclear { .. } => "unclear",
            }
        };
        assert_eq!(reads, recorded.reads, "{}: {}: {recorded:?}", recorded.by, recorded.what);
    }
}

#[test]
fn a_reply_to_a_call_that_the_chain_took_is_never_read_as_refused() {
    let recorded = recorded_replies();
    let taken = recorded.iter().filter(|reply| reply.taken && reply.how == "run");
    let read: Vec<_> =
        taken.map(|reply| read_settle_reply(reply.status, &reply.bytes(), &usdc(), payer())).collect();
    assert!(read.len() > 20);
    for reply in read {
        assert!(!matches!(reply, SettleReply::Refused { .. } | SettleReply::Malformed { .. }), "{reply:?}");
    }
}

#[test]
fn a_code_from_before_the_broadcast_refuses_under_a_status_that_is_an_answer() {
    let mut body = failure("insufficient_funds");
    body["errorMessage"] = "a\nb".into();
    let refused = SettleReply::Refused { reason: "insufficient_funds".into(), detail: Some("a?b".into()) };
    for status in [200, 400, 402, 412, 422] {
        assert_eq!(settle(status, &body), refused, "{status}");
    }
    for status in [199, 302, 308, 408, 409, 425, 429, 500, 503] {
        assert!(is_unclear(&settle(status, &body)), "{status}");
    }
    for transaction in [json!(HASH), json!(7), json!([])] {
        body["transaction"] = transaction.clone();
        assert!(is_unclear(&settle(200, &body)), "{transaction}");
    }
    for transaction in [Value::Null, json!("")] {
        body["transaction"] = transaction.clone();
        assert_eq!(settle(200, &body), refused, "{transaction}");
    }
}

#[test]
fn a_reason_that_proves_nothing_is_unclear() {
    for reason in [
        "",
        "unexpected_settle_error",
        "invalid_exact_evm_nonce_already_used",
        "permit2_invalid_nonce",
        "invalid_exact_evm_transaction_failed",
        "invalid_upto_evm_transaction_failed",
        "transaction_failed",
        "invalid_transaction_state",
        "invalid_exact_evm_transfer_event_mismatch",
        "erc20_approval_broadcast_failed",
        "erc20_approval_tx_failed",
        "smart_wallet_deployment_failed",
        "something_new",
    ] {
        assert!(is_unclear(&settle(200, &failure(reason))), "{reason}");
    }
    assert!(is_unclear(&settle(200, &json!({ "success": false }))));
    assert!(is_unclear(&settle(200, &json!({ "success": false, "errorReason": 7 }))));
}

#[test]
fn an_unfinished_call_is_pending_under_every_status() {
    let pending =
        |transaction: Option<&str>| SettleReply::Pending { transaction: transaction.map(Into::into) };
    let mut body = failure("settlement_pending");
    for status in [200, 202, 400, 500] {
        assert_eq!(settle(status, &body), pending(None), "{status}");
    }
    body["transaction"] = HASH.into();
    assert_eq!(settle(500, &body), pending(Some(HASH)));
    let mut body = success();
    assert_eq!(settle(202, &body), pending(Some(HASH)));
    for status in ["pending", "processing", "submitted", "queued"] {
        body["status"] = status.into();
        assert_eq!(settle(200, &body), pending(Some(HASH)), "{status}");
    }
    for body in [&b""[..], b"<html>", br#"{"jobId":"7"}"#, br#"{"success":1,"success":2}"#] {
        assert_eq!(read_settle_reply(202, body, &usdc(), payer()), pending(None));
    }
    assert_eq!(settle(200, &json!({ "paymentId": "7", "status": "pending" })), pending(None));
}

#[test]
fn a_request_that_was_not_read_is_malformed_with_the_facilitators_words() {
    let body =
        json!({ "errorType": "invalid_request", "errorMessage": "no\tscheme", "correlationId": "c-1" });
    let (words, correlation) = ("no?scheme".to_owned(), Some("c-1".to_owned()));
    for status in [400, 422] {
        let settled = SettleReply::Malformed { words: words.clone(), correlation: correlation.clone() };
        assert_eq!(settle(status, &body), settled, "{status}");
        let verified = VerifyOutcome::Malformed { words: words.clone(), correlation: correlation.clone() };
        assert_eq!(verify(status, &body), verified, "{status}");
    }
    for status in [200, 302, 401, 403, 404, 409, 429, 500] {
        assert!(is_unclear(&settle(status, &body)), "{status}");
        assert!(matches!(verify(status, &body), VerifyOutcome::Failed { .. }), "{status}");
    }
    for status in [413, 414, 415, 431] {
        let reply = read_settle_reply(status, b"<html>too much</html>", &usdc(), payer());
        let words = "<html>too much</html>".to_owned();
        assert_eq!(reply, SettleReply::Malformed { words, correlation: None }, "{status}");
    }
}

#[test]
fn what_could_also_be_a_failure_on_chain_is_not_malformed() {
    for body in [
        json!({ "error": "Invalid request" }),
        json!({ "errorType": "invalid_request", "success": false }),
        json!({ "errorType": "invalid_request", "transaction": HASH }),
        json!({ "errorType": "settlement_failed", "errorMessage": "reverted" }),
        json!({ "detail": "Settlement failed" }),
        json!([]),
    ] {
        for status in [400, 422] {
            assert!(is_unclear(&settle(status, &body)), "{status} {body}");
        }
    }
    assert!(is_unclear(&read_settle_reply(400, b"", &usdc(), payer())));
    assert!(is_unclear(&read_settle_reply(400, b"<html>Bad Request</html>", &usdc(), payer())));
}

#[test]
fn a_reply_that_is_no_verdict_is_kept_for_the_operator() {
    let kept =
        |operation, status, body: Value| complaint(operation, status, body.to_string().as_bytes(), payer());
    for (status, body) in [
        (200, success()),
        (200, failure("insufficient_funds")),
        (400, failure("invalid_exact_evm_nonce_already_used")),
        (500, failure("settlement_pending")),
        (202, json!({ "jobId": 1 })),
    ] {
        assert_eq!(kept(Operation::Settle, status, body.clone()), None, "{status} {body}");
    }
    assert_eq!(kept(Operation::Verify, 400, json!({ "isValid": false, "invalidReason": "x" })), None);
    let said = |malformed, words: &str, correlation: Option<&str>| {
        Some(Complaint {
            malformed,
            other_payer: false,
            words: words.into(),
            correlation: correlation.map(Into::into),
        })
    };
    let request = json!({ "errorType": "invalid_request", "errorMessage": "m", "requestId": "r" });
    for operation in [Operation::Verify, Operation::Settle] {
        assert_eq!(kept(operation, 400, request.clone()), said(true, "m", Some("r")));
        assert_eq!(kept(operation, 500, json!({ "error": "oops" })), said(false, "oops", None));
        assert_eq!(kept(operation, 404, json!({})), said(false, "{}", None));
        assert_eq!(complaint(operation, 502, b" <html>\xff", payer()), said(false, "<html>?", None));
        assert_eq!(complaint(operation, 503, b"", payer()), said(false, "", None));
    }
    let broke = failure("unexpected_error");
    assert_eq!(kept(Operation::Settle, 500, broke), said(false, "unexpected_error", None));
    let long = complaint(Operation::Settle, 500, &[b'x'; 100_000], payer()).unwrap();
    assert_eq!(long.words.len(), 200);
}

#[test]
fn a_reply_that_names_another_payer_is_about_another_payment() {
    let other = Address([9; 20]);
    let mut named = 0;
    for recorded in recorded_replies().iter().filter(|recorded| recorded.body["payer"] == PAYER) {
        named += 1;
        let body = recorded.bytes();
        let operation = if recorded.call == "verify" {
            let outcome = read_verify_reply(recorded.status, &body, other);
            assert_eq!(outcome, VerifyOutcome::Failed { retriable: false }, "{recorded:?}");
            Operation::Verify
        } else {
            let reply = read_settle_reply(recorded.status, &body, &usdc(), other);
            let reason = format!("the reply to /settle names another payer, {}", payer());
            assert_eq!(reply, SettleReply::Unclear { transaction: None, reason }, "{recorded:?}");
            Operation::Settle
        };
        let complaint = complaint(operation, recorded.status, &body, other).unwrap();
        assert!(complaint.other_payer, "{complaint:?}");
        assert_eq!(complaint.words, format!("it names another payer, {}", payer()));
    }
    assert!(named > 100, "{named}");
    // Another letter case is the same payer, and a text that is not an address is ignored.
    for text in [&*PAYER.to_lowercase(), "", "0x0", "eip155:1:0x1"] {
        let mut body = success();
        body["payer"] = text.into();
        assert_eq!(settle(200, &body), SettleReply::Settled { transaction: HASH.into() }, "{text}");
    }
}

/// A small generator, so that a failure can be repeated.
struct Noise(u64);

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

#[test]
fn no_bytes_break_the_reader_and_none_settle_by_chance() {
    let recorded: Vec<_> = recorded_replies().iter().map(|reply| reply.bytes()).collect();
    let mut noise = Noise(402);
    for round in 0..20_000 {
        let mut body: Vec<u8> = if round % 4 == 0 {
            (0..noise.below(64)).map(|_| noise.byte()).collect()
        } else {
            recorded[noise.below(recorded.len())].clone()
        };
        for _ in 0..noise.below(4) {
            let at = noise.below(body.len());
            match noise.below(4) {
                0 => body.truncate(at),
                1 => body.insert(at, noise.byte()),
                2 if !body.is_empty() => body[at] ^= 1 << noise.below(8),
                _ => body.extend_from_within(at..),
            }
        }
        let status = [0, 200, 202, 302, 400, 413, 422, 429, 500, u16::MAX][noise.below(10)];
        let _ = read_verify_reply(status, &body, payer());
        for operation in [Operation::Verify, Operation::Settle] {
            let _ = complaint(operation, status, &body, payer());
        }
        if let SettleReply::Settled { transaction } = read_settle_reply(status, &body, &usdc(), payer()) {
            assert!((200..300).contains(&status) && status != 202 && !transaction.is_empty());
        }
    }
}
