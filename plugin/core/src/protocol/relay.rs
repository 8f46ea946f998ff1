//! The protocol between a proxy and the companion's relay.
//!
//! A relay takes the calls of a facilitator, with headers that name the caller and the offer. Its reply has the
//! members of a facilitator's reply, and one more: `farebox`, the outcome by the payment's state. A proxy reads only
//! `farebox`, so the relay is the only place that interprets a facilitator's reply.

use serde::Serialize;

use super::json::to_bytes;
use super::printable;
use crate::members::Members;

/// Default name of the Envoy cluster of the companion.
pub const COMPANION_CLUSTER: &str = "farebox";
/// Header: the offer, in the form of [`crate::metrics::tuple_text`].
pub const RELAY_OFFER: &str = "x-farebox-offer";
/// Header: the route, in the form of [`route_text`].
pub const RELAY_ROUTE: &str = "x-farebox-route";
/// Header: the generation of the proxy's rules.
pub const RELAY_GENERATION: &str = "x-farebox-generation";
/// Header: the name of the proxy, for the ledger.
pub const RELAY_PROXY: &str = "x-farebox-proxy";
/// Header: the request that holds the payment, in the form of [`crate::payment::Holder`].
pub const RELAY_HOLDER: &str = "x-farebox-holder";
/// Header, `1`: the payment did not pass the checks of a new payment, so the relay takes it only if it is known.
pub const RELAY_KNOWN: &str = "x-farebox-known";
/// Header of a call to a relay: the signer of the payment was recovered.
pub const RELAY_PROVEN: &str = "x-farebox-proven";

/// Longest text that is passed on, characters.
const MAX_TEXT: usize = 200;

/// A relay's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayReply {
    /// The payment is reserved, and the facilitator says that it is valid.
    Valid,
    /// The payment is charged and owed: serve it without another call.
    Redeem {
        /// Of the settlement.
        transaction: String,
    },
    /// The facilitator says that the payment is not valid.
    Invalid {
        /// `invalidReason`.
        reason: String,
        /// `invalidMessage`.
        detail: Option<String>,
    },
    /// The facilitator cannot read the call; nothing was charged.
    Malformed {
        /// What it says.
        words: String,
    },
    /// No facilitator could be reached; nothing was charged.
    Unreachable,
    /// The facilitator is overloaded or restarting; nothing was charged.
    Busy,
    /// The facilitator gave no usable answer; nothing was charged.
    NoVerdict,
    /// Another request uses the payment.
    InFlight,
    /// The payment is in use for other terms.
    OtherTerms,
    /// Another authorization of the same nonce is in use.
    OtherPayment,
    /// Money may have moved.
    Open {
        /// Transaction if one is known.
        transaction: Option<String>,
    },
    /// The payment is charged, for another offer or route.
    PaidFor {
        /// `offer_namespace/offer_name`.
        offer: String,
        /// The route, see [`route_text`].
        route: String,
        /// Of the settlement.
        transaction: String,
    },
    /// The payment has bought its answer.
    Used,
    /// The purchase that the payment names was paid by another payment.
    Twin {
        /// Of that payment.
        transaction: Option<String>,
    },
    /// The relay does not know the payment, and the call was for a known payment only ([`RELAY_KNOWN`]).
    New {
        /// The relay's clock, Unix seconds.
        now: Option<u64>,
    },
    /// Settled.
    Settled {
        /// Transaction hash.
        transaction: String,
    },
    /// Definitely not settled.
    Refused {
        /// `errorReason`.
        reason: String,
        /// `errorMessage`.
        detail: Option<String>,
    },
    /// No settle call was begun: nothing was charged.
    NotBegun,
    /// The ledger cannot be used: nothing was done.
    Unavailable,
    /// The relay refuses such calls.
    NotTaken {
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    farebox: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_valid: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<u64>,
}

/// Writes a pattern for a header: every byte that is not graphic ASCII is percent-encoded.
pub fn route_text(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    for byte in pattern.bytes() {
        if byte.is_ascii_graphic() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

// === impl RelayReply ===

impl RelayReply {
    /// The HTTP status of the reply: 200 for every answer about the payment.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unreachable | Self::Busy | Self::NoVerdict | Self::Malformed { .. } => 502,
            Self::Unavailable => 503,
            Self::NotTaken { .. } => 400,
            _ => 200,
        }
    }

    /// The body of the reply.
    pub fn body(&self) -> Vec<u8> {
        let mut wire = Wire { farebox: self.word(), ..Wire::default() };
        match self {
            Self::Valid => wire.is_valid = Some(true),
            Self::Redeem { transaction } => {
                wire.is_valid = Some(true);
                wire.transaction = Some(transaction);
            }
            Self::Settled { transaction } => {
                wire.success = Some(true);
                wire.transaction = Some(transaction);
            }
            Self::Invalid { reason, detail } => {
                wire.is_valid = Some(false);
                wire.reason = Some(reason);
                wire.detail = detail.as_deref();
            }
            Self::Refused { reason, detail } => {
                wire.success = Some(false);
                wire.reason = Some(reason);
                wire.detail = detail.as_deref();
            }
            Self::Malformed { words } => wire.detail = Some(words),
            Self::NotTaken { reason } => wire.reason = Some(reason),
            Self::New { now } => wire.now = *now,
            Self::Open { transaction } | Self::Twin { transaction } => {
                wire.transaction = transaction.as_deref();
            }
            Self::PaidFor { offer, route, transaction } => {
                wire.offer = Some(offer);
                wire.route = Some(route);
                wire.transaction = Some(transaction);
            }
            Self::Unreachable
            | Self::Busy
            | Self::NoVerdict
            | Self::InFlight
            | Self::OtherTerms
            | Self::OtherPayment
            | Self::Used
            | Self::NotBegun
            | Self::Unavailable => {}
        }
        to_bytes(&wire)
    }

    /// Reads a reply. `None` for a text that is not a relay's reply.
    pub fn read(body: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(body).ok()?;
        super::json::check_depth(text).ok()?;
        let members = Members::read(text).ok()?;
        let optional = |name| members.optional_text(name).ok().flatten();
        let reason = || optional("reason").map(|text| printable(&text, MAX_TEXT)).unwrap_or_default();
        let detail = || optional("detail").map(|text| printable(&text, MAX_TEXT));
        let transaction = || optional("transaction").filter(|text| !text.is_empty());
        Some(match members.text("farebox").ok()?.as_str() {
            "valid" => Self::Valid,
            "redeem" => Self::Redeem { transaction: transaction()? },
            "invalid" => Self::Invalid { reason: reason(), detail: detail() },
            "malformed" => Self::Malformed { words: detail().unwrap_or_default() },
            "unreachable" => Self::Unreachable,
            "busy" => Self::Busy,
            "no_verdict" => Self::NoVerdict,
            "in_flight" => Self::InFlight,
            "other_terms" => Self::OtherTerms,
            "other_payment" => Self::OtherPayment,
            "open" => Self::Open { transaction: transaction() },
            "paid_for" => Self::PaidFor {
                offer: optional("offer")?,
                route: optional("route")?,
                transaction: transaction()?,
            },
            "used" => Self::Used,
            "twin" => Self::Twin { transaction: transaction() },
            "new" => Self::New { now: members.optional_number("now").ok().flatten() },
            "settled" => Self::Settled { transaction: transaction()? },
            "refused" => Self::Refused { reason: reason(), detail: detail() },
            "not_begun" => Self::NotBegun,
            "unavailable" => Self::Unavailable,
            "not_taken" => Self::NotTaken { reason: reason() },
            _ => return None,
        })
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Redeem { .. } => "redeem",
            Self::Invalid { .. } => "invalid",
            Self::Malformed { .. } => "malformed",
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::NoVerdict => "no_verdict",
            Self::InFlight => "in_flight",
            Self::OtherTerms => "other_terms",
            Self::OtherPayment => "other_payment",
            Self::Open { .. } => "open",
            Self::PaidFor { .. } => "paid_for",
            Self::Used => "used",
            Self::Twin { .. } => "twin",
            Self::New { .. } => "new",
            Self::Settled { .. } => "settled",
            Self::Refused { .. } => "refused",
            Self::NotBegun => "not_begun",
            Self::Unavailable => "unavailable",
            Self::NotTaken { .. } => "not_taken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_is_read_as_it_was_written() {
        let (text, transaction) = (|| "a".to_owned(), || Some("0x1".to_owned()));
        let replies = [
            RelayReply::Valid,
            RelayReply::Redeem { transaction: text() },
            RelayReply::Invalid { reason: text(), detail: transaction() },
            RelayReply::Malformed { words: text() },
            RelayReply::Unreachable,
            RelayReply::Busy,
            RelayReply::NoVerdict,
            RelayReply::InFlight,
            RelayReply::OtherTerms,
            RelayReply::OtherPayment,
            RelayReply::Open { transaction: transaction() },
            RelayReply::Open { transaction: None },
            RelayReply::PaidFor { offer: text(), route: text(), transaction: text() },
            RelayReply::Used,
            RelayReply::Twin { transaction: None },
            RelayReply::New { now: None },
            RelayReply::New { now: Some(1_700_000_000) },
            RelayReply::Settled { transaction: text() },
            RelayReply::Refused { reason: text(), detail: None },
            RelayReply::NotBegun,
            RelayReply::Unavailable,
            RelayReply::NotTaken { reason: text() },
        ];
        for reply in replies {
            assert_eq!(RelayReply::read(&reply.body()), Some(reply));
        }
    }

    #[test]
    fn what_no_relay_writes_is_nothing() {
        for body in
            ["", "{}", "[]", r#"{"farebox":"yes"}"#, r#"{"isValid":true}"#, r#"{"farebox":"settled"}"#]
        {
            assert_eq!(RelayReply::read(body.as_bytes()), None, "{body}");
        }
    }
}
