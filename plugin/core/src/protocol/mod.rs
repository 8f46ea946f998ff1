//! The x402 messages, versions 1 and 2: header codec, payments, challenges, receipts, facilitator calls.

mod call;
mod challenge;
mod check;
mod facilitator;
#[cfg(test)]
pub(crate) mod fixtures;
mod header;
mod html;
mod json;
mod matching;
mod payment;
mod proof;
mod reasons;
mod receipt;
mod relay;
mod reply;
mod requirement;

pub use call::{CallError, PaymentCall};
pub use challenge::{Challenge, PaymentFailure};
pub use check::{
    CLOCK_TOLERANCE_SECONDS, CheckPolicy, MIN_REMAINING_SECONDS, Refused, SignatureTrust, Signed,
    authenticate, judge, signed_digest,
};
pub use facilitator::{CallBody, CallEnd, Complaint, Operation, SettleReply, VerifyOutcome};
pub use header::{DecodeError, decode_base64, encode_base64};
pub use json::printable;
pub use matching::{find_match, matches};
pub use payment::{Accepted, AcceptedTerms, NoIdentifier, Payment, PaymentError, Proof, Version};
pub use receipt::Receipt;
pub use relay::{
    COMPANION_CLUSTER, RELAY_GENERATION, RELAY_HOLDER, RELAY_KNOWN, RELAY_OFFER, RELAY_PROVEN, RELAY_PROXY,
    RELAY_ROUTE, RelayReply, route_text,
};
pub use reply::{complaint, read_settle_reply, read_verify_reply};
pub use requirement::same_network;
