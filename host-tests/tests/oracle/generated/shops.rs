//! Shops that sell the same on different terms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farebox_core::exchange::{self, Next, RequestHead, Transport};
use farebox_core::protocol::decode_base64;
use farebox_core::rules::{Facilitator, RuleSet};
use farebox_core::terms::{BodyVersion, PaymentOption, Settings, Unmatched};
use serde_json::Value;

/// Encoded bytes of the longest payment the strict shop reads.
const SHORT: usize = 4_096;
/// Seconds the lenient shop remembers a payment.
const SOON: u64 = 3_600;

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
facilitatorURL: https://pay.example.com
routes:
- {pattern: "/paid/*", price: "0.001", offerNamespace: shop, offerName: paid}
- {pattern: "/upfront/*", price: "0.0025", paymentFlow: upfront, offerNamespace: shop, offerName: upfront}
- {pattern: "/permit/*", price: 7, assetSymbol: OBOL, offerNamespace: shop, offerName: permit}
- pattern: "/many/*"
  offerNamespace: shop
  offerName: many
  payments:
  - {price: "0.001"}
  - {price: "0.002", network: base}
  - {price: "3", assetSymbol: OBOL}
  - {price: "0.01", network: polygon, paymentFlow: upfront}
  - {price: "0.5", network: "eip155:4326", assetSymbol: MegaUSD, payTo: "0x00000000000000000000000000000000000000a5"}
- pattern: "/custom/*"
  price: "1.5"
  network: base
  assetAddress: "0x00000000000000000000000000000000c0ffee00"
  assetSymbol: CUST
  assetDecimals: 9
  assetTransferMethod: eip3009
  eip712Name: Custom Coin
  eip712Version: "3"
  offerNamespace: shop
  offerName: custom
- {pattern: "/mega/*", price: "0.05", network: "eip155:4326", assetSymbol: MegaUSD, offerNamespace: shop, offerName: mega}
- {pattern: "/named/*", price: "0.03", hostname: shop.example.com, offerNamespace: shop, offerName: named}
- {pattern: "/domainless/*", price: "0.004", offerNamespace: shop, offerName: domainless}
- {pattern: "/free/*", gate: free}
- {pattern: "/broken/*", price: "no price", offerNamespace: shop, offerName: broken}
- {pattern: "/auth/*", gate: auth, offerNamespace: shop, offerName: auth}
"#;

/// One set of rules, with its offers.
pub(super) struct Shop {
    /// The rules in their pushed form.
    pub(super) rules: Value,
    pub(super) settings: Settings,
    pub(super) offers: Vec<Offer>,
}

/// One way to pay one route.
pub(super) struct Offer {
    /// A path of the route.
    pub(super) path: String,
    /// The entry of `accepts`.
    pub(super) accepted: Value,
    pub(super) option: PaymentOption,
}

/// All shops. The first is the usual one, the last one cannot sell yet.
pub(super) fn shops() -> Vec<Shop> {
    let plain = Settings::default();
    let old = Settings {
        body: BodyVersion::V1,
        trust_forwarded: true,
        minimal_payload: true,
        clock_skew_seconds: 5,
        catalog: Some("https://shop.example.com/catalog".into()),
        ..plain.clone()
    };
    let strict = Settings {
        require_secure_transport: true,
        trust_forwarded: true,
        strict_recovery_byte: true,
        defer_undecidable_signature: false,
        max_payment_bytes: SHORT,
        ..plain.clone()
    };
    let lenient = Settings {
        unmatched: Unmatched::Pass,
        legacy_networks: false,
        defer_mismatching_signature: true,
        replay_horizon_seconds: SOON,
        ..plain.clone()
    };
    let v1 = ["eip155:84532", "eip155:8453"];
    vec![
        shop(plain.clone(), true, true, &v1),
        shop(old, true, true, &[]),
        shop(strict, true, false, &v1),
        shop(lenient, true, false, &[]),
        shop(plain, false, true, &[]),
    ]
}

fn shop(settings: Settings, ready: bool, relay: bool, v1: &[&str]) -> Shop {
    let loaded = farebox_pricing::load(PRICING);
    let snapshot = loaded.snapshot.unwrap_or_else(|| panic!("{:#?}", loaded.findings));
    assert_eq!(snapshot.skipped.len(), 1, "only the broken route is left out: {:#?}", loaded.findings);
    let facilitator = Facilitator {
        cluster: "farebox".into(),
        authority: "farebox".into(),
        path_prefix: String::new(),
        verify_timeout_ms: 5_000,
        settle_timeout_ms: 60_000,
        ready,
        relay,
    };
    let v1: BTreeSet<_> = v1.iter().map(|network| (*network).to_owned()).collect();
    let mut pushed = snapshot.push(7, &settings, &facilitator, &BTreeMap::new(), &v1);
    // A push that lacks the domain of its token; no pricing file gives such a push.
    for route in pushed.routes.iter_mut().filter(|route| route.pattern.starts_with("/domainless")) {
        route.options.iter_mut().for_each(|option| option.eip712_name.clear());
    }
    let rules = serde_json::to_value(&pushed).unwrap();
    // The terms of the shop that is not ready are made from the same rules with a ready
    // facilitator.
    pushed.facilitator.iter_mut().for_each(|facilitator| facilitator.ready = true);
    let native = Arc::new(RuleSet::compile(pushed).unwrap());
    let routes = native.routes.iter().filter(|route| !route.options.is_empty());
    let offers = routes.flat_map(|route| {
        let path = route.pattern.replace('*', "x");
        let accepts = accepts(&native, &path);
        assert_eq!(accepts.len(), route.options.len(), "{path} offers what it takes");
        let offers = route.options.iter().zip(accepts);
        offers
            .map(|((option, _), accepted)| Offer { path: path.clone(), accepted, option: option.clone() })
            .collect::<Vec<_>>()
    });
    Shop { rules, settings, offers: offers.collect() }
}

/// The entries of a challenge.
fn accepts(rules: &Arc<RuleSet>, path: &str) -> Vec<Value> {
    let headers = [(":method", b"GET".as_slice()), (":path", path.as_bytes())];
    let head = RequestHead { headers: &headers, transport: Transport::default() };
    let Ok(turn) = exchange::begin(rules, &head, || Err(())) else { panic!("a challenge needs no time") };
    let Next::Reply(reply) = turn.next else { panic!("{path} is not for sale") };
    let header =
        reply.headers.iter().find(|(name, _)| name == "payment-required").expect("it is a challenge");
    let challenge: Value = serde_json::from_slice(&decode_base64(header.1.as_bytes()).unwrap()).unwrap();
    challenge["accepts"].as_array().expect("a challenge offers something").clone()
}
