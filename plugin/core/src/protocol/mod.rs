//! The x402 messages, versions 1 and 2: header codec, payments, challenges, receipts, facilitator calls.

mod challenge;
mod check;
mod facilitator;
mod header;
mod payment;
mod receipt;

pub use challenge::{Challenge, PaymentFailure};
pub use check::{CheckPolicy, Checked, Refused, SignatureTrust, check};
pub use facilitator::{
    CallBody, Operation, SettleOutcome, VerifyOutcome, read_settle_reply, read_verify_reply,
};
pub use header::{DecodeError, decode_base64, encode_base64};
pub use payment::{Accepted, Payment, PaymentError, Proof, Version};
pub use receipt::Receipt;
