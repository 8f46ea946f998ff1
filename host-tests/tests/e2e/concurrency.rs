//! One payment, one service: across workers, spellings and routes.

use std::collections::BTreeMap;

use farebox_core::protocol::encode_base64;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Stack};
use farebox_testkit::wallet::{Wallet, header_value};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{Answer, Buyer, PAYMENT, X_PAYMENT, connections_by_worker, until};

/// Two routes with the same terms.
const PRICING: &str = r#"
wallet: "0x00000000000000000000000000000000000000a0"
chain: base-sepolia
routes:
  - { pattern: /basic/*, price: 0.001, offerNamespace: shop, offerName: basic }
  - { pattern: /twin/*, price: 0.001, offerNamespace: shop, offerName: twin }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_100_concurrent_uses_of_one_payment_exactly_one_is_served() {
    let stack = Stack::start(Options::priced(PRICING)).await.unwrap();
    let buyer = Buyer::new(&stack, Wallet::development());
    let offer = buyer.offers("/basic/1").await.remove(0);
    let before = connections_by_worker(&stack).await;

    // Slow enough for all to arrive while the first is served.
    let value = header_value(&buyer.payment(&offer));
    let requests = (0..100).map(|_| buyer.get("/basic/slow/1000").header(PAYMENT, &value));
    let answers = all_at_once(requests).await;
    only_one_is_served(&answers, 100);

    let after = connections_by_worker(&stack).await;
    for (before, after) in before.into_iter().zip(after) {
        assert!(after - before >= 10, "{before} to {after} connections: a worker hardly took part");
    }
    assert_eq!(stack.origin().unwrap().hits().total(), 1);
    let facilitator = DevFacilitator::of(&stack);
    assert_eq!((facilitator.calls("verify").await, facilitator.calls("settle").await), (1, 1));
    let refused = [("offer_name", "basic"), ("reason", "payment_replayed")];
    for (family, labels, expected) in [
        ("requests_total", &refused[..1], 101),
        ("payment_required_total", &refused[..1], 1),
        ("charged_requests_total", &refused[..1], 1),
        ("settled_amount_atomic_total", &refused[..1], 1000),
        ("payment_failure_reasons_total", &refused, 99),
        ("replay_rejections_total", &refused[..1], 99),
    ] {
        let name = format!("obol_x402_verifier_{family}");
        until(&format!("{family} is {expected}"), async || {
            stack.metrics().await.unwrap().sum(&name, labels).unwrap() == expected
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_spelling_or_another_route_is_the_same_payment() {
    let stack = Stack::start(Options::priced(PRICING)).await.unwrap();
    let buyer = Buyer::new(&stack, Wallet::development());
    let offer = buyer.offers("/basic/1").await.remove(0);
    let origin = stack.origin().unwrap();

    // The payment is used, then sent again in every other spelling.
    let payment = buyer.payment(&offer);
    assert_eq!(buyer.pay("/basic/1", &payment).await.status, 200);
    for (what, header, value) in spellings(&payment) {
        let answer = Answer::to(buyer.get("/basic/1").header(header, &value)).await;
        assert!([402, 409].contains(&answer.status), "{what}: {}", answer.status);
        assert_eq!(reason(&answer), "payment_replayed", "{what}");
    }
    assert_eq!(origin.hits().total(), 1);

    // Every spelling is valid: each buys with its own payment.
    for place in 0..spellings(&payment).len() {
        let (what, header, value) = spellings(&buyer.payment(&offer)).remove(place);
        let answer = Answer::to(buyer.get("/basic/1").header(header, &value)).await;
        assert_eq!(answer.status, 200, "{what}");
    }
    let served = origin.hits().total();

    // All spellings at once, and on a route with the same terms.
    let spellings = spellings(&buyer.payment(&offer));
    let requests = ["/basic/slow/500", "/twin/slow/500"]
        .into_iter()
        .flat_map(|path| spellings.iter().map(move |(_, header, value)| (path, *header, value)));
    let requests: Vec<_> =
        requests.map(|(path, header, value)| buyer.get(path).header(header, value)).collect();
    let sent = requests.len();
    only_one_is_served(&all_at_once(requests).await, sent);
    assert_eq!(origin.hits().total(), served + 1);
    assert_eq!(DevFacilitator::of(&stack).calls("settle").await, served + 1);

    // A payment of one route is never valid for the other, at any later time.
    let payment = buyer.payment(&offer);
    assert_eq!(buyer.pay("/basic/1", &payment).await.status, 200);
    // While the first answer is under way, the payment is owed for the other route.
    until("its answer is out", async || {
        let elsewhere = buyer.pay("/twin/1", &payment).await;
        assert_eq!((reason(&elsewhere).as_str(), elsewhere.receipt()), ("payment_replayed", None));
        assert!([402, 409].contains(&elsewhere.status), "{}", elsewhere.status);
        elsewhere.status == 402
    })
    .await;
}

async fn all_at_once(requests: impl IntoIterator<Item = reqwest::RequestBuilder>) -> Vec<Answer> {
    requests.into_iter().map(Answer::to).collect::<JoinSet<_>>().join_all().await
}

/// Checks that one answer is 200 with a receipt, and all others are refusals of a payment in use or
/// used.
fn only_one_is_served(answers: &[Answer], sent: usize) {
    let mut statuses = BTreeMap::new();
    for answer in answers {
        *statuses.entry(answer.status).or_insert(0) += 1;
        match answer.status {
            200 => assert_eq!(answer.receipt(), Some(true)),
            _ => assert_eq!((reason(answer).as_str(), answer.receipt()), ("payment_replayed", None)),
        }
        // A payment in use must not get a new price.
        assert_eq!(answer.header("payment-required").is_some(), answer.status == 402);
    }
    let others = statuses.get(&402).unwrap_or(&0) + statuses.get(&409).unwrap_or(&0);
    assert_eq!((statuses.get(&200), others), (Some(&1), sent - 1), "{statuses:?}");
}

/// `reason` of a refusal, with a challenge or without.
fn reason(answer: &Answer) -> String {
    let json = answer.json();
    let reason = json["reason"].as_str().or_else(|| json["extensions"]["paymentFailure"]["reason"].as_str());
    reason.unwrap_or_else(|| panic!("{} gives no reason: {json}", answer.status)).to_owned()
}

/// A payment in every equivalent spelling: (name, header, value).
fn spellings(payment: &Value) -> Vec<(&'static str, &'static str, String)> {
    let signature = payment["payload"]["signature"].as_str().unwrap();
    let nonce = payment["payload"]["authorization"]["nonce"].as_str().unwrap();
    let from = payment["payload"]["authorization"]["from"].as_str().unwrap();
    let text = payment.to_string();
    let (rs, v) = signature.split_at(signature.len() - 2);
    let zero_based = format!("{rs}{}", if v == "1b" { "00" } else { "01" });
    let upper = |hex: &str| format!("0x{}", hex[2..].to_uppercase());
    let encoded = |text: &str| encode_base64(text.as_bytes());
    // Adds spaces until the base64 has padding that can be left out.
    let mut padded = text.clone();
    while padded.len().is_multiple_of(3) {
        padded.push(' ');
    }
    vec![
        ("as it was", PAYMENT, encoded(&text)),
        ("the other header", X_PAYMENT, encoded(&text)),
        ("keys in another order", PAYMENT, encoded(&backwards(payment))),
        ("white space", PAYMENT, encoded(&format!("{payment:#}"))),
        ("no padding", PAYMENT, encoded(&padded).trim_end_matches('=').to_owned()),
        ("nonce in capitals", PAYMENT, encoded(&text.replace(nonce, &upper(nonce)))),
        ("payer in small letters", PAYMENT, encoded(&text.replace(from, &from.to_lowercase()))),
        ("signature in capitals", PAYMENT, encoded(&text.replace(signature, &upper(signature)))),
        ("recovery byte from zero", PAYMENT, encoded(&text.replace(signature, &zero_based))),
        ("an escaped letter", PAYMENT, encoded(&text.replace("payload", "p\\u0061yload"))),
    ]
}

/// JSON with the members of every object in reverse order.
fn backwards(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().rev().map(|(name, value)| format!("{name:?}:{}", backwards(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}
