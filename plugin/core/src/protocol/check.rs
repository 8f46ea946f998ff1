//! The local checks of one payment against one option: everything that can be decided without a chain.

use super::Payment;
use crate::evm::Address;
use crate::rules::PaymentOption;

/// How strictly signatures and times are judged. From the pushed settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckPolicy {
    /// Tolerance for clocks, seconds.
    pub clock_skew_seconds: u64,
    /// Defer a 65-byte signature that does not recover the payer (contract wallets) instead of refusing it.
    pub defer_mismatch: bool,
    /// Defer signatures that need a chain; when false they are refused.
    pub defer_undecidable: bool,
    /// Refuse recovery bytes 0 and 1 instead of normalising them.
    pub strict_recovery_byte: bool,
}

/// What is known about the signature after the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureTrust {
    /// Recovered to the payer here.
    Recovered,
    /// Only the facilitator can say.
    Deferred,
}

/// A payment that passed every local check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The payer.
    pub payer: Address,
    /// Whether the signature was decided here.
    pub trust: SignatureTrust,
    /// The signature to send to the facilitator, with the recovery byte as 27 or 28.
    pub forward_signature: Vec<u8>,
}

/// A failed local check: 402 `payment_invalid` with this protocol code (x402 reference section 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// e.g. `invalid_exact_evm_payload_signature`.
    pub code: &'static str,
}

/// Checks scheme, fields, recipient, times, value and signature, cheapest first (x402 reference 7.2, 8).
/// `now` is Unix seconds.
pub fn check(
    payment: &Payment,
    option: &PaymentOption,
    policy: &CheckPolicy,
    now: u64,
) -> Result<Checked, Refused> {
    let _ = (payment, option, policy, now);
    todo!()
}
