//! What is sent to a facilitator and how its replies are read (x402 reference section 13).

use super::{Checked, Payment};
use crate::rules::PaymentOption;

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
        checked: &Checked,
        option: &PaymentOption,
        resource_url: &str,
        minimal: bool,
    ) -> Self {
        let _ = (payment, checked, option, resource_url, minimal);
        todo!()
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
    /// Anything else that was answered.
    Failed {
        /// Whether a new attempt is worth it: 429, 502, 503, 504 without `unexpected_error` (row 20).
        retriable: bool,
    },
}

/// What a `/settle` reply means: exactly three outcomes, and the request to repeat a pending one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// `success: true` with a transaction on our network.
    Settled {
        /// Transaction hash as answered.
        transaction: String,
        /// `payer` as answered.
        payer: Option<String>,
    },
    /// Definitely not settled.
    Refused {
        /// `errorReason`, length-capped.
        reason: String,
    },
    /// Broadcast but not final: `settlement_pending` with a transaction. Repeat the identical call once.
    Pending {
        /// Transaction hash.
        transaction: String,
    },
    /// Money may or may not have moved.
    Unknown {
        /// Transaction if one is known.
        transaction: Option<String>,
        /// For log and body.
        reason: String,
        /// Whether the reply was a timeout, cut or transport failure rather than a bad answer.
        nonce_already_used: bool,
    },
}

/// Reads a `/verify` reply.
pub fn read_verify_reply(status: u16, body: &[u8]) -> VerifyOutcome {
    let _ = (status, body);
    todo!()
}
/// Reads a `/settle` reply. `network` is the option's CAIP-2 id and its v1 name if it has one: a success
/// on another network is unknown. "Nonce already used" is `Refused` unless `earlier_unknown`.
pub fn read_settle_reply(
    status: u16,
    body: &[u8],
    option: &PaymentOption,
    earlier_unknown: bool,
) -> SettleOutcome {
    let _ = (status, body, option, earlier_unknown);
    todo!()
}
