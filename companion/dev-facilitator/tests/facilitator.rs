//! Tests of the development facilitator over HTTP. They are outside the library, because the testkit depends on the
//! library.

use std::time::Duration;

use farebox_core::evm::{B256, to_hex};
use farebox_testkit::facilitator::{DevFacilitator, payment_call as call};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PAY_TO: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

fn payment(nonce: u8) -> Value {
    call(1000, nonce, PAY_TO)
}

/// A signed vector of the core's test data as a call.
fn vector_call(id: &str, protocol: &str) -> Value {
    let file: Value = serde_json::from_str(include_str!("../../../plugin/core/tests/vectors.json")).unwrap();
    let vector = file["vectors"].as_array().unwrap().iter().find(|vector| vector["id"] == id).unwrap();
    let case = vector["cases"].as_array().unwrap().iter().find(|case| case["protocol"] == protocol).unwrap();
    let value = case["value"].as_str().unwrap();
    let payload = farebox_core::protocol::decode_base64(value.as_bytes()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    json!({
        "x402Version": payload["x402Version"],
        "paymentPayload": payload,
        "paymentRequirements": vector["server_requirement"][protocol],
    })
}

async fn ask(dev: &DevFacilitator, path: &str, body: &Value) -> (u16, Value) {
    let (status, text) = dev.post(path, body).await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
}

/// All bytes of the answer on a connection.
async fn answer(dev: &DevFacilitator, request: &str) -> String {
    let mut stream = TcpStream::connect(dev.url().trim_start_matches("http://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A reset connection is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

fn code(reply: &Value) -> &str {
    let member = if reply["success"].is_null() { "invalidReason" } else { "errorReason" };
    reply[member].as_str().unwrap_or_else(|| panic!("{reply}"))
}

#[tokio::test]
async fn a_sound_payment_is_valid_settles_and_moves_the_balance() {
    let dev = DevFacilitator::start().await;
    let (status, reply) = ask(&dev, "/verify", &payment(1)).await;
    assert_eq!((status, &reply["isValid"]), (200, &json!(true)));
    assert_eq!(dev.settled_payments().await.len(), 0);

    let (status, reply) = ask(&dev, "/settle", &payment(1)).await;
    assert_eq!((status, &reply["success"]), (200, &json!(true)));
    assert_eq!(reply["network"], "eip155:84532");
    let transaction = reply["transaction"].as_str().unwrap();
    assert!(B256::parse(transaction).is_ok(), "{transaction}");

    let record = dev.record().await;
    let amounts: Vec<_> =
        record["balances"].as_array().unwrap().iter().map(|b| b["amount"].clone()).collect();
    assert_eq!(amounts.len(), 2);
    assert!(amounts.contains(&json!("999000")) && amounts.contains(&json!("1001000")), "{amounts:?}");
    assert_eq!(record["settled"][0]["transaction"], transaction);
    let calls = record["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["operation"], "verify");
    assert_eq!(calls[0]["outcome"], "valid");
    assert_eq!(calls[0]["body"], payment(1).to_string());
    assert_eq!(calls[1]["json"], payment(1));
    assert_eq!(calls[1]["outcome"], format!("settled {transaction}"));
}

#[tokio::test]
async fn an_identical_repeat_gets_the_same_success_and_a_new_use_of_the_nonce_does_not() {
    let dev = DevFacilitator::start().await;
    let (_, first) = ask(&dev, "/settle", &payment(1)).await;
    assert_eq!(ask(&dev, "/settle", &payment(1)).await, (200, first));
    let (_, reply) = ask(&dev, "/settle", &call(999, 1, PAY_TO)).await;
    assert_eq!(reply["success"], false);
    assert_eq!(code(&reply), "invalid_exact_evm_nonce_already_used");
    let (_, reply) = ask(&dev, "/verify", &payment(1)).await;
    assert_eq!(code(&reply), "invalid_exact_evm_nonce_already_used");
    assert_eq!(dev.settled_payments().await.len(), 1);
}

#[tokio::test]
async fn permit2_and_version_1_are_judged_too() {
    let dev = DevFacilitator::start().await;
    for call in [vector_call("exact-permit2-8453", "v2"), vector_call("exact-eip3009-84532", "v1")] {
        assert_eq!(ask(&dev, "/verify", &call).await.1["isValid"], true);
        let (_, reply) = ask(&dev, "/settle", &call).await;
        assert_eq!(reply["success"], true, "{reply}");
        assert_eq!(reply["network"], call["paymentRequirements"]["network"]);
    }
    assert_eq!(dev.settled_payments().await.len(), 2);
}

#[tokio::test]
async fn what_a_contract_would_refuse_is_refused_with_its_code() {
    let dev = DevFacilitator::start().await;
    let changed = |path: &str, value: Value| {
        let mut call = payment(1);
        *call.pointer_mut(path).unwrap() = value;
        call
    };
    let requirements_name = "/paymentRequirements/extra/name";
    for (call, expected) in [
        (changed("/paymentPayload/payload/authorization/value", json!("999")), "value_mismatch"),
        (
            changed("/paymentPayload/payload/authorization/nonce", json!(to_hex(&[9; 32]))),
            "payload_signature",
        ),
        (
            changed("/paymentRequirements/payTo", json!(format!("0x{}", "11".repeat(20)))),
            "recipient_mismatch",
        ),
        (changed("/paymentRequirements/amount", json!("1001")), "value_mismatch"),
        (changed("/paymentRequirements/network", json!("eip155:8453")), "invalid_network"),
        (changed("/paymentRequirements/scheme", json!("upto")), "unsupported_scheme"),
        (changed(requirements_name, json!("USD Coin")), "token_name_mismatch"),
        (changed("/x402Version", json!(1)), "invalid_x402_version"),
        (call(2_000_000, 1, PAY_TO), "insufficient_funds"),
        (vector_call("neg-v-0-1-84532", "v2"), "payload_signature"),
        (vector_call("neg-eip2098-64-84532", "v2"), "payload_signature"),
    ] {
        for path in ["/verify", "/settle"] {
            let (status, reply) = ask(&dev, path, &call).await;
            assert_eq!(status, 200);
            assert!(code(&reply).ends_with(expected), "{path} {expected}: {reply}");
        }
    }
    assert_eq!(dev.settled_payments().await.len(), 0);
    let (status, _) = ask(&dev, "/settle", &json!([1])).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn supported_lists_both_versions_of_every_known_chain() {
    let dev = DevFacilitator::start().await;
    let answer = answer(&dev, "GET /supported HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("x-farebox-development: this facilitator moves no money"), "{head}");
    let supported: Value = serde_json::from_str(body).unwrap();
    let kinds = supported["kinds"].as_array().unwrap();
    for kind in [
        json!({ "x402Version": 2, "scheme": "exact", "network": "eip155:84532" }),
        json!({ "x402Version": 1, "scheme": "exact", "network": "base-sepolia" }),
        json!({ "x402Version": 2, "scheme": "exact", "network": "eip155:42161" }),
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    assert!(!kinds.iter().any(|kind| kind["network"] == "arbitrum-one"));
}

#[tokio::test]
async fn statuses_pages_and_odd_bodies_are_sent_as_named() {
    let dev = DevFacilitator::start().await;
    for (mode, status, content) in [
        ("http_500", 500, "asked to fail"),
        ("http_503", 503, "asked to fail"),
        ("http_429", 429, "asked to fail"),
        ("html_502", 502, "<html>"),
        ("html_200", 200, "<html>"),
        ("garbage", 200, "not json"),
        ("wrong_types", 200, "\"true\""),
        ("redirect_302", 302, "{}"),
        ("redirect_308", 308, "{}"),
        ("redirect_308:http://elsewhere.example", 308, "{}"),
        ("invalid", 200, "insufficient_funds"),
        ("invalid:permit2_allowance_required", 200, "permit2_allowance_required"),
        ("unknown_code", 200, "a_code_nobody_has_heard_of"),
    ] {
        dev.order(&json!({ "verify": mode, "settle": mode })).await;
        for path in ["/verify", "/settle"] {
            let (found, body) = dev.post(path, &payment(1)).await.unwrap();
            assert_eq!(found, status, "{path} {mode}");
            assert!(body.contains(content), "{path} {mode}: {body}");
        }
    }
    assert_eq!(dev.settled_payments().await.len(), 0, "none of these settles");
}

#[tokio::test]
async fn connections_break_where_the_mode_says() {
    let dev = DevFacilitator::start().await;
    let request = |path: &str| {
        let body = payment(1).to_string();
        format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    for (mode, head, body) in
        [("reset", false, false), ("cut_after_headers", true, false), ("truncated", true, true)]
    {
        dev.fail("settle", mode).await;
        let text = answer(&dev, &request("/settle")).await;
        assert_eq!(text.starts_with("HTTP/1.1 200 OK"), head, "{mode}: {text}");
        let (_, received) = text.split_once("\r\n\r\n").unwrap_or_default();
        assert_eq!(!received.is_empty(), body, "{mode}: {text}");
        assert!(serde_json::from_str::<Value>(received).is_err(), "{mode}: {text}");
    }
    // The connection broke during the answer, so the payment was settled.
    assert_eq!(dev.settled_payments().await.len(), 1);
}

#[tokio::test]
async fn a_settlement_can_succeed_without_a_reply() {
    let dev = DevFacilitator::start().await;
    dev.fail("settle", "success_but_hang").await;
    let waited = tokio::time::timeout(Duration::from_millis(300), dev.post("/settle", &payment(1))).await;
    assert!(waited.is_err());
    assert_eq!(dev.settled_payments().await.len(), 1);
    dev.fail("settle", "success_503").await;
    let (status, reply) = ask(&dev, "/settle", &payment(2)).await;
    assert_eq!((status, &reply["success"]), (503, &json!(true)));
    dev.fail("settle", "wrong_network").await;
    let (_, reply) = ask(&dev, "/settle", &payment(3)).await;
    assert_eq!(reply["network"], "eip155:31337");
    assert_eq!(dev.settled_payments().await.len(), 3);
    dev.fail("settle", "settled_but:invalid_exact_evm_transaction_failed").await;
    let (_, reply) = ask(&dev, "/settle", &payment(4)).await;
    assert_eq!(code(&reply), "invalid_exact_evm_transaction_failed");
    assert_eq!(dev.settled_payments().await.len(), 4);
}

#[tokio::test]
async fn a_hanging_call_settles_nothing() {
    let dev = DevFacilitator::start().await;
    dev.fail("settle", "timeout").await;
    let waited = tokio::time::timeout(Duration::from_millis(300), dev.post("/settle", &payment(1))).await;
    assert!(waited.is_err());
    assert_eq!(dev.settled_payments().await.len(), 0);
}

#[tokio::test]
async fn pending_stays_or_ends_in_success() {
    let dev = DevFacilitator::start().await;
    dev.fail("settle", "pending").await;
    for _ in 0..2 {
        let (_, reply) = ask(&dev, "/settle", &payment(1)).await;
        assert_eq!(code(&reply), "settlement_pending");
        assert!(B256::parse(reply["transaction"].as_str().unwrap()).is_ok());
    }
    assert_eq!(dev.settled_payments().await.len(), 0);
    dev.fail("settle", "pending_then_success").await;
    let (_, first) = ask(&dev, "/settle", &payment(1)).await;
    let (_, second) = ask(&dev, "/settle", &payment(1)).await;
    assert_eq!((code(&first), &second["success"]), ("settlement_pending", &json!(true)));
    assert_eq!(first["transaction"], second["transaction"]);
}

#[tokio::test]
async fn a_slow_answer_is_late_and_right() {
    let dev = DevFacilitator::start().await;
    dev.fail("verify", "slow:150").await;
    let began = std::time::Instant::now();
    assert_eq!(ask(&dev, "/verify", &payment(1)).await.1["isValid"], true);
    assert!(began.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_failure_can_be_counted_replaced_and_reset() {
    let dev = DevFacilitator::start().await;
    dev.fail_next("verify", "http_500", 2).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(dev.post("/verify", &payment(1)).await.unwrap().0);
    }
    assert_eq!(statuses, [500, 500, 200]);
    dev.fail_then("verify", "http_500", 1, "http_429").await;
    for status in [500, 429, 429] {
        assert_eq!(dev.post("/verify", &payment(1)).await.unwrap().0, status);
    }
    dev.fail("verify", "http_500").await;
    dev.fail("verify", "none").await;
    assert_eq!(dev.post("/verify", &payment(1)).await.unwrap().0, 200);
    dev.fail("settle", "http_500").await;
    dev.post("/dev/reset", &json!({})).await.unwrap();
    assert_eq!(dev.post("/settle", &payment(1)).await.unwrap().0, 200);
    assert_eq!(dev.record().await["total"], 1);
}

#[tokio::test]
async fn an_unknown_mode_changes_nothing_and_names_the_known_ones() {
    let dev = DevFacilitator::start().await;
    for what in [json!({ "verify": "http_500", "settle": "explode" }), json!({ "verify": "pending" })] {
        let (status, reply) = ask(&dev, "/dev/fail", &what).await;
        assert_eq!(status, 400, "{reply}");
    }
    let (_, reply) = ask(&dev, "/dev/fail", &json!({ "settle": "explode" })).await;
    assert!(reply["error"].as_str().unwrap().contains("pending_then_success"), "{reply}");
    let (status, _) = ask(&dev, "/dev/fail", &json!({ "speling": "none" })).await;
    assert_eq!(status, 400);
    assert_eq!(dev.post("/verify", &payment(1)).await.unwrap().0, 200);
}
