//! Public clients pay, the facilitator gets the operator's requirement, and the bought answer arrives
//! unchanged.

use std::time::{Duration, Instant};

use farebox_testkit::client::{Bought, Client, Dialect, Purchase};
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Stack};
use farebox_testkit::wallet::{Wallet, header_value};
use serde_json::{Value, json};

use crate::support::{Answer, Buyer, PAYMENT, decode};

const WALLET: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
routes:
  - { pattern: /basic/*, price: 0.001, offerNamespace: shop, offerName: basic }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_client_pays_by_version_2_in_either_header() {
    let stack = Stack::start(Options::priced(PRICING)).await.unwrap();
    let client = Client::install().unwrap();
    for (dialect, header) in [(Dialect::V2, "PAYMENT-SIGNATURE"), (Dialect::V2_IN_X_PAYMENT, "X-PAYMENT")] {
        let bought = buy(&client, &stack, dialect).await;
        let payment = bought.payment.as_ref().unwrap();
        assert_eq!(payment.name, header);
        assert_eq!(decode(&payment.value)["x402Version"], 2);
        receipts_are_of_the_settlement(&bought, &stack, "eip155:84532").await;
        let ours = &bought.challenge["accepts"][0];
        assert_eq!((&ours["payTo"], &ours["amount"]), (&json!(WALLET), &json!("1000")));
        calls_carry(&stack, ours, &decode(&payment.value)).await;
    }
    assert_eq!(stack.origin().unwrap().hits().of("/basic/1"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_1_clients_pay_by_the_body() {
    let stack = Stack::start(Options::priced(PRICING)).await.unwrap();
    let body = Answer::to(stack.get("/basic/1")).await.json();
    assert_eq!(body["x402Version"], 1);

    // The version 2 library in its older modes, and the published version 1 library.
    let client = Client::install().unwrap();
    for dialect in [Dialect::V1, Dialect::X402_FETCH] {
        let bought = buy(&client, &stack, dialect).await;
        let payment = bought.payment.as_ref().unwrap();
        assert_eq!(payment.name, "X-PAYMENT", "{dialect:?}");
        let sent = decode(&payment.value);
        assert_eq!((&sent["x402Version"], &sent["network"]), (&json!(1), &json!("base-sepolia")));
        receipts_are_of_the_settlement(&bought, &stack, "base-sepolia").await;
        let ours = &body["accepts"][0];
        assert_eq!((&ours["payTo"], &ours["maxAmountRequired"]), (&json!(WALLET), &json!("1000")));
        calls_carry(&stack, ours, &sent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_facilitator_judges_our_requirement_and_streams_and_bodies_pass_untouched() {
    let stack = Stack::start(Options::priced(PRICING)).await.unwrap();
    let buyer = Buyer::new(&stack, Wallet::development());
    let ours = buyer.offers("/basic/1").await.remove(0);

    // Changes in the client's copy of the terms have no effect if the signed part is unchanged.
    let spoiled = [
        ("/accepted/maxTimeoutSeconds", json!(86_400)),
        ("/accepted/extra", json!({ "name": "Another Coin", "version": "9", "feePayer": "0xbb" })),
        ("/accepted/extra", json!({})),
        ("/accepted/payTo", json!(WALLET.to_lowercase())),
        ("/accepted/network", json!("base-sepolia")),
    ];
    for (place, value) in spoiled {
        let mut payment = buyer.payment(&ours);
        *payment.pointer_mut(place).unwrap() = value;
        let answer = buyer.pay("/basic/1", &payment).await;
        assert_eq!((answer.status, answer.receipt()), (200, Some(true)), "{place}");
        calls_carry(&stack, &ours, &payment).await;
    }

    events_arrive_one_by_one(&buyer, &ours).await;

    let answer = buyer.pay("/basic/large", &buyer.payment(&ours)).await;
    assert_eq!((answer.status, answer.receipt(), answer.whole), (200, Some(true), true));
    assert_eq!(answer.header("content-length"), Some("20000000"));
    let is_whole =
        (0..).map(farebox_testkit::origin::pattern).zip(&answer.body).all(|(sent, got)| sent == *got);
    assert!(answer.body.len() == 20_000_000 && is_whole);

    let zipped = buyer.pay("/basic/gzip", &buyer.payment(&ours)).await;
    assert_eq!((zipped.status, zipped.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(zipped.body[..2], [0x1f, 0x8b]);
}

async fn buy(client: &Client, stack: &Stack, dialect: Dialect) -> Bought {
    let purchase = Purchase::of(format!("{}/basic/1", stack.proxy_url())).speaking(dialect);
    let bought = client.buy(&purchase).await.map_err(|error| stack.explain(error)).unwrap();
    assert_eq!(bought.status, 200, "{}", bought.body);
    bought
}

/// Checks that both receipts are there, are equal, and name the facilitator's transaction.
async fn receipts_are_of_the_settlement(bought: &Bought, stack: &Stack, network: &str) {
    let header = |name: &str| bought.headers.get(name).unwrap_or_else(|| panic!("no {name}")).as_str();
    assert_eq!(header("payment-response"), header("x-payment-response"));
    assert_eq!(decode(header("payment-response")), bought.receipt);
    let record = DevFacilitator::of(stack).record().await;
    let transaction = bought.receipt["transaction"].as_str().unwrap();
    let settled = record["settled"].as_array().unwrap();
    let settled = settled.iter().find(|settled| settled["transaction"] == transaction).unwrap();
    assert_eq!((&settled["amount"], &settled["payTo"]), (&json!("1000"), &json!(WALLET)));
    let payer = Wallet::development().address().to_string();
    assert_eq!(
        bought.receipt,
        json!({ "success": true, "transaction": transaction, "network": network, "payer": payer })
    );
}

/// Checks that the last two calls verified and settled this payment under the operator's requirement.
async fn calls_carry(stack: &Stack, ours: &Value, payment: &Value) {
    let record = DevFacilitator::of(stack).record().await;
    let calls = record["calls"].as_array().unwrap();
    let [verify, settle] = &calls[calls.len() - 2..] else { unreachable!() };
    assert_eq!((&verify["operation"], &settle["operation"]), (&json!("verify"), &json!("settle")));
    assert_eq!(verify["body"], settle["body"]);
    let call = &settle["json"];
    assert_eq!(call["paymentRequirements"], *ours);
    assert_eq!(call["x402Version"], payment["x402Version"]);
    assert_eq!(call["paymentPayload"]["x402Version"], payment["x402Version"]);
    let signed = |payment: &Value| {
        let payload = &payment["payload"];
        (payload["signature"].clone(), payload["authorization"]["nonce"].clone())
    };
    assert_eq!(signed(&call["paymentPayload"]), signed(payment));
    if payment["x402Version"] == 2 {
        // `accepted` is the operator's requirement, too, not the client's copy.
        assert_eq!(call["paymentPayload"]["accepted"], *ours);
    }
}

/// Checks that events stream. The origin sends four events 300 ms apart; a proxy that buffers would
/// deliver all at once.
async fn events_arrive_one_by_one(buyer: &Buyer, offer: &Value) {
    let request = buyer.get("/basic/events/4").header(PAYMENT, header_value(&buyer.payment(offer)));
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("payment-response"), "the receipt is there before the events");
    let mut arrivals: Vec<(Instant, String)> = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        arrivals.push((Instant::now(), String::from_utf8(chunk.to_vec()).unwrap()));
    }
    let events: Vec<&str> = arrivals.iter().map(|(_, text)| text.as_str()).collect();
    let expected: Vec<String> = (1..=4).map(|number| format!("data: {{\"event\":{number}}}\n\n")).collect();
    assert_eq!(events, expected);
    let took = arrivals[3].0 - arrivals[0].0;
    assert!(took >= Duration::from_millis(600), "all within {took:?}");
}
