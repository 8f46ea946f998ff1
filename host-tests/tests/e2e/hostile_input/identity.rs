//! Only the filter can name the payer, and a payment header has one name and does not reach an upstream.

use crate::common::Request;

use crate::hostile_input::{Scene, at_upstream};

pub(crate) async fn nobody_can_say_who_paid(scene: &Scene, underscores: bool) {
    const LIE: &str = "0x1111111111111111111111111111111111111111";
    let mut names = vec![
        "X-Payment-Payer",
        "x-payment-payer",
        "X-PAYMENT-PAYER",
        "X.Payment.Payer",
        "x-payment.payer",
        "X-Verified-Wallet",
        "X-Obol-Upstream-Url",
        "X-Obol-Offer",
        "X-Obol-Pay-To",
        "X-Obol-Job-Ttl",
        "X-Obol-Result-Visibility",
        "X-Obol-Public-Prefix",
        "X-Obol-Upstream-Auth",
        "X-Obol-Broker-Sig",
        "X.Verified.Wallet",
    ];
    let spelled = ["X_Payment_Payer", "x_payment-payer", "X_VERIFIED_WALLET", "X-Payment_Payer"];
    if underscores {
        names.extend(spelled);
    } else {
        for name in spelled {
            scene.assert_refused(&Request::get("/free/a").header(name, LIE), &[400]);
        }
    }
    let fold = |name: &str| name.to_lowercase().replace(['_', '.'], "-");
    for name in &names {
        for path in ["/free/a", "/elsewhere/a"] {
            let echo = scene.served(&Request::get(path).header(name, LIE).header(name, "second"));
            assert_eq!(at_upstream(&echo, &fold(name)), [""; 0], "{name} on {path}");
        }
    }
    let payment = scene.pay().await;
    let mut request = payment.request("/paid/a");
    for name in &names {
        request = request.header(name, LIE);
    }
    request = request
        .header("X-Payment", "bm90IHRoaXMgb25l")
        .header("Connection", "keep-alive, x-payment-payer")
        .header("Payment-Response", "Zm9yZ2Vk")
        .header("Payment-Required", "Zm9yZ2Vk")
        .header("Settlement-Overrides", "{\"amount\":\"0\"}")
        .header("Extension-Responses", "e30=")
        .header("Origin", "https://elsewhere.example")
        .header("Sec-Fetch-Site", "cross-site");
    let echo = scene.served(&request);
    let payer = payment.json["payload"]["authorization"]["from"].as_str().unwrap().to_owned();
    assert_eq!(at_upstream(&echo, "x-payment-payer"), [payer], "the one who signed, once");
    assert!(!echo.to_string().contains(LIE), "{echo}");
    for name in [
        "payment-signature",
        "x-payment",
        "payment-required",
        "payment-response",
        "x-payment-response",
        "settlement-overrides",
        "extension-responses",
        "origin",
        "sec-fetch-site",
        "x-verified-wallet",
    ] {
        assert_eq!(at_upstream(&echo, name), [""; 0], "{name}");
    }
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
}

/// A payment is worth money until it is used, so no upstream of a free route gets it, and no other
/// spelling of its header buys anything.
pub(crate) async fn payments_do_not_leak_and_have_one_name(scene: &Scene, underscores: bool) {
    let payment = scene.pay().await;
    let header = payment.header();
    for name in ["Payment-Signature", "X-PAYMENT", "x.payment", "payment.signature"] {
        let echo = scene.served(&Request::get("/free/a").header(name, &header));
        assert!(!echo.to_string().contains(&header), "{name} reached the upstream");
    }
    for name in ["payment.signature", "x.payment", "x-payment-signature", "payment", "authorization"] {
        scene.assert_refused(&Request::get("/paid/a").header(name, &header), &[402]);
    }
    for name in ["payment_signature", "x_payment"] {
        if underscores {
            let echo = scene.served(&Request::get("/free/a").header(name, &header));
            assert!(!echo.to_string().contains(&header), "{name} reached the upstream");
        }
        let refused = if underscores { 402 } else { 400 };
        scene.assert_refused(&Request::get("/paid/a").header(name, &header), &[refused]);
    }
    // After all that the payment is still valid, and buys once.
    assert_eq!(payment.send(&scene.stack, "/paid/a").await.status, 200);
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
}
