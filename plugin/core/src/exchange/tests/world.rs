//! The rules of the stories, and a wallet that pays under these rules.

use std::sync::Arc;

use crate::evm::{Address, Amount, B256, Network, TransferMethod, to_hex};
pub(super) use crate::protocol::fixtures::Wallet;
use crate::protocol::fixtures::accepted;
use crate::protocol::{decode_base64, encode_base64};
use crate::rules::{FORMAT, Facilitator, Gate, PushedRoute, PushedRules, RuleSet};
use crate::terms::{Extra, Flow, PaymentOption, Settings, Tuple};

/// Unix seconds at which every story begins.
pub(super) const START: u64 = 1_800_000_000;
pub(super) const PAY_TO: Address = Address([0x11; 20]);
pub(super) const TOKEN: Address = Address([0x22; 20]);

pub(super) fn network(id: u64) -> Network {
    Network::from_caip2(&format!("eip155:{id}")).unwrap()
}

pub(super) fn option(tuple: usize, chain: u64, amount: u64, flow: Flow) -> PaymentOption {
    PaymentOption {
        tuple,
        network: network(chain),
        v1_network: Some(if chain == 8453 { "base".into() } else { "base-sepolia".into() }),
        v1_kind: true,
        amount: Amount::from_u64(amount),
        asset: TOKEN,
        decimals: 6,
        pay_to: PAY_TO,
        max_timeout_seconds: 600,
        flow,
        transfer_method: TransferMethod::Eip3009,
        eip712_name: "USDC".into(),
        eip712_version: "2".into(),
        gas_sponsoring: false,
        extra: Extra::default(),
    }
}

fn tuple(offer: &str, chain: u64) -> Tuple {
    Tuple {
        offer_namespace: "ns".into(),
        offer_name: offer.into(),
        chain: format!("eip155:{chain}"),
        asset_symbol: "USDC".into(),
        born: 0,
    }
}

fn route(pattern: &str, gate: Gate, offer: &str, options: Vec<PaymentOption>) -> PushedRoute {
    PushedRoute {
        pattern: pattern.into(),
        gate,
        offer_namespace: "ns".into(),
        offer_name: offer.into(),
        options,
        min_remaining: None,
        description: "a test".into(),
        public: None,
    }
}

/// Tuples 0 `o` on 84532, 1 `two` on 8453, 2 `two` on 84532, 3 `up` on 84532.
pub(super) fn pushed() -> PushedRules {
    let (authorization, upfront) = (Flow::Authorization, Flow::Upfront);
    PushedRules {
        format: FORMAT,
        generation: 7,
        hash: "0x00".into(),
        settings: Settings { clock_skew_seconds: 5, ..Settings::default() },
        facilitator: Some(Facilitator {
            cluster: "facilitator".into(),
            authority: "facilitator.test".into(),
            path_prefix: String::new(),
            verify_timeout_ms: 5_000,
            settle_timeout_ms: 60_000,
            ready: true,
            relay: false,
        }),
        tuples: vec![tuple("o", 84532), tuple("two", 8453), tuple("two", 84532), tuple("up", 84532)],
        routes: vec![
            route("/paid/*", Gate::Paid, "o", vec![option(0, 84532, 1000, authorization)]),
            route("/same-price", Gate::Paid, "o", vec![option(0, 84532, 1000, authorization)]),
            route(
                "/two",
                Gate::Paid,
                "two",
                vec![option(1, 8453, 2000, authorization), option(2, 84532, 3000, authorization)],
            ),
            route("/up/*", Gate::Paid, "up", vec![option(3, 84532, 500, upfront)]),
            route("/free/*", Gate::Free, "", vec![]),
            route("/auth", Gate::Auth, "o", vec![]),
            route("/broken", Gate::Blocked, "o", vec![]),
        ],
        protected: vec!["/paid".into(), "/guarded".into(), "/two".into(), "/up".into()],
    }
}

pub(super) fn rules_with(change: impl FnOnce(&mut PushedRules)) -> Arc<RuleSet> {
    let mut pushed = pushed();
    change(&mut pushed);
    Arc::new(RuleSet::compile(pushed).unwrap())
}

/// The terms of a payment; change a field for other terms.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) option: PaymentOption,
    pub(super) nonce: u8,
    pub(super) valid_before: u64,
    pub(super) value: u64,
    pub(super) v1: bool,
    pub(super) pretty: bool,
}

// === impl Wallet ===

impl Wallet {
    pub(super) fn new(seed: u8) -> Self {
        Self::of(&[seed.max(1); 32])
    }
    /// The payment for an option as header value.
    pub(super) fn pay(&self, terms: &Terms) -> String {
        let option = &terms.option;
        let signed = PaymentOption { amount: Amount::from_u64(terms.value), ..option.clone() };
        let payload = self.payload(&signed, B256([terms.nonce; 32]), terms.valid_before);
        let payment = if terms.v1 {
            serde_json::json!({
                "x402Version": 1, "scheme": "exact", "network": option.v1_network, "payload": payload,
            })
        } else {
            serde_json::json!({ "x402Version": 2, "accepted": accepted(option), "payload": payload })
        };
        let text =
            if terms.pretty { serde_json::to_string_pretty(&payment).unwrap() } else { payment.to_string() };
        encode_base64(text.as_bytes())
    }
}

// === impl Terms ===

impl Terms {
    /// A good payment for option `place` of route `route`.
    pub(super) fn of(route: usize, place: usize, nonce: u8) -> Self {
        let option = pushed().routes[route].options[place].clone();
        let value = option.amount.to_u64().unwrap();
        Self { option, nonce, valid_before: START + 600, value, v1: false, pretty: false }
    }
}

/// The usual payment for `/paid/*`.
pub(super) fn payment(nonce: u8) -> String {
    Wallet::new(1).pay(&Terms::of(0, 0, nonce))
}
/// Another authorization of the same nonce.
pub(super) fn other_payment(nonce: u8) -> String {
    Wallet::new(1).pay(&Terms { valid_before: START + 599, ..Terms::of(0, 0, nonce) })
}
/// A payment in another payer's name, with a forged signature that only a chain could check.
pub(super) fn junk_signed(payment: &str) -> String {
    let text = String::from_utf8(decode_base64(payment.as_bytes()).unwrap()).unwrap();
    let mut payment: serde_json::Value = serde_json::from_str(&text).unwrap();
    payment["payload"]["signature"] = to_hex(&[0xab; 70]).into();
    encode_base64(payment.to_string().as_bytes())
}
/// The usual payment for `/up/*`.
pub(super) fn upfront_payment(nonce: u8) -> String {
    Wallet::new(1).pay(&Terms::of(3, 0, nonce))
}
