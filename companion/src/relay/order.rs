//! What a proxy asks for: a payment, for an offer.

use std::sync::Arc;

use axum::http::HeaderMap;
use farebox_core::metrics::parse_tuple_text;
use farebox_core::payment::{Claim, Fingerprint, Holder, PaymentKey, Terms};
use farebox_core::protocol::{
    CallError, PaymentCall, RELAY_GENERATION, RELAY_HOLDER, RELAY_KNOWN, RELAY_OFFER, RELAY_PROVEN,
    RELAY_PROXY, RELAY_ROUTE, RelayReply, printable,
};

use super::Relay;
use crate::ledger::Sale;

/// A call that may be made.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) key: PaymentKey,
    pub(super) claim: Claim,
    pub(super) sale: Sale,
    pub(super) call: PaymentCall,
    /// What it is answered if it is new: it is not taken.
    pub(super) refusal: Option<RelayReply>,
}

/// Longest name of a proxy.
const MAX_NAME: usize = 100;
/// Longest pattern of a route.
const MAX_ROUTE: usize = 2_048;

// === impl Order ===

impl Order {
    /// Reads a call to `/verify`. A new payment is taken only by terms this companion published; one that is known is
    /// answered by its life, whatever is published now.
    pub(super) fn to_verify(relay: &Relay, headers: &HeaderMap, body: &[u8]) -> Result<Self, RelayReply> {
        let mut order = Self::read(headers, body)?;
        if order.claim.only_known {
            return Ok(order);
        }
        let PaymentCall { option, .. } = &order.call;
        let signed = &order.claim.terms;
        let is_asked =
            (signed.asset, signed.amount, signed.pay_to) == (option.asset, option.amount, option.pay_to);
        let offered = relay.state.rules.lock().offered.tuple(option, &order.sale.tuple);
        match offered {
            Some(tuple) if is_asked => order.sale.tuple = tuple,
            Some(_) => {
                order.refusal = Some(not_taken("the payment is not signed for what its requirement asks"))
            }
            None => {
                let nothing = "the companion offers nothing by these terms, and has not since it started";
                order.refusal = Some(not_taken(nothing));
            }
        }
        order.claim.only_known = order.refusal.is_some();
        Ok(order)
    }

    /// Reads a call to `/settle`: by which terms its payment is settled, its record says.
    pub(super) fn to_settle(headers: &HeaderMap, body: &[u8]) -> Result<Self, RelayReply> {
        Self::read(headers, body)
    }

    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, RelayReply> {
        let call = PaymentCall::read(body).map_err(|error| match error {
            CallError::NoCall => not_taken("the body is no call to a facilitator"),
            CallError::Unusable { code, .. } => not_taken(code),
        })?;
        let PaymentCall { payment, option, .. } = &call;
        let holder = holder(headers).ok_or_else(|| not_taken("no holder is named"))?;
        let tuple = text(headers, RELAY_OFFER).and_then(parse_tuple_text);
        let tuple = tuple.filter(|tuple| tuple.chain == option.network.as_str());
        let tuple = tuple.ok_or_else(|| not_taken("no offer on the chain of the payment is named"))?;
        let route = text(headers, RELAY_ROUTE).filter(|route| route.len() <= MAX_ROUTE);
        let route = route.ok_or_else(|| not_taken("no route is named"))?.to_owned();
        let unusable = || not_taken("invalid_payload");
        let offer = format!("{}/{}", tuple.offer_namespace, tuple.offer_name);
        let key = PaymentKey::of(payment, option).ok_or_else(unusable)?;
        let claim = Claim {
            fingerprint: Fingerprint::of_canonical(payment, option).ok_or_else(unusable)?,
            terms: Terms::signed(payment, option, offer, route).ok_or_else(unusable)?,
            holder,
            call: Arc::from(body),
            ends: payment.valid_before().ok_or_else(unusable)?.to_u64().unwrap_or(u64::MAX),
            proven: text(headers, RELAY_PROVEN) == Some("1"),
            only_known: text(headers, RELAY_KNOWN) == Some("1"),
            can_settle: true,
            twin: None,
        };
        let identifier = payment.identifier();
        let refusal = identifier.as_ref().err().map(|error| RelayReply::Invalid {
            reason: "invalid_payment_identifier".to_owned(),
            detail: Some(error.to_string()),
        });
        let sale = Sale {
            tuple,
            generation: text(headers, RELAY_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0),
            proxy: text(headers, RELAY_PROXY).map(|name| printable(name, MAX_NAME)).unwrap_or_default(),
            identifier: identifier.unwrap_or_default(),
        };
        Ok(Self { key, claim, sale, call, refusal })
    }
}

/// The request that asks.
pub(super) fn holder(headers: &HeaderMap) -> Option<Holder> {
    text(headers, RELAY_HOLDER).and_then(Holder::parse)
}

/// A header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| core::str::from_utf8(value.as_bytes()).ok())
}

pub(super) fn not_taken(reason: &str) -> RelayReply {
    RelayReply::NotTaken { reason: reason.to_owned() }
}
