use serde_json::{Value, json};

use super::*;
use crate::evm::{Amount, TransferMethod};
use crate::protocol::decode_base64;
use crate::protocol::fixtures::{option, usdc};
use crate::terms::Flow;

const URL: &str = "https://api.example.com/premium?a=1";

fn challenge(options: &[PaymentOption], settings: &Settings) -> Challenge {
    Challenge::prepare(&options.iter().collect::<Vec<_>>(), "Weather \"now\" </script>", settings, false)
}

fn header(challenge: &Challenge, url: &str, failure: Option<&PaymentFailure>) -> Value {
    let value = challenge.header_value(url, failure);
    assert!(value.len().is_multiple_of(4) && !value.contains('\n'));
    serde_json::from_slice(&decode_base64(value.as_bytes()).unwrap()).unwrap()
}

fn body(challenge: &Challenge, url: &str, failure: Option<&PaymentFailure>) -> Value {
    serde_json::from_slice(&challenge.body(url, failure)).unwrap()
}

fn failure() -> PaymentFailure {
    PaymentFailure {
        error: "Payment verification failed: expired".into(),
        reason: "payment_invalid".into(),
        detail: Some("it \"ended\"".into()),
        hint: None,
    }
}

fn usdc_entry(network: &str) -> Value {
    json!({
        "scheme": "exact",
        "network": network,
        "amount": "1000",
        "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
        "maxTimeoutSeconds": 60,
        "extra": { "name": "USDC", "version": "2", "assetTransferMethod": "eip3009" },
    })
}

#[test]
fn the_header_is_the_v2_challenge_with_caip_2_entries_only() {
    let challenge = challenge(&[usdc()], &Settings::default());
    let expected = json!({
        "x402Version": 2,
        "error": "Payment required",
        "resource": {
            "url": URL,
            "description": "Weather \"now\" </script>",
            "mimeType": "application/json",
        },
        "accepts": [usdc_entry("eip155:84532")],
    });
    assert_eq!(header(&challenge, URL, None), expected);
}

#[test]
fn where_there_is_a_ledger_a_buyer_may_name_its_purchase() {
    let usdc = usdc();
    let challenge = Challenge::prepare(&[&usdc], "x", &Settings::default(), true);
    for text in [header(&challenge, URL, None), body(&challenge, URL, Some(&failure()))] {
        let declared = &text["extensions"]["payment-identifier"];
        assert_eq!(declared["info"], json!({ "required": false }));
        assert_eq!(declared["schema"]["properties"]["id"]["pattern"], "^[a-zA-Z0-9_-]+$");
    }
}

#[test]
fn a_v2_body_follows_each_entry_with_a_copy_under_the_plain_name() {
    let v2 = Settings { body: BodyVersion::V2, ..Settings::default() };
    let challenge = challenge(&[usdc(), option("arbitrum", "USDC")], &v2);
    let networks: Vec<Value> = body(&challenge, URL, None)["accepts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["network"].clone())
        .collect();
    assert_eq!(networks, ["eip155:84532", "base-sepolia", "eip155:42161", "arbitrum-one"]);
    let plain = self::challenge(&[usdc()], &Settings { legacy_networks: false, ..v2 });
    assert_eq!(body(&plain, URL, None)["accepts"], json!([usdc_entry("eip155:84532")]));
    assert_eq!(body(&plain, URL, None), header(&plain, URL, None));
}

#[test]
fn urls_of_every_length_keep_the_prepared_base64_aligned() {
    let challenge = challenge(&[usdc()], &Settings::default());
    for length in 0..12 {
        let url = format!("https://a/{}", "x".repeat(length));
        assert_eq!(header(&challenge, &url, None)["resource"]["url"], url);
        let header_len = challenge.header_value(&url, None).len();
        assert_eq!(header_len, challenge.header_len(url.len()), "{length}");
    }
}

#[test]
fn a_url_cannot_break_out_of_its_place() {
    for settings in [Settings::default(), Settings { body: BodyVersion::V2, ..Settings::default() }] {
        let challenge = challenge(&[usdc()], &settings);
        for url in ["https://a/\",\"accepts\":[]}", "https://a/\\", "https://a/\u{1}\u{0}\n", "https://a/é€𝄞"]
        {
            for failure in [None, Some(failure())] {
                assert_eq!(header(&challenge, url, failure.as_ref())["resource"]["url"], url);
                let body = body(&challenge, url, failure.as_ref());
                assert_eq!(body["resource"]["url"], url);
                if settings.body == BodyVersion::V1 {
                    assert_eq!(body["accepts"][0]["resource"], url);
                }
            }
        }
    }
}

#[test]
fn a_url_beyond_the_bound_loses_its_query_or_its_end() {
    let challenge = challenge(&[usdc()], &Settings::default());
    let query = format!("https://a/b?{}", "q".repeat(5000));
    assert_eq!(header(&challenge, &query, None)["resource"]["url"], "https://a/b");
    let path = format!("https://a/{}€", "p".repeat(MAX_URL - 11));
    let found = header(&challenge, &path, None)["resource"]["url"].as_str().unwrap().to_owned();
    assert_eq!(found.len(), MAX_URL - 1);
    assert!(challenge.header_value(&query, None).len() <= challenge.header_len(usize::MAX));
}

#[test]
fn a_failed_attempt_is_told_in_error_and_extension() {
    let v2 = Settings { body: BodyVersion::V2, ..Settings::default() };
    let (challenge, v2) = (challenge(&[usdc()], &Settings::default()), challenge(&[usdc()], &v2));
    let version = |value: &Value| value["x402Version"].as_u64();
    assert_eq!(version(&body(&challenge, URL, Some(&failure()))), Some(1));
    assert_eq!(version(&body(&v2, URL, Some(&failure()))), Some(2));
    for value in [
        body(&v2, URL, Some(&failure())),
        header(&challenge, URL, Some(&failure())),
        body(&challenge, URL, Some(&failure())),
    ] {
        assert_eq!(value["error"], "Payment verification failed: expired");
        let told = json!({ "paymentFailure": { "reason": "payment_invalid", "detail": "it \"ended\"" } });
        assert_eq!(value["extensions"], told);
        assert_eq!(value["resource"]["url"], URL);
    }
}

#[test]
fn gas_sponsoring_is_offered_where_an_asset_takes_permits() {
    let challenge = challenge(&[usdc(), option("base-sepolia", "OBOL")], &Settings::default());
    let value = header(&challenge, URL, None);
    let extension = &value["extensions"]["eip2612GasSponsoring"];
    assert_eq!(extension["info"]["version"], "1");
    assert_eq!(extension["schema"]["required"].as_array().unwrap().len(), 8);
    assert_eq!(extension["schema"]["properties"]["version"]["pattern"], r"^[0-9]+([.][0-9]+)*$");
    assert_eq!(value["accepts"][1]["extra"]["assetTransferMethod"], "permit2");
    let failed = header(&challenge, URL, Some(&failure()));
    assert_eq!(failed["extensions"].as_object().unwrap().len(), 2);
}

#[test]
fn a_public_facilitator_is_named() {
    let settings = Settings { public_facilitator: Some("https://f.example".into()), ..Settings::default() };
    assert_eq!(header(&challenge(&[usdc()], &settings), URL, None)["facilitator"], "https://f.example");
}

#[test]
fn the_v1_body_lists_what_v1_can_express() {
    let settings = Settings::default();
    let upfront = PaymentOption { flow: Flow::Upfront, ..usdc() };
    let permit2 = PaymentOption { transfer_method: TransferMethod::Permit2, ..usdc() };
    let other = PaymentOption { amount: Amount::from_u64(5), ..option("base", "USDC") };
    let options = [usdc(), upfront, permit2, option("arbitrum", "USDC"), other];
    let body = body(&challenge(&options, &settings), URL, None);
    assert_eq!(body["x402Version"], 1);
    assert_eq!(body["error"], "Payment required");
    assert_eq!(body["accepts"].as_array().unwrap().len(), 2);
    assert_eq!(
        body["accepts"][0],
        json!({
            "scheme": "exact",
            "network": "base-sepolia",
            "maxAmountRequired": "1000",
            "resource": URL,
            "description": "Weather \"now\" </script>",
            "mimeType": "application/json",
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "maxTimeoutSeconds": 60,
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "extra": { "name": "USDC", "version": "2" },
        })
    );
    assert_eq!(body["accepts"][1]["network"], "base");
    assert_eq!(body["accepts"][1]["resource"], URL);
}

#[test]
fn a_route_v1_cannot_express_keeps_the_v2_body() {
    let settings = Settings::default();
    let body = body(&challenge(&[option("arbitrum", "USDC")], &settings), URL, None);
    assert_eq!(body["x402Version"], 2);
}

#[test]
fn the_page_names_price_asset_and_network_and_escapes_the_operators_text() {
    let challenge = challenge(&[usdc(), option("ethereum", "OBOL")], &Settings::default());
    let page = core::str::from_utf8(challenge.html()).unwrap();
    assert!(page.contains("<td>0.001 USDC</td><td>base-sepolia</td>"), "{page}");
    assert!(page.contains("<td>0.000000000000001 OBOL</td><td>ethereum</td>"), "{page}");
    assert!(page.contains("Weather &quot;now&quot; &lt;/script&gt;"), "{page}");
    assert!(!page.contains("<script"), "{page}");
}
