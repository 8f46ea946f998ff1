//! What a proxy asks for: a payment, for an offer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, Response};
use farebox_core::evm::{Address, Amount, Network, to_hex};
use farebox_core::metrics::parse_tuple_text;
use farebox_core::protocol::{RELAY_ATTEMPT, RELAY_GENERATION, RELAY_HOLDER, RELAY_OFFER};
use farebox_core::rules::{PaymentOption, Snapshot, Tuple};
use serde_json::json;

use super::settling::not_settled;
use super::{Relay, json_reply};
use crate::facilitator::{CallError, PaymentCall};
use crate::ledger::{Claim, PaymentKey};

/// A call that may be made.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) claim: Claim,
    pub(super) call: PaymentCall,
}

/// A call that is not made.
#[derive(Debug)]
pub(super) struct Refusal {
    code: &'static str,
    network: String,
}

/// Every way to pay this companion ever published, with the offer it last stood for. A payment may be settled
/// after its price changed, so nothing is taken back.
#[derive(Debug, Default)]
pub(super) struct Terms(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    offers: HashMap<Paid, Tuple>,
}

/// What is paid to whom: (network, asset, payTo, amount).
type Paid = (Network, Address, Address, Amount);

// === impl Order ===

impl Order {
    pub(super) fn read(relay: &Relay, headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let call = PaymentCall::read(body).map_err(|error| match error {
            CallError::NoCall => Refusal { code: "invalid_payload", network: String::new() },
            CallError::Unusable { network, code, .. } => Refusal { code, network },
        })?;
        let refuse = |code| Refusal { code, network: call.network.clone() };
        let active =
            relay.state.lock().active.as_ref().map(|active| (active.generation, active.snapshot.clone()));
        if let Some((generation, snapshot)) = &active {
            relay.terms.learn(*generation, snapshot);
        }
        let known = relay.terms.offer(&call.option).ok_or_else(|| refuse("invalid_payment_requirements"))?;
        let text = |name| headers.get(name).and_then(|value| core::str::from_utf8(value.as_bytes()).ok());
        // The header says which of several offers with equal terms is meant, and when its series was born.
        let tuple = text(RELAY_OFFER).and_then(parse_tuple_text).filter(|tuple| {
            tuple.chain == call.option.network.as_str() && tuple.asset_symbol == known.asset_symbol
        });
        let payer = call.payment.payer().ok_or_else(|| refuse("invalid_payload"))?;
        let nonce = call.payment.nonce().ok_or_else(|| refuse("invalid_payload"))?;
        let ends = call.payment.valid_before().ok_or_else(|| refuse("invalid_payload"))?;
        let claim = Claim {
            key: PaymentKey {
                network: call.option.network.as_str().to_owned(),
                contract: to_hex(&call.contract().0),
                payer: to_hex(&payer.0),
                nonce: nonce.to_string(),
            },
            holder: text(RELAY_HOLDER).unwrap_or_default().to_owned(),
            attempt: text(RELAY_ATTEMPT).unwrap_or_default().to_owned(),
            tuple: tuple.unwrap_or(known),
            generation: text(RELAY_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0),
            asset: to_hex(&call.option.asset.0),
            amount: call.option.amount.to_string(),
            pay_to: to_hex(&call.option.pay_to.0),
            ends: ends.to_u64().unwrap_or(u64::MAX),
        };
        Ok(Self { claim, call })
    }
}

// === impl Refusal ===

impl Refusal {
    pub(super) fn verify_reply(&self) -> Response<Body> {
        json_reply(400, &json!({ "isValid": false, "invalidReason": self.code }))
    }

    pub(super) fn settle_reply(&self) -> Response<Body> {
        json_reply(400, &not_settled(self.code, "", &self.network))
    }
}

// === impl Terms ===

impl Terms {
    fn learn(&self, generation: u64, snapshot: &Snapshot) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation == generation {
            return;
        }
        known.generation = generation;
        for option in snapshot.routes.iter().flat_map(|route| &route.options) {
            if let Some(tuple) = snapshot.tuples.get(option.tuple) {
                known.offers.insert(paid(option), tuple.clone());
            }
        }
    }

    fn offer(&self, option: &PaymentOption) -> Option<Tuple> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).offers.get(&paid(option)).cloned()
    }
}

fn paid(option: &PaymentOption) -> Paid {
    (option.network.clone(), option.asset, option.pay_to, option.amount)
}
