//! The local checks of one payment against one option: everything that can be checked without a chain.

use super::payment::{Payment, Proof};
use super::requirement::{SCHEME, same_network};
use crate::evm::{
    Address, Amount, Authorization, B256, Domain, EXACT_PROXY, PermitAuthorization, SignatureClass,
    TransferMethod, classify, domain_separator, permit_witness_transfer_from_hash, permit2_domain_separator,
    recover, transfer_with_authorization_hash, typed_data_digest,
};
use crate::terms::PaymentOption;

/// Least remaining time of an authorization, seconds. Otherwise it may end before the facilitator broadcasts it.
/// Every reference facilitator uses this margin.
pub const MIN_REMAINING_SECONDS: u64 = 6;

const BEFORE: &str = "invalid_exact_evm_payload_authorization_valid_before";
const AFTER: &str = "invalid_exact_evm_payload_authorization_valid_after";

/// Largest tolerated difference of two clocks, seconds.
pub const CLOCK_TOLERANCE_SECONDS: u64 = 5;

/// How strictly signatures and times are checked, from the pushed settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckPolicy {
    /// Tolerance for clocks, seconds.
    pub clock_skew_seconds: u64,
    /// Least remaining time of an authorization, seconds.
    pub min_remaining_seconds: u64,
    /// Defer a 65-byte signature that does not recover the payer (contract wallets) instead of refusing it.
    pub defer_mismatch: bool,
    /// Defer signatures that need a chain; when false they are refused.
    pub defer_undecidable: bool,
    /// Refuse recovery bytes 0 and 1 instead of normalising them.
    pub strict_recovery_byte: bool,
    /// Defer every well-formed signature, because the next hop checks the payment again.
    pub leave_signature: bool,
}

/// What is known about the signature after the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureTrust {
    /// The recovered signer is the payer.
    Recovered,
    /// Only the facilitator can check the signature.
    Deferred,
}

/// A payment after the check of its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The payer.
    pub payer: Address,
    /// Whether the signature was checked here.
    pub trust: SignatureTrust,
    /// The signature to send to the facilitator, with the recovery byte as 27 or 28.
    pub forward_signature: Vec<u8>,
    /// EIP-712 digest of what was signed.
    pub digest: B256,
}

/// A failed local check: 402 `payment_invalid` with this protocol code, as the x402 specification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// e.g. `invalid_exact_evm_payload_signature`.
    pub code: &'static str,
}

/// Checks scheme, fields, recipient, times and value of a payment, cheapest first. `now` is Unix seconds.
pub fn judge(
    payment: &Payment,
    option: &PaymentOption,
    policy: &CheckPolicy,
    now: u64,
) -> Result<(), Refused> {
    require(payment.accepted.scheme == SCHEME, "invalid_scheme")?;
    require(same_network(&payment.accepted.network, option), "invalid_network")?;
    match (&payment.proof, option.transfer_method) {
        (Proof::Unusable(_), _) => refuse("invalid_payload"),
        (Proof::Eip3009 { authorization, .. }, TransferMethod::Eip3009) => {
            check_authorization(authorization, option, policy, now)
        }
        (Proof::Permit2 { permit, .. }, TransferMethod::Permit2) => check_permit(permit, option, policy, now),
        (Proof::Eip3009 { .. }, TransferMethod::Permit2)
        | (Proof::Permit2 { .. }, TransferMethod::Eip3009) => refuse("unsupported_payload_type"),
    }
}

/// Checks only the signature: that is, who signed the payment, not whether the payment is sufficient.
pub fn authenticate(
    payment: &Payment,
    option: &PaymentOption,
    policy: &CheckPolicy,
) -> Result<Signed, Refused> {
    let Some(digest) = signed_digest(payment, option) else { return refuse("invalid_payload") };
    let (payer, signature, invalid) = match &payment.proof {
        Proof::Eip3009 { authorization, signature } => {
            (authorization.from, signature, "invalid_exact_evm_payload_signature")
        }
        Proof::Permit2 { permit, signature } => (permit.from, signature, "invalid_permit2_signature"),
        Proof::Unusable(_) => return refuse("invalid_payload"),
    };
    let (trust, forward_signature) = check_signature(signature, &digest, &payer, invalid, policy)?;
    Ok(Signed { payer, trust, forward_signature, digest })
}

/// The EIP-712 digest of what was signed, in the domain of the option's asset. `None` if the payment is of another
/// transfer method.
pub fn signed_digest(payment: &Payment, option: &PaymentOption) -> Option<B256> {
    match (&payment.proof, option.transfer_method) {
        (Proof::Eip3009 { authorization, .. }, TransferMethod::Eip3009) => {
            Some(authorization_digest(authorization, option))
        }
        (Proof::Permit2 { permit, .. }, TransferMethod::Permit2) => Some(typed_data_digest(
            &permit2_domain_separator(&option.network),
            &permit_witness_transfer_from_hash(permit),
        )),
        _ => None,
    }
}

fn check_authorization(
    authorization: &Authorization,
    option: &PaymentOption,
    policy: &CheckPolicy,
    now: u64,
) -> Result<(), Refused> {
    let has_domain = !option.eip712_name.is_empty() && !option.eip712_version.is_empty();
    require(has_domain, "invalid_payment_requirements")?;
    require(authorization.to == option.pay_to, "invalid_exact_evm_payload_recipient_mismatch")?;
    require(lives_on(authorization.valid_before, policy, now), BEFORE)?;
    require(has_begun(authorization.valid_after, policy, now), AFTER)?;
    require(authorization.value == option.amount, "invalid_exact_evm_payload_authorization_value_mismatch")
}

fn check_permit(
    permit: &PermitAuthorization,
    option: &PaymentOption,
    policy: &CheckPolicy,
    now: u64,
) -> Result<(), Refused> {
    require(permit.spender == EXACT_PROXY, "invalid_permit2_spender")?;
    require(permit.witness_to == option.pay_to, "invalid_permit2_recipient_mismatch")?;
    require(lives_on(permit.deadline, policy, now), "permit2_deadline_expired")?;
    require(has_begun(permit.witness_valid_after, policy, now), "permit2_not_yet_valid")?;
    require(permit.amount == option.amount, "permit2_amount_mismatch")?;
    require(permit.token == option.asset, "permit2_token_mismatch")
}

fn lives_on(end: Amount, policy: &CheckPolicy, now: u64) -> bool {
    let end = end.0.saturating_add(Amount::from_u64(policy.clock_skew_seconds).0);
    end >= Amount::from_u64(now.saturating_add(policy.min_remaining_seconds)).0
}

fn has_begun(begin: Amount, policy: &CheckPolicy, now: u64) -> bool {
    begin <= Amount::from_u64(now.saturating_add(policy.clock_skew_seconds))
}

fn authorization_digest(authorization: &Authorization, option: &PaymentOption) -> B256 {
    let separator = domain_separator(&Domain {
        name: &option.eip712_name,
        version: &option.eip712_version,
        network: &option.network,
        verifying_contract: option.asset,
    });
    typed_data_digest(&separator, &transfer_with_authorization_hash(authorization))
}

/// Checks a signature as far as that is possible without a chain. Returns the bytes to send on: the recovery byte
/// is rewritten only if the signature recovered the payer, because a contract wallet's own format must not change.
fn check_signature(
    signature: &[u8],
    digest: &B256,
    payer: &Address,
    invalid: &'static str,
    policy: &CheckPolicy,
) -> Result<(SignatureTrust, Vec<u8>), Refused> {
    let defer_if =
        |allowed: bool, code| require(allowed, code).map(|()| (SignatureTrust::Deferred, signature.to_vec()));
    match classify(signature) {
        SignatureClass::Malformed => refuse(invalid),
        _ if policy.leave_signature => defer_if(true, invalid),
        SignatureClass::Recoverable { rewritten: true, .. } if policy.strict_recovery_byte => refuse(invalid),
        SignatureClass::Recoverable { rs, v, .. } => {
            if recover(digest, &rs, v) == Some(*payer) {
                let canonical = rs.into_iter().chain([v]).collect();
                return Ok((SignatureTrust::Recovered, canonical));
            }
            defer_if(policy.defer_mismatch, invalid)
        }
        SignatureClass::ForeignRecoveryByte => defer_if(policy.defer_mismatch, invalid),
        SignatureClass::Undeployed => {
            defer_if(policy.defer_undecidable, "invalid_exact_evm_payload_undeployed_smart_wallet")
        }
        SignatureClass::Contract => defer_if(policy.defer_undecidable, invalid),
    }
}

fn require(holds: bool, code: &'static str) -> Result<(), Refused> {
    if holds { Ok(()) } else { refuse(code) }
}

fn refuse<T>(code: &'static str) -> Result<T, Refused> {
    Err(Refused { code })
}

// === impl Refused ===

impl Refused {
    /// Whether the refusal is about time, and so depends on a correct clock.
    pub fn is_by_clock(self) -> bool {
        matches!(self.code, BEFORE | AFTER | "permit2_deadline_expired" | "permit2_not_yet_valid")
    }
}

// === impl CheckPolicy ===

impl CheckPolicy {
    /// The policy of the operator's settings, for a shell that checks signatures itself, on a route without
    /// `minRemaining`.
    pub fn from_settings(settings: &crate::terms::Settings) -> Self {
        Self {
            min_remaining_seconds: MIN_REMAINING_SECONDS,
            leave_signature: false,
            clock_skew_seconds: settings.clock_skew_seconds,
            defer_mismatch: settings.defer_mismatching_signature,
            defer_undecidable: settings.defer_undecidable_signature,
            strict_recovery_byte: settings.strict_recovery_byte,
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
