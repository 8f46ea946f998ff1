//! The calls to a facilitator, and the meaning of its replies.

use serde::Serialize;
use serde_json::value::RawValue;

use super::check::Signed;
use super::json::to_bytes;
use super::payment::{Payment, Version};
use super::proof::WireProof;
use super::requirement::{Requirement, SCHEME, V1Requirement};
use crate::terms::PaymentOption;

/// The two calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// `POST /verify`.
    Verify,
    /// `POST /settle`.
    Settle,
}

/// The request body, the same bytes for verify and settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallBody(pub Vec<u8>);

impl CallBody {
    /// `{x402Version, paymentPayload, paymentRequirements}` with the server's own requirement and the
    /// normalised signature. A v1 payment is sent as v1 if the option says its kind is supported,
    /// else re-enveloped as v2. `minimal` leaves out `resource` and `extensions`.
    /// `resource_url` enters only v1 requirements, where the member is required.
    pub fn new(
        payment: &Payment,
        signed: &Signed,
        option: &PaymentOption,
        resource_url: &str,
        minimal: bool,
    ) -> Self {
        let proof = WireProof::new(&payment.proof, &signed.forward_signature);
        Self(
            v1_call(payment, &proof, option, resource_url)
                .unwrap_or_else(|| v2_call(payment, &proof, option, minimal)),
        )
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<P, R> {
    x402_version: u8,
    payment_payload: P,
    payment_requirements: R,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V1Payload<'a> {
    x402_version: u8,
    scheme: &'static str,
    network: &'a str,
    payload: &'a WireProof<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct V2Payload<'a> {
    x402_version: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a RawValue>,
    /// The operator's requirement here, too. The client's copy was only compared.
    accepted: &'a Requirement<'a>,
    payload: &'a WireProof<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a RawValue>,
}

/// The v1 body, if the payment is v1 and the facilitator is known to take v1 for this option.
fn v1_call(
    payment: &Payment,
    proof: &WireProof<'_>,
    option: &PaymentOption,
    resource_url: &str,
) -> Option<Vec<u8>> {
    if payment.version != Version::V1 || !option.v1_kind {
        return None;
    }
    Some(to_bytes(&Body {
        x402_version: 1,
        payment_payload: V1Payload {
            x402_version: 1,
            scheme: SCHEME,
            network: option.v1_network.as_deref()?,
            payload: proof,
        },
        payment_requirements: V1Requirement::new(option, resource_url, "")?,
    }))
}

fn v2_call(payment: &Payment, proof: &WireProof<'_>, option: &PaymentOption, minimal: bool) -> Vec<u8> {
    let requirement = Requirement::new(option);
    to_bytes(&Body {
        x402_version: 2,
        payment_payload: V2Payload {
            x402_version: 2,
            resource: payment.resource.as_deref().filter(|_| !minimal),
            accepted: &requirement,
            payload: proof,
            extensions: payment.extensions.as_deref().filter(|_| !minimal),
        },
        payment_requirements: &requirement,
    })
}

// === impl Operation ===

impl Operation {
    /// The last segment of the endpoint's path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
        }
    }
}

/// What a `/verify` reply means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyOutcome {
    /// `isValid: true` in a 2xx.
    Valid,
    /// `isValid: false` in a status below 500. Reason and detail are length-capped printable text.
    Invalid {
        /// `invalidReason`.
        reason: String,
        /// `invalidMessage`.
        detail: Option<String>,
    },
    /// The facilitator could not read the call, so the operator has to change the configuration.
    Malformed {
        /// What it says about it, length-capped printable text.
        words: String,
        /// Its id of this call.
        correlation: Option<String>,
    },
    /// Any other reply.
    Failed {
        /// Whether a new attempt is worth it: 429, 502, 503, 504 without `unexpected_error`.
        retriable: bool,
    },
}

/// What the reply to one settle call says about this call only. The caller has to consider earlier calls with the
/// same payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleReply {
    /// `success: true` with a transaction on our network.
    Settled {
        /// Transaction hash as answered.
        transaction: String,
    },
    /// This call moved nothing: a code that facilitators give before they broadcast, and no transaction beside it.
    Refused {
        /// `errorReason`.
        reason: String,
        /// `errorMessage`, length-capped printable text.
        detail: Option<String>,
    },
    /// The facilitator could not read the call, so nothing was broadcast. The operator has to change the
    /// configuration.
    Malformed {
        /// What it says about it, length-capped printable text.
        words: String,
        /// Its id of this call.
        correlation: Option<String>,
    },
    /// The transaction is on its way: 202, `settlement_pending`, or a `status` that says so.
    Pending {
        /// Transaction hash if one is named.
        transaction: Option<String>,
    },
    /// Every other reply: the call may have moved money.
    Unclear {
        /// Transaction if one is named.
        transaction: Option<String>,
        /// For log and body.
        reason: String,
    },
}

/// How a facilitator call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd<'a> {
    /// A whole reply.
    Reply {
        /// HTTP status.
        status: u16,
        /// Body.
        body: &'a [u8],
    },
    /// No reply in time.
    TimedOut,
    /// No connection, or a connection that closed without a reply. The call may have arrived.
    Unreachable,
    /// The reply broke off.
    Cut,
    /// The call was not made: no byte of it was sent.
    NotSent,
}

/// A reply that is no verdict, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Whether the facilitator calls the request malformed.
    pub malformed: bool,
    /// Whether the reply names another payer, and so is about another payment.
    pub other_payer: bool,
    /// What it says, length-capped printable text. May be empty.
    pub words: String,
    /// Its id of this call.
    pub correlation: Option<String>,
}

#[cfg(test)]
#[path = "facilitator_tests.rs"]
mod tests;
