//! The rules of `deploy/prometheus` in a real Prometheus, which scrapes a real companion: they load, they
//! record the real payments, and exactly the right alert fires.

mod server;

use std::collections::BTreeMap;

use farebox_testkit::stack::{Facilitator, Options, Part, Stack};
use farebox_testkit::wallet::Wallet;
use serde_json::Value;

use crate::support::Buyer;
use server::{Prometheus, Sample};

/// Two offers, one of which takes two chains, and a third whose price is wrong.
const PRICING: &str = r#"
wallet: "0x00000000000000000000000000000000000000a0"
chain: base-sepolia
routes:
  - { pattern: /chat/*, price: 0.001, offerNamespace: shop, offerName: chat }
  - pattern: /images/*
    offerNamespace: shop
    offerName: images
    payments: [{ price: 0.002 }, { price: 0.0025, network: base }]
  - { pattern: /broken/*, price: 0, offerNamespace: shop, offerName: broken }
"#;

/// The purchases: offer, chain, index in the challenge, number, and price in atomic units.
const PURCHASES: [(&str, &str, usize, u32, u32); 3] = [
    ("chat", "eip155:84532", 0, 3, 1_000),
    ("images", "eip155:84532", 0, 1, 2_000),
    ("images", "eip155:8453", 1, 2, 2_500),
];

/// Number of scrapes for the increases; with more scrapes less is extrapolated.
const SCRAPES: f64 = 10.0;

const CHARGED: &str = "obol_x402_verifier_charged_requests_total";
const LIFETIME: &str = "x402:revenue:lifetime_by_offer";

type ByOfferAndChain = BTreeMap<(String, String), f64>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_rules_record_in_a_real_prometheus_what_was_paid() {
    let stack = Stack::start(Options::priced(PRICING)).await.unwrap();
    let prometheus = Prometheus::start(&stack).await;
    // Increases begin at the first scraped value, so this value has to be zero.
    let zero = counts(|_| 0.0);
    prometheus
        .until("every offer was scraped", async |server| {
            by_offer_and_chain(server.query(CHARGED).await) == zero
        })
        .await;

    buy(&stack).await;

    let offers = [("chat", 3.0), ("images", 3.0)];
    prometheus
        .until("the lifetime of every offer is what was bought", async |server| {
            let recorded = server.query(LIFETIME).await;
            offers.iter().all(|(offer, count)| {
                recorded.iter().any(|sample| sample.label("offer_name") == *offer && sample.value == *count)
            }) && recorded.len() == offers.len()
        })
        .await;
    increases_are_what_was_bought(&prometheus).await;
    every_rule_is_healthy_and_records(&prometheus).await;
    for sample in prometheus.query("x402:charge_ratio:1h_by_offer_chain").await {
        assert!((sample.value - 1.0).abs() < 1e-9, "{sample:?}");
    }
    the_offer_left_out_is_the_only_alert(&prometheus).await;
    stack.check_alive().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_anything_from_being_sold_is_alerted_though_it_was_wrong_from_the_start() {
    let nobody = "http://127.0.0.1:1";
    let facilitator = Facilitator::At(nobody.to_owned());
    // The cluster of the proxy does not lead to the relay either.
    let tweak = Box::new(|bootstrap: &mut Value| {
        for cluster in bootstrap["static_resources"]["clusters"].as_array_mut().unwrap() {
            if cluster["name"] == "farebox" {
                let host = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0];
                host["endpoint"]["address"]["socket_address"]["port_value"] = 1.into();
            }
        }
    });
    let mut stack = Stack::prepare(Options { facilitator, tweak, ..Options::priced(PRICING) }).unwrap();
    stack.start_part(Part::Companion).unwrap();
    let is_loaded =
        async |stack: &Stack| stack.status().await.is_ok_and(|status| status["config_generation"].is_u64());
    stack.until("the companion has loaded its rules", is_loaded).await.unwrap();
    stack.start_part(Part::Proxy).unwrap();

    let prometheus = Prometheus::start(&stack).await;
    for (alert, label, value) in [
        ("X402FacilitatorDown", "facilitator", nobody),
        ("X402NoProxyReports", "severity", "critical"),
        ("X402NotReady", "severity", "critical"),
    ] {
        let is_raised = async |server: &Prometheus| {
            let alerts = server.api("alerts").await["alerts"].take();
            let is_it =
                |known: &Value| known["labels"]["alertname"] == alert && known["labels"][label] == value;
            alerts.as_array().is_some_and(|all| all.iter().any(is_it))
        };
        prometheus.until(alert, is_raised).await;
    }
    // And the companion itself says so.
    let status = stack.status().await.unwrap();
    assert_eq!((&status["ready"], &status["proxies"]), (&false.into(), &Value::Array(Vec::new())));
    stack.check_alive().unwrap();
}

async fn buy(stack: &Stack) {
    let buyer = Buyer::new(stack, Wallet::development());
    for (offer, chain, place, count, price) in PURCHASES {
        let path = format!("/{offer}/1");
        for _ in 0..count {
            let option = buyer.offers(&path).await.remove(place);
            assert_eq!((&option["network"], &option["amount"]), (&chain.into(), &price.to_string().into()));
            let answer = buyer.pay(&path, &buyer.payment(&option)).await;
            assert_eq!((answer.status, answer.receipt()), (200, Some(true)), "{offer} on {chain}");
        }
    }
}

/// An increase is the difference between the first and the last sample, stretched to the moment of the
/// evaluation. With the first at zero nothing is added before it, and after the last at most 1.1 of the mean
/// distance between samples: so of `n` samples it is at least the difference, and at most 1 + 1.1 / (n - 1)
/// times it.
async fn increases_are_what_was_bought(prometheus: &Prometheus) {
    let samples = async |server: &Prometheus| {
        server.query(&format!("min(count_over_time({CHARGED}[24h]))")).await[0].value
    };
    // Rules are evaluated one after another, so a rule may see the result of another one only in the next
    // round.
    let enough = SCRAPES.max(samples(prometheus).await) + 3.0;
    let there = async |server: &Prometheus| samples(server).await >= enough;
    prometheus.until("there are samples enough", there).await;
    let stretch = 1.0 + 1.1 / (SCRAPES - 1.0);
    let windows = [
        ("x402:revenue:24h_by_offer_chain", counts(|_| 1.0)),
        ("x402:revenue:7d_by_offer_chain", counts(|_| 1.0)),
        ("x402:settled_amount_atomic:24h_by_offer_chain_asset_symbol", counts(f64::from)),
    ];
    for (name, expected) in windows {
        let recorded = by_offer_and_chain(prometheus.query(name).await);
        assert!(recorded.keys().eq(expected.keys()), "{name}: {recorded:?}");
        for (of, bought) in expected {
            let recorded = recorded[&of];
            // A float adds its own last digit.
            let range = bought * (1.0 - 1e-9)..=bought * stretch;
            assert!(range.contains(&recorded), "{name} of {of:?}: {recorded}, expected {range:?}");
        }
    }
}

/// Every rule that is shipped was evaluated without an error, and every recording rule has a result.
async fn every_rule_is_healthy_and_records(prometheus: &Prometheus) {
    let loaded = prometheus.api("rules").await;
    let groups = loaded["groups"].as_array().unwrap();
    let names: Vec<&Value> = groups.iter().map(|group| &group["name"]).collect();
    assert_eq!(names, ["x402.alerting", "x402.recording"], "{loaded}");
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert_eq!(rules.len(), 30);
    for rule in rules {
        assert_eq!((&rule["health"], &rule["lastError"]), (&"ok".into(), &Value::Null), "{rule}");
        if rule["type"] == "recording" {
            let name = rule["name"].as_str().unwrap();
            assert!(!prometheus.query(name).await.is_empty(), "{name} records nothing");
        }
    }
}

/// Alerts from before the first scrape, or from between a challenge and its payment, have ended.
async fn the_offer_left_out_is_the_only_alert(prometheus: &Prometheus) {
    let alerts = async |server: &Prometheus| server.api("alerts").await["alerts"].take();
    let one = async |server: &Prometheus| alerts(server).await.as_array().is_some_and(|all| all.len() == 1);
    prometheus.until("one alert is left", one).await;
    let alert = alerts(prometheus).await[0].take();
    assert_eq!(alert["state"], "pending", "{alert}");
    let label = |name: &str| alert["labels"][name].as_str().unwrap().to_owned();
    let seen = ["alertname", "offer_namespace", "offer_name", "scope", "reason", "severity"].map(label);
    assert_eq!(seen, ["X402OfferSkipped", "shop", "broken", "route", "zero_price", "warning"]);
    assert_eq!(alert["annotations"]["summary"], "A route of shop/broken is left out: zero_price");
}

/// For every offer and chain, the number of purchases times `worth` of its price.
fn counts(worth: impl Fn(u32) -> f64) -> ByOfferAndChain {
    let of = |(offer, chain, _, count, price): (&str, &str, usize, u32, u32)| {
        ((offer.to_owned(), chain.to_owned()), f64::from(count) * worth(price))
    };
    PURCHASES.map(of).into()
}

fn by_offer_and_chain(samples: Vec<Sample>) -> ByOfferAndChain {
    let of = |sample: Sample| {
        let labels = (sample.label("offer_name").to_owned(), sample.label("chain").to_owned());
        (labels, sample.value)
    };
    samples.into_iter().map(of).collect()
}
