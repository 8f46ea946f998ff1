//! Invalid, absurd, odd and large payments.

use crate::common::{Payment, Request};
use farebox_core::protocol::encode_base64;
use serde_json::{Value, json};

use crate::hostile_input::{Scene, at_upstream};

fn payment_header(value: impl AsRef<[u8]>) -> Request {
    Request::get("/paid/a").header("payment-signature", value)
}

fn encoded(json: &str) -> Request {
    payment_header(encode_base64(json.as_bytes()))
}

/// A header that is not a payment: 400, without a call to the facilitator.
pub(crate) async fn what_is_no_payment_is_refused_as_such(scene: &Scene) {
    let good = scene.pay().await;
    let header = good.header();
    let json = good.json.to_string();
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let with_extensions =
        |value: &str| json.replacen('{', &format!("{{\"extensions\":{{\"x\":{value}}},"), 1);
    let duplicated = |member: &str, value: &str| json.replacen('{', &format!("{{\"{member}\":{value},"), 1);
    let mut requests = vec![
        payment_header("!!!!"),
        payment_header("e30"),
        payment_header("e30="),
        payment_header("="),
        payment_header("bnVsbA=="),
        payment_header(encode_base64(b"[]")),
        payment_header(encode_base64(b"\"text\"")),
        payment_header(encode_base64(b"{\"x402Version\":2")),
        payment_header(encode_base64(b"\xff\xfe")),
        payment_header(header.replace('A', "-").replace('B', "_")),
        payment_header(format!("{header}\u{a0}")),
        payment_header(format!("{} {}", &header[..40], &header[40..])),
        payment_header(format!("{header},{header}")),
        payment_header(format!("{header}====")),
        payment_header(&header[..header.len() - 7]),
        payment_header(format!("Bearer {header}")),
        payment_header(&header).header("payment-signature", &header),
        payment_header(&header).header("PAYMENT-SIGNATURE", "e30="),
        Request::get("/paid/a").header("x-payment", &header).header("X-PAYMENT", &header),
        encoded(&format!("{{\"x402Version\":2,\"a\":{}}}", nested(1000))),
        encoded(&nested(18_000)),
        encoded(&"[".repeat(36_000)),
        encoded(&"{\"a\":".repeat(7_000)),
        encoded(&with_extensions(&nested(40))),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":1e999")),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":2.0")),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":18446744073709551618")),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":-2")),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":\"2\"")),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":3")),
        encoded(&json.replace("\"x402Version\":2", "\"x402Version\":1")),
        encoded(&duplicated("x402Version", "2")),
        encoded(&duplicated("payload", "{}")),
        encoded(&duplicated("accepted", "{}")),
        encoded(
            &json.replace("\"accepted\":{", "\"accepted\":[{").replace("},\"payload\"", "}],\"payload\""),
        ),
    ];
    requests.push(payment_header("A".repeat(49_153)));
    for request in &requests {
        let answer = scene.assert_refused(request, &[400]);
        let body = answer.json();
        assert_eq!(body["reason"], "invalid_payment_header", "{}", answer.summary());
        assert_eq!(body["retriable"], false);
        assert!(body["error"].as_str().unwrap().starts_with("Invalid payment header"), "{body}");
        assert!(!answer.challenges());
    }
    for empty in ["", " ", "\t  "] {
        let answer = scene.assert_refused(&payment_header(empty), &[402]);
        let challenge = answer.decoded("payment-required");
        assert!(challenge["extensions"]["paymentFailure"].is_null(), "an empty header is none: {challenge}");
    }
    assert_eq!(scene.facilitator.operations().await, [""; 0], "the facilitator was asked");
}

/// A payment with absurd contents: 402 with new terms, without a call to the facilitator.
pub(crate) async fn absurd_payments_are_refused_with_new_terms(scene: &Scene) {
    let good = scene.pay().await;
    let json = good.json.to_string();
    let huge = "9".repeat(5_000);
    let over = "115792089237316195423570985008687907853269984665640564039457584007913129639936";
    let mut texts = Vec::new();
    for member in ["value", "validAfter", "validBefore"] {
        for value in [&*huge, over, "-1", "1e400", "0x10", "1.0", " 1", "", "\u{661}"] {
            let mut payment = good.json.clone();
            payment["payload"]["authorization"][member] = json!(value);
            texts.push(payment.to_string());
        }
        let mut payment = good.json.clone();
        payment["payload"]["authorization"][member] = json!("MARK");
        let text = payment.to_string();
        for value in [&*huge, "1e400", "1e2", "-1", "1.5", "null", "true", "[]", "{}"] {
            texts.push(text.replace("\"MARK\"", value));
        }
    }
    for (pointer, values) in [
        ("/accepted/amount", vec![json!(huge), json!("1e3"), json!("0999"), json!("0"), json!("")]),
        (
            "/accepted/network",
            vec![json!("eip155:1"), json!("eip155:9999999999999999999999"), json!("solana:x")],
        ),
        ("/accepted/scheme", vec![json!("upto"), json!(""), json!("EXACT ")]),
        ("/accepted/payTo", vec![json!("0x"), json!("0x0000000000000000000000000000000000000000")]),
        (
            "/payload/authorization/nonce",
            vec![json!("0x"), json!("0x00"), json!("f".repeat(66)), json!(huge)],
        ),
        (
            "/payload/authorization/from",
            vec![json!("0x"), json!("0x0000000000000000000000000000000000000000")],
        ),
        (
            "/payload/signature",
            vec![
                json!("0x0"),
                json!(format!("0x{}", "00".repeat(65))),
                json!(format!("0x{}", "ff".repeat(65))),
                json!("zz"),
                json!(7),
            ],
        ),
        ("/payload/authorization", vec![json!(null), json!([]), json!("")]),
        ("/payload", vec![json!({}), json!({ "authorization": {} })]),
    ] {
        for value in values {
            let mut payment = good.json.clone();
            *payment.pointer_mut(pointer).unwrap() = value;
            texts.push(payment.to_string());
        }
    }
    // A repeated member, first with the signed value and then with another one, because some readers
    // take the last one.
    for (member, value) in [("value", "\"1\""), ("to", "\"0x00\""), ("nonce", "\"0x00\"")] {
        texts
            .push(json.replace("\"authorization\":{", &format!("\"authorization\":{{\"{member}\":{value},")));
    }
    texts.push(json.replace("\"accepted\":{", "\"accepted\":{\"amount\":\"1\","));
    for text in &texts {
        let answer = scene.assert_refused(&encoded(text), &[402, 400]);
        let short: String = text.chars().take(400).collect();
        assert_eq!(answer.challenges(), answer.status == 402, "{short}");
        let reason = match answer.status {
            402 => answer.decoded("payment-required")["extensions"]["paymentFailure"]["reason"].clone(),
            _ => answer.json()["reason"].clone(),
        };
        let known = ["invalid_payment_header", "no_matching_requirement", "payment_invalid"];
        assert!(known.iter().any(|reason_of| reason == *reason_of), "{reason}: {short}");
    }
    assert_eq!(scene.facilitator.operations().await, [""; 0], "the facilitator was asked");
}

/// The facilitator refuses a signature that only a contract could check.
pub(crate) async fn odd_signatures_buy_nothing(scene: &Scene) {
    let good = scene.pay().await;
    let undeployed = format!("0x{}", "6492".repeat(16));
    let lengths = [0, 1, 64, 66, 10_000].map(|bytes| format!("0x{}", "01".repeat(bytes)));
    for signature in lengths.into_iter().chain([undeployed]) {
        let mut payment = good.json.clone();
        payment["payload"]["signature"] = json!(signature);
        let answer = scene.assert_refused(&encoded(&payment.to_string()), &[402]);
        let failure = &answer.decoded("payment-required")["extensions"]["paymentFailure"];
        assert_eq!(failure["reason"], "payment_invalid", "{signature}");
    }
    assert_eq!(scene.facilitator.operations().await, ["verify"; 6]);
    assert_eq!(scene.facilitator.settled(&good.nonce).await, 0);
}

/// A good payment, grown by an extension until its header has exactly so many bytes.
fn grown(payment: &Payment, bytes: usize) -> Payment {
    let mut json = payment.json.clone();
    let size = |json: &Value| encode_base64(json.to_string().as_bytes()).trim_end_matches('=').len();
    json["extensions"] = json!({ "padding": { "info": "" } });
    let missing = (bytes - size(&json)) * 3 / 4;
    json["extensions"]["padding"]["info"] = json!("x".repeat(missing));
    let header = encode_base64(json.to_string().as_bytes());
    assert!(header.len() <= bytes && header.len() + 4 > bytes, "{} of {bytes}", header.len());
    Payment { json, nonce: payment.nonce.clone() }
}

pub(crate) async fn the_largest_accepted_payment_passes_and_more_is_refused(
    scene: &Scene,
    cap: usize,
    headers: usize,
) {
    let path = "/paid/a";
    let largest = grown(&scene.pay().await, cap);
    let answer = largest.send(&scene.stack, path).await;
    assert_eq!(answer.status, 200, "{}", answer.summary());
    assert_eq!(answer.receipt()["success"], true);
    assert_eq!(scene.facilitator.settled(&largest.nonce).await, 1);
    let bodies = scene.facilitator.bodies("settle").await;
    assert!(bodies.last().unwrap().len() > cap * 7 / 10, "the facilitator was sent all of it");
    assert_eq!(at_upstream(&answer.json(), "payment-signature"), [""; 0]);

    let larger = grown(&scene.pay().await, cap + 8);
    scene.assert_refused(&larger.request(path), &[400]);
    assert_eq!(scene.facilitator.settled(&larger.nonce).await, 0);
    scene.assert_refused(&payment_header("A".repeat(headers - 1000)), &[400]);
    scene.assert_refused(&payment_header("A".repeat(headers + 1000)), &[431]);
    let large = Request::get(path).header("x-large", "x".repeat(headers + 4000));
    scene.assert_refused(&large, &[431]);
    let mut many = Request::get(path);
    for number in 0..400 {
        many = many.header(format!("x-{number}"), "v".repeat(10));
    }
    scene.assert_refused(&many, &[402, 431]);
    scene.assert_refused(&Request::get(format!("/paid/{}", "a".repeat(headers + 4000))), &[431]);
}
