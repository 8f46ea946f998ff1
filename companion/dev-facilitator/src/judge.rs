//! Checks the body of a call: a transfer that a chain would accept, or the code of a refusal.

use farebox_core::evm::{Address, Amount, PERMIT2, TransferMethod, asset_by_address};
use farebox_core::payment::PaymentKey;
use farebox_core::protocol::{
    CallError, CheckPolicy, MIN_REMAINING_SECONDS, PaymentCall, authenticate, judge as judge_terms, matches,
};
use farebox_core::terms::PaymentOption;

/// A valid payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) key: PaymentKey,
    pub(crate) asset: Address,
    pub(crate) pay_to: Address,
    pub(crate) amount: Amount,
    pub(crate) signature: Vec<u8>,
}

/// The result of checking a call.
#[derive(Debug)]
pub(crate) struct Judged {
    /// The network in the spelling of the call's version, for the reply; empty if there is none.
    pub(crate) network: String,
    /// The payer that the payment names.
    pub(crate) payer: Option<Address>,
    pub(crate) verdict: Result<Transfer, &'static str>,
}

/// A token contract takes only signatures that it can recover, with a recovery byte of 27 or 28. There
/// is no chain here to ask about contract wallets.
const POLICY: CheckPolicy = CheckPolicy {
    clock_skew_seconds: 0,
    min_remaining_seconds: MIN_REMAINING_SECONDS,
    defer_mismatch: false,
    defer_undecidable: false,
    strict_recovery_byte: true,
    leave_signature: false,
};

/// Checks the body of a `/verify` or `/settle` call at `now` (Unix seconds). `None` if it is not a
/// call, which is answered 400.
pub(crate) fn judge(body: &[u8], now: u64) -> Option<Judged> {
    match PaymentCall::read(body) {
        Ok(call) => {
            let verdict = judge_payment(&call, now);
            Some(Judged { payer: call.payment.payer(), network: call.network, verdict })
        }
        Err(CallError::NoCall) => None,
        Err(CallError::Unusable { network, payer, code }) => {
            Some(Judged { network, payer, verdict: Err(code) })
        }
    }
}

fn judge_payment(call: &PaymentCall, now: u64) -> Result<Transfer, &'static str> {
    let PaymentCall { payment, option, .. } = call;
    check_domain(option)?;
    judge_terms(payment, option, &POLICY, now).map_err(|refused| refused.code)?;
    let signed = authenticate(payment, option, &POLICY).map_err(|refused| refused.code)?;
    if !matches(payment, option) {
        return Err("invalid_payment_requirements");
    }
    Ok(Transfer {
        key: PaymentKey::of(payment, option).ok_or("invalid_payload")?,
        asset: option.asset,
        pay_to: option.pay_to,
        amount: option.amount,
        signature: signed.forward_signature,
    })
}

/// Checks the domain of a known token, because its contract would refuse another one.
fn check_domain(option: &PaymentOption) -> Result<(), &'static str> {
    let known = asset_by_address(&option.network, &option.asset).filter(|asset| !asset.disputed);
    match known {
        Some(asset) if option.transfer_method == TransferMethod::Eip3009 => {
            if option.eip712_name != asset.eip712_name {
                return Err("invalid_exact_evm_token_name_mismatch");
            }
            if option.eip712_version != asset.eip712_version {
                return Err("invalid_exact_evm_token_version_mismatch");
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

// === impl Transfer ===

impl Transfer {
    /// The code of a used nonce.
    pub(crate) fn nonce_used_code(&self) -> &'static str {
        if self.key.contract == PERMIT2 {
            "permit2_invalid_nonce"
        } else {
            "invalid_exact_evm_nonce_already_used"
        }
    }
}
