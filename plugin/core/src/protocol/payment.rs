//! The payment a client sends.

use crate::evm::{Amount, Authorization, B256, PermitAuthorization};
use serde_json::value::RawValue;

/// Protocol version of a payment. The payload decides, not the header it came in (contract 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `x402Version: 1`.
    V1,
    /// `x402Version: 2`.
    V2,
}

/// What the payer agreed to: v2 `accepted`, or the scheme and network of a v1 payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// e.g. `exact`.
    pub scheme: String,
    /// As the client wrote it; resolved when matched.
    pub network: String,
    /// v2 only: the remaining members that have to match an option.
    pub terms: Option<AcceptedTerms>,
}

/// The members of a v2 `accepted` that are compared with an option (contract 6.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedTerms {
    /// Atomic amount, compared as text.
    pub amount: String,
    /// Asset as written.
    pub asset: String,
    /// Recipient as written.
    pub pay_to: String,
    /// `extra.paymentFlow`, absent = `authorization`.
    pub payment_flow: Option<String>,
    /// `extra.assetTransferMethod`, if the client repeated it.
    pub transfer_method: Option<String>,
}

/// The scheme-specific part. Malformed fields inside it are not a malformed header: the request gets
/// a 402 with `invalid_payload`, after the option was matched (x402 reference section 15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// EIP-3009.
    Eip3009 {
        /// What was signed.
        authorization: Authorization,
        /// Signature bytes as sent.
        signature: Vec<u8>,
    },
    /// Permit2.
    Permit2 {
        /// What was signed.
        permit: PermitAuthorization,
        /// Signature bytes as sent.
        signature: Vec<u8>,
    },
    /// A `payload` object that is neither, or one with fields that do not parse; the text says which.
    Unusable(String),
}

/// A decoded payment header.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Version of the payload.
    pub version: Version,
    /// What the payer agreed to.
    pub accepted: Accepted,
    /// The signed part.
    pub proof: Proof,
    /// v2 `resource`, kept only when it was an object; sent on, never used.
    pub resource: Option<Box<RawValue>>,
    /// v2 `extensions` object, sent on to the facilitator.
    pub extensions: Option<Box<RawValue>>,
}

/// Why a header cannot become a payment: 400 `invalid_payment_header`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaymentError {
    /// More encoded bytes than the cap.
    #[error("the payment header has {found} bytes, the limit is {limit}")]
    TooLong {
        /// Encoded bytes.
        found: usize,
        /// Cap in force.
        limit: usize,
    },
    /// Not standard base64.
    #[error("the payment header is not standard base64")]
    NotBase64,
    /// Not UTF-8 JSON, nested too deeply, or not an object.
    #[error("the payment header does not hold a JSON object: {0}")]
    NotJson(String),
    /// `x402Version` absent, not 1 or 2, or 1 in a `PAYMENT-SIGNATURE` header.
    #[error("unsupported x402Version")]
    Version,
    /// A required top-level member is missing, repeated or of the wrong type.
    #[error("the payment is incomplete: {0}")]
    Shape(String),
}

impl Payment {
    /// Decodes one header value. `signature_header` says it came in `PAYMENT-SIGNATURE`, where only
    /// version 2 is read; `X-PAYMENT` takes both. Size, nesting and duplicate members are bounded here.
    pub fn decode(value: &[u8], signature_header: bool, max_bytes: usize) -> Result<Self, PaymentError> {
        let _ = (value, signature_header, max_bytes);
        todo!()
    }
    /// The payer the payment claims, where the proof has one.
    pub fn payer(&self) -> Option<crate::evm::Address> {
        todo!()
    }
    /// The 32-byte nonce of the replay key: EIP-3009's, or the Permit2 nonce as a big-endian word.
    pub fn nonce(&self) -> Option<B256> {
        todo!()
    }
    /// When the authorization ends: `validBefore` or `deadline`, Unix seconds.
    pub fn valid_before(&self) -> Option<Amount> {
        todo!()
    }
}
