use super::*;
use crate::protocol::encode_base64;
use crate::protocol::fixtures::{decode, usdc, v1, v2};

const MAX: usize = 48 * 1024;

fn decode_text(text: &str, signature_header: bool) -> Result<Payment, PaymentError> {
    Payment::decode(encode_base64(text.as_bytes()).as_bytes(), signature_header, MAX)
}

fn error(text: &str) -> PaymentError {
    decode_text(text, false).unwrap_err()
}

fn unusable(payment: &serde_json::Value) -> String {
    match decode(payment).proof {
        Proof::Unusable(reason) => reason,
        other => panic!("usable: {other:?}"),
    }
}

#[test]
fn the_payload_decides_the_version_in_x_payment() {
    assert_eq!(decode(&v2(&usdc())).version, Version::V2);
    assert_eq!(decode(&v1(&usdc())).version, Version::V1);
}

#[test]
fn payment_signature_carries_version_2_only() {
    let text = v1(&usdc()).to_string();
    assert_eq!(decode_text(&text, true).unwrap_err(), PaymentError::Version);
    assert!(decode_text(&v2(&usdc()).to_string(), true).is_ok());
}

#[test]
fn the_cap_counts_encoded_bytes_and_comes_first() {
    let error = Payment::decode(&[b'%'; 101], false, 100).unwrap_err();
    assert_eq!(error, PaymentError::TooLong { found: 101, limit: 100 });
    assert_eq!(Payment::decode(&[b'%'; 100], false, 100).unwrap_err(), PaymentError::NotBase64);
}

#[test]
fn versions_are_the_numbers_1_and_2() {
    for version in ["3", "0", "\"2\"", "2.0", "null", "[2]", "99999999999999999999999"] {
        let text = format!("{{\"x402Version\":{version}}}");
        assert_eq!(error(&text), PaymentError::Version, "{version}");
    }
    assert_eq!(error("{}"), PaymentError::Version);
    assert_eq!(error("{}").code(), "invalid_x402_version");
}

#[test]
fn what_is_not_one_object_is_no_payment() {
    for text in ["", "[]", "null", "2", "{", "{}{}", "{}x", "\"{}\"", "[2,{},{}]", " [] "] {
        let error = error(text);
        assert!(matches!(error, PaymentError::NotJson(_)), "{text:?}: {error}");
        assert_eq!(error.code(), "invalid_payload");
    }
}

#[test]
fn deep_json_is_refused_before_it_is_parsed() {
    let deep = format!("{{\"x402Version\":2,\"extensions\":{}{}}}", "[".repeat(9000), "]".repeat(9000));
    assert!(matches!(error(&deep), PaymentError::NotJson(_)));
}

#[test]
fn a_member_that_is_read_may_appear_once() {
    let text = v2(&usdc()).to_string();
    let twice = text.replacen('{', "{\"payload\":{},", 1);
    assert!(matches!(error(&twice), PaymentError::NotJson(_)));
    let amount = text.replacen("\"amount\":", "\"amount\":\"1\",\"amount\":", 1);
    assert!(matches!(error(&amount), PaymentError::Shape(_)));
    let value = text.replacen("\"value\":", "\"value\":\"1\",\"value\":", 1);
    let Proof::Unusable(reason) = decode_text(&value, false).unwrap().proof else { panic!("usable") };
    assert!(reason.contains("duplicate field `value`"), "{reason}");
    let unread = text.replacen('{', "{\"other\":1,\"other\":2,", 1);
    assert!(decode_text(&unread, false).is_ok());
}

#[test]
fn arrays_do_not_pass_for_objects() {
    let mut payment = v2(&usdc());
    payment["accepted"] = serde_json::json!(["exact", "eip155:84532", "1000", "0x", "0x", null]);
    assert!(matches!(error(&payment.to_string()), PaymentError::Shape(_)));
    let mut payment = v2(&usdc());
    payment["payload"]["authorization"] = serde_json::json!(["a", "b", "c", "d", "e", "f"]);
    assert_eq!(unusable(&payment), "authorization: not an object");
}

#[test]
fn missing_and_mistyped_top_level_members_are_named() {
    for (member, value) in
        [("accepted", None), ("payload", None), ("payload", Some("1")), ("extensions", Some("[]"))]
    {
        let mut payment = v2(&usdc());
        payment[member] = value.map_or(serde_json::Value::Null, |text| serde_json::from_str(text).unwrap());
        let PaymentError::Shape(reason) = error(&payment.to_string()) else { panic!("{member}") };
        assert!(reason.starts_with(member), "{reason}");
    }
    let mut payment = v1(&usdc());
    payment["network"] = 84532.into();
    assert_eq!(error(&payment.to_string()), PaymentError::Shape("network must be a string".into()));
}

#[test]
fn an_amount_in_accepted_is_a_string() {
    let mut payment = v2(&usdc());
    payment["accepted"]["amount"] = 1000.into();
    assert!(matches!(error(&payment.to_string()), PaymentError::Shape(_)));
}

#[test]
fn a_resource_is_kept_as_object_and_dropped_as_text() {
    let mut payment = v2(&usdc());
    assert_eq!(decode(&payment).resource.unwrap().get(), r#"{"url":"https://api.example.com/x"}"#);
    payment["resource"] = "https://api.example.com/x".into();
    assert!(decode(&payment).resource.is_none());
    payment["resource"] = serde_json::Value::Null;
    assert!(decode(&payment).resource.is_none());
    payment["resource"] = 1.into();
    assert!(matches!(error(&payment.to_string()), PaymentError::Shape(_)));
}

#[test]
fn a_broken_payload_is_a_payment_that_cannot_be_used() {
    for (member, value, reason) in [
        ("nonce", "0x1234", "authorization.nonce has 4 hex digits after 0x, needs 64"),
        ("value", "1e4", "authorization.value is not a decimal integer"),
        ("from", "f39F", "authorization.from must start with 0x"),
    ] {
        let mut payment = v2(&usdc());
        payment["payload"]["authorization"][member] = value.into();
        assert_eq!(unusable(&payment), reason);
    }
    let mut payment = v2(&usdc());
    payment["payload"]["signature"] = "0x123".into();
    assert_eq!(unusable(&payment), "payload.signature is not 0x-hex");
    payment["payload"] = serde_json::json!({ "transaction": "AAAA" });
    assert_eq!(unusable(&payment), "payload holds neither authorization nor permit2Authorization");
    assert_eq!(decode(&payment).payer(), None);
}

#[test]
fn a_payload_with_two_kinds_of_proof_is_refused() {
    let mut payment = v2(&usdc());
    payment["payload"]["permit2Authorization"] = serde_json::json!({});
    assert_eq!(unusable(&payment), "payload holds authorization and permit2Authorization");
}

#[test]
fn escaped_text_reads_like_plain_text() {
    let text = v2(&usdc()).to_string().replace("\"exact\"", "\"\\u0065xact\"");
    assert_eq!(decode_text(&text, false).unwrap().accepted.scheme, "exact");
}

#[test]
fn a_purchase_is_named_by_the_identifier_of_the_extension() {
    let named = |extensions: serde_json::Value| {
        let mut payment = v2(&usdc());
        payment["extensions"] = extensions;
        decode(&payment).identifier()
    };
    let with = |id: serde_json::Value| {
        named(serde_json::json!({ "payment-identifier": { "info": { "required": false, "id": id } } }))
    };
    for good in ["pay_7d5d747be160e280504c099d984bcfe0", "0123456789abcdef", &"-".repeat(128)] {
        assert_eq!(with(good.into()), Ok(Some(good.to_owned())));
    }
    for broken in
        ["", "0123456789abcde", &"a".repeat(129), "0123456789abcde!", "0123456789abcdéf", "0123456789 abcdef"]
    {
        assert_eq!(with(broken.into()), Err(NoIdentifier), "{broken}");
    }
    assert_eq!(with(1_234_567_890_123_456_u64.into()), Err(NoIdentifier));
    for broken in
        [serde_json::json!(1), serde_json::json!({ "info": "pay_7d5d747be160e280504c099d984bcfe0" })]
    {
        assert_eq!(named(serde_json::json!({ "payment-identifier": broken })), Err(NoIdentifier));
    }
    for nothing in [serde_json::json!({}), serde_json::json!({ "info": { "required": false } })] {
        assert_eq!(named(serde_json::json!({ "payment-identifier": nothing })), Ok(None));
    }
    assert_eq!(named(serde_json::json!({})), Ok(None));
    assert_eq!(decode(&v1(&usdc())).identifier(), Ok(None));
}
