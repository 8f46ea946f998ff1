//! The payment a client sends.

use serde_json::value::RawValue;

use super::json::{check_depth, is_object};
use super::proof::read_proof;
use crate::evm::{Address, Amount, Authorization, B256, PermitAuthorization};
use crate::members::{Members, Reason, read_text};
use crate::terms::Flow;

/// Protocol version of a payment. The payload decides and not the name of the header, because some
/// buyers send version 2 in `X-PAYMENT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `x402Version: 1`.
    V1,
    /// `x402Version: 2`.
    V2,
}

/// The terms that the payer agreed to: v2 `accepted`, or the scheme and network of a v1 payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// e.g. `exact`.
    pub scheme: String,
    /// As the client wrote it; resolved when matched.
    pub network: String,
    /// v2 only: the remaining members that have to match an option.
    pub terms: Option<AcceptedTerms>,
}

/// The members of a v2 `accepted` that are compared with an option.
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

/// The scheme-specific part. With malformed fields in it the header is still valid: the request gets a
/// 402 with `invalid_payload`, after the match of the option.
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
    /// A `payload` object of another kind, or with fields that do not parse; the text says what is
    /// wrong.
    Unusable(String),
}

/// A decoded payment header.
#[derive(Debug, Clone)]
pub struct Payment {
    /// Version of the payload.
    pub version: Version,
    /// The terms that the payer agreed to.
    pub accepted: Accepted,
    /// The signed part.
    pub proof: Proof,
    /// v2 `resource`, if it is an object. It is sent on to the facilitator and has no other use.
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

/// The error of a malformed `payment-identifier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a payment-identifier is 16 to 128 characters of a-z, A-Z, 0-9, _ and -")]
pub struct NoIdentifier;

/// The extension by which a buyer names a purchase.
const IDENTIFIER: &str = "payment-identifier";

// === impl Proof ===

impl Proof {
    /// The signature as the client sent it, or `None` if there is none.
    pub fn signature(&self) -> Option<&[u8]> {
        match self {
            Self::Eip3009 { signature, .. } | Self::Permit2 { signature, .. } => Some(signature),
            Self::Unusable(_) => None,
        }
    }
}

// === impl PaymentError ===

impl PaymentError {
    /// The protocol's code for the refusal.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Version => "invalid_x402_version",
            Self::TooLong { .. } | Self::NotBase64 | Self::NotJson(_) | Self::Shape(_) => "invalid_payload",
        }
    }
}

// === impl Payment ===

impl Payment {
    /// Decodes one header value. `signature_header` says that it came in `PAYMENT-SIGNATURE`, which
    /// takes only version 2; `X-PAYMENT` takes both. This function limits size and nesting, and refuses
    /// duplicate members.
    pub fn decode(value: &[u8], signature_header: bool, max_bytes: usize) -> Result<Self, PaymentError> {
        if value.len() > max_bytes {
            return Err(PaymentError::TooLong { found: value.len(), limit: max_bytes });
        }
        let bytes = super::decode_base64(value).map_err(|_| PaymentError::NotBase64)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| PaymentError::NotJson("not UTF-8".into()))?;
        Self::from_json(text, signature_header)
    }

    /// Reads a payment from its JSON, of a header or of the body of a facilitator call. `v2_only`
    /// refuses version 1.
    pub fn from_json(text: &str, v2_only: bool) -> Result<Self, PaymentError> {
        check_depth(text).map_err(PaymentError::NotJson)?;
        let envelope = Members::read(text).map_err(PaymentError::NotJson)?;
        match optional(&envelope, "x402Version")?.map(RawValue::get) {
            Some("2") => Self::from_v2(&envelope),
            Some("1") if !v2_only => Self::from_v1(&envelope),
            _ => Err(PaymentError::Version),
        }
    }

    /// The payer that the payment names, if the proof has one.
    pub fn payer(&self) -> Option<Address> {
        match &self.proof {
            Proof::Eip3009 { authorization, .. } => Some(authorization.from),
            Proof::Permit2 { permit, .. } => Some(permit.from),
            Proof::Unusable(_) => None,
        }
    }

    /// The 32-byte nonce of the replay key: EIP-3009's, or the Permit2 nonce as a big-endian word.
    pub fn nonce(&self) -> Option<B256> {
        match &self.proof {
            Proof::Eip3009 { authorization, .. } => Some(authorization.nonce),
            Proof::Permit2 { permit, .. } => Some(B256(permit.nonce.to_be_bytes())),
            Proof::Unusable(_) => None,
        }
    }

    /// When the authorization ends: `validBefore` or `deadline`, Unix seconds.
    pub fn valid_before(&self) -> Option<Amount> {
        match &self.proof {
            Proof::Eip3009 { authorization, .. } => Some(authorization.valid_before),
            Proof::Permit2 { permit, .. } => Some(permit.deadline),
            Proof::Unusable(_) => None,
        }
    }

    /// When the payer agreed to be charged, if the payment says so.
    pub fn flow(&self) -> Option<Flow> {
        match self.accepted.terms.as_ref()?.payment_flow.as_deref() {
            None | Some("authorization") => Some(Flow::Authorization),
            Some("upfront") => Some(Flow::Upfront),
            Some(_) => None,
        }
    }

    /// The buyer's name of the purchase: the id of the `payment-identifier` extension.
    pub fn identifier(&self) -> Result<Option<String>, NoIdentifier> {
        let id = self.read_identifier().map_err(|_| NoIdentifier)?;
        let is_one = |id: &String| {
            (16..=128).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        if id.as_ref().is_none_or(is_one) { Ok(id) } else { Err(NoIdentifier) }
    }

    fn read_identifier(&self) -> Result<Option<String>, Reason> {
        let Some(extensions) = &self.extensions else { return Ok(None) };
        let Some(extension) = Members::read(extensions.get())?.optional(IDENTIFIER)? else { return Ok(None) };
        let Some(info) = Members::read(extension.get())?.optional("info")? else { return Ok(None) };
        Members::read(info.get())?.optional_text("id")
    }

    fn from_v2(envelope: &Members<'_>) -> Result<Self, PaymentError> {
        let accepted = read_accepted(required(envelope, "accepted")?)
            .map_err(|reason| PaymentError::Shape(format!("accepted: {reason}")))?;
        // Some deployed clients send the resource as plain text. No decision depends on it, so it is
        // dropped.
        let resource = optional(envelope, "resource")?.filter(|raw| !raw.get().starts_with('"'));
        Ok(Self {
            version: Version::V2,
            accepted,
            proof: read_payload(envelope)?,
            resource: optional_object(resource, "resource")?,
            extensions: optional_object(optional(envelope, "extensions")?, "extensions")?,
        })
    }

    fn from_v1(envelope: &Members<'_>) -> Result<Self, PaymentError> {
        let text = |name| {
            read_text(required(envelope, name)?)
                .ok_or_else(|| PaymentError::Shape(format!("{name} must be a string")))
        };
        Ok(Self {
            version: Version::V1,
            accepted: Accepted { scheme: text("scheme")?, network: text("network")?, terms: None },
            proof: read_payload(envelope)?,
            resource: None,
            extensions: None,
        })
    }
}

fn optional<'a>(envelope: &Members<'a>, name: &str) -> Result<Option<&'a RawValue>, PaymentError> {
    envelope.optional(name).map_err(PaymentError::NotJson)
}

fn required<'a>(envelope: &Members<'a>, name: &str) -> Result<&'a RawValue, PaymentError> {
    optional(envelope, name)?.ok_or_else(|| PaymentError::Shape(format!("{name} is missing")))
}

fn read_payload(envelope: &Members<'_>) -> Result<Proof, PaymentError> {
    let payload = required(envelope, "payload")?;
    if !is_object(payload) {
        return Err(PaymentError::Shape("payload must be an object".into()));
    }
    Ok(read_proof(payload.get()).unwrap_or_else(Proof::Unusable))
}

fn optional_object(raw: Option<&RawValue>, name: &str) -> Result<Option<Box<RawValue>>, PaymentError> {
    match raw {
        Some(raw) if !is_object(raw) => Err(PaymentError::Shape(format!("{name} must be an object"))),
        raw => Ok(raw.map(ToOwned::to_owned)),
    }
}

fn read_accepted(raw: &RawValue) -> Result<Accepted, String> {
    let wire = Members::read(raw.get())?;
    let (mut payment_flow, mut transfer_method) = (None, None);
    if let Some(extra) = wire.optional("extra")? {
        let place = |reason| format!("extra: {reason}");
        let extra = Members::read(extra.get()).map_err(place)?;
        payment_flow = extra.optional_text("paymentFlow").map_err(place)?;
        transfer_method = extra.optional_text("assetTransferMethod").map_err(place)?;
    }
    Ok(Accepted {
        scheme: wire.text("scheme")?,
        network: wire.text("network")?,
        terms: Some(AcceptedTerms {
            amount: wire.text("amount")?,
            asset: wire.text("asset")?,
            pay_to: wire.text("payTo")?,
            payment_flow,
            transfer_method,
        }),
    })
}

#[cfg(test)]
#[path = "payment_tests.rs"]
mod tests;
