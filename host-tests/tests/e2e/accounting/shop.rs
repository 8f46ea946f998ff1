//! What is sold in the scripted run, and how it is labelled.

use super::tally::Tuple;

pub(crate) const BASIC: Tuple = Tuple::new("basic", "eip155:84532", "USDC");
pub(crate) const TWIN: Tuple = Tuple::new("twin", "eip155:84532", "USDC");
pub(crate) const MULTI: Tuple = Tuple::new("multi", "eip155:84532", "USDC");
pub(crate) const MULTI_ON_BASE: Tuple = Tuple::new("multi", "eip155:8453", "USDC");
pub(crate) const UPFRONT: Tuple = Tuple::new("upfront", "eip155:84532", "USDC");
pub(crate) const OBOL: Tuple = Tuple::new("obol", "eip155:84532", "OBOL");
pub(crate) const UNNAMED: Tuple = Tuple { namespace: "", name: "", chain: "eip155:84532", symbol: "USDC" };

pub(crate) const TUPLES: [Tuple; 7] = [BASIC, TWIN, MULTI, MULTI_ON_BASE, UPFRONT, OBOL, UNNAMED];

/// The offers. `twin` has the same terms as `basic`.
pub(crate) const PRICING: &str = r#"
wallet: "0x00000000000000000000000000000000000000a0"
chain: base-sepolia
routes:
  - { pattern: /basic/*, price: 0.001, minRemaining: 6, payTo: "0x00000000000000000000000000000000000000a1", offerNamespace: shop, offerName: basic }
  - { pattern: /twin/*, price: 0.001, payTo: "0x00000000000000000000000000000000000000a1", offerNamespace: shop, offerName: twin }
  - pattern: /multi/*
    offerNamespace: shop
    offerName: multi
    payments:
      - { price: 0.002, payTo: "0x00000000000000000000000000000000000000a2" }
      - { price: 0.0025, network: base, payTo: "0x00000000000000000000000000000000000000a3" }
      - { price: 0, network: polygon }
  - { pattern: /upfront/*, price: 0.003, minRemaining: 6, paymentFlow: upfront, payTo: "0x00000000000000000000000000000000000000a4", offerNamespace: shop, offerName: upfront }
  - { pattern: /obol/*, price: 7, assetSymbol: OBOL, payTo: "0x00000000000000000000000000000000000000a5", offerNamespace: shop, offerName: obol }
  - { pattern: /unnamed, price: 0.004 }
  - { pattern: /member/*, gate: auth, offerNamespace: shop, offerName: member }
  - { pattern: /broken/*, price: 0, offerNamespace: shop, offerName: broken }
  - { pattern: /free/*, gate: free }
"#;

/// The recipients, with their offers.
pub(crate) const RECIPIENTS: [(&str, &[Tuple]); 6] = [
    ("0x00000000000000000000000000000000000000a0", &[UNNAMED]),
    ("0x00000000000000000000000000000000000000a1", &[BASIC, TWIN]),
    ("0x00000000000000000000000000000000000000a2", &[MULTI]),
    ("0x00000000000000000000000000000000000000a3", &[MULTI_ON_BASE]),
    ("0x00000000000000000000000000000000000000a4", &[UPFRONT]),
    ("0x00000000000000000000000000000000000000a5", &[OBOL]),
];

/// One way to pay for one route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goods {
    /// The path, or its prefix with the slash.
    pub(crate) route: &'static str,
    pub(crate) primary: Tuple,
    pub(crate) tuple: Tuple,
    pub(crate) amount: u128,
    /// Index in `accepts`.
    pub(crate) option: usize,
}

pub(crate) const BASIC_GOODS: Goods = Goods::of("/basic/", BASIC, 1_000);
pub(crate) const TWIN_GOODS: Goods = Goods::of("/twin/", TWIN, 1_000);
pub(crate) const MULTI_GOODS: Goods = Goods::of("/multi/", MULTI, 2_000);
pub(crate) const MULTI_ON_BASE_GOODS: Goods =
    Goods { route: "/multi/", primary: MULTI, tuple: MULTI_ON_BASE, amount: 2_500, option: 1 };
pub(crate) const UPFRONT_GOODS: Goods = Goods::of("/upfront/", UPFRONT, 3_000);
pub(crate) const OBOL_GOODS: Goods = Goods::of("/obol/", OBOL, 7_000_000_000_000_000_000);
pub(crate) const UNNAMED_GOODS: Goods = Goods::of("/unnamed", UNNAMED, 4_000);

// === impl Goods ===

impl Goods {
    const fn of(route: &'static str, tuple: Tuple, amount: u128) -> Self {
        Self { route, primary: tuple, tuple, amount, option: 0 }
    }

    /// Paid before it is served.
    pub(crate) fn is_upfront(&self) -> bool {
        self.route == UPFRONT_GOODS.route
    }

    pub(crate) fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.route)
    }
}
