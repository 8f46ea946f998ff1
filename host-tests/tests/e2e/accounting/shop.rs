//! What is sold in the scripted run, and how it is labelled.

use super::tally::Tuple;

pub(super) const BASIC: Tuple = Tuple::new("basic", "eip155:84532", "USDC");
pub(super) const TWIN: Tuple = Tuple::new("twin", "eip155:84532", "USDC");
pub(super) const MULTI: Tuple = Tuple::new("multi", "eip155:84532", "USDC");
pub(super) const MULTI_ON_BASE: Tuple = Tuple::new("multi", "eip155:8453", "USDC");
pub(super) const UPFRONT: Tuple = Tuple::new("upfront", "eip155:84532", "USDC");
pub(super) const OBOL: Tuple = Tuple::new("obol", "eip155:84532", "OBOL");
pub(super) const UNNAMED: Tuple = Tuple { namespace: "", name: "", chain: "eip155:84532", symbol: "USDC" };

pub(super) const TUPLES: [Tuple; 7] = [BASIC, TWIN, MULTI, MULTI_ON_BASE, UPFRONT, OBOL, UNNAMED];

/// What is sold. `twin` has the very terms of `basic`.
pub(super) const PRICING: &str = r#"
wallet: "0x00000000000000000000000000000000000000a0"
chain: base-sepolia
routes:
  - { pattern: /basic/*, price: 0.001, payTo: "0x00000000000000000000000000000000000000a1", offerNamespace: shop, offerName: basic }
  - { pattern: /twin/*, price: 0.001, payTo: "0x00000000000000000000000000000000000000a1", offerNamespace: shop, offerName: twin }
  - pattern: /multi/*
    offerNamespace: shop
    offerName: multi
    payments:
      - { price: 0.002, payTo: "0x00000000000000000000000000000000000000a2" }
      - { price: 0.0025, network: base, payTo: "0x00000000000000000000000000000000000000a3" }
      - { price: 0, network: polygon }
  - { pattern: /upfront/*, price: 0.003, paymentFlow: upfront, payTo: "0x00000000000000000000000000000000000000a4", offerNamespace: shop, offerName: upfront }
  - { pattern: /obol/*, price: 7, assetSymbol: OBOL, payTo: "0x00000000000000000000000000000000000000a5", offerNamespace: shop, offerName: obol }
  - { pattern: /unnamed, price: 0.004 }
  - { pattern: /member/*, gate: auth, offerNamespace: shop, offerName: member }
  - { pattern: /broken/*, price: 0, offerNamespace: shop, offerName: broken }
  - { pattern: /free/*, gate: free }
"#;

/// Who is paid, and for what.
pub(super) const RECIPIENTS: [(&str, &[Tuple]); 6] = [
    ("0x00000000000000000000000000000000000000a0", &[UNNAMED]),
    ("0x00000000000000000000000000000000000000a1", &[BASIC, TWIN]),
    ("0x00000000000000000000000000000000000000a2", &[MULTI]),
    ("0x00000000000000000000000000000000000000a3", &[MULTI_ON_BASE]),
    ("0x00000000000000000000000000000000000000a4", &[UPFRONT]),
    ("0x00000000000000000000000000000000000000a5", &[OBOL]),
];

/// One way to pay for one route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goods {
    /// The path, or its prefix with the slash.
    pub(super) route: &'static str,
    pub(super) primary: Tuple,
    pub(super) tuple: Tuple,
    pub(super) amount: u128,
    /// Place in `accepts`.
    pub(super) option: usize,
}

pub(super) const BASIC_GOODS: Goods = Goods::of("/basic/", BASIC, 1_000);
pub(super) const TWIN_GOODS: Goods = Goods::of("/twin/", TWIN, 1_000);
pub(super) const MULTI_GOODS: Goods = Goods::of("/multi/", MULTI, 2_000);
pub(super) const MULTI_ON_BASE_GOODS: Goods =
    Goods { route: "/multi/", primary: MULTI, tuple: MULTI_ON_BASE, amount: 2_500, option: 1 };
pub(super) const UPFRONT_GOODS: Goods = Goods::of("/upfront/", UPFRONT, 3_000);
pub(super) const OBOL_GOODS: Goods = Goods::of("/obol/", OBOL, 7_000_000_000_000_000_000);
pub(super) const UNNAMED_GOODS: Goods = Goods::of("/unnamed", UNNAMED, 4_000);

// === impl Goods ===

impl Goods {
    const fn of(route: &'static str, tuple: Tuple, amount: u128) -> Self {
        Self { route, primary: tuple, tuple, amount, option: 0 }
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.route)
    }
}
