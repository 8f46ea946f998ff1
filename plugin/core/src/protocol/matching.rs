//! Which option of the route a payment is for.

use super::payment::{Payment, Proof};
use super::requirement::{SCHEME, same_address, same_network};
use crate::evm::TransferMethod;
use crate::terms::{Flow, PaymentOption};

/// Whether a payment names this option: scheme and network (aliases resolved), and for v2 also amount
/// (as text), asset, payTo and flow; addresses in any letter case. `extra` and `maxTimeoutSeconds` may
/// differ: buyers with payments signed in advance carry older copies, and the facilitator checks
/// against our own entry. For terms that v1 does not name, see [`super::check`].
pub fn matches(payment: &Payment, option: &PaymentOption) -> bool {
    let accepted = &payment.accepted;
    if accepted.scheme != SCHEME || !same_network(&accepted.network, option) {
        return false;
    }
    let Some(terms) = &accepted.terms else { return option.flow == Flow::Authorization };
    terms.amount == option.amount.to_string()
        && same_address(&terms.asset, &option.asset)
        && same_address(&terms.pay_to, &option.pay_to)
        && payment.flow() == Some(option.flow)
}

/// The option that a payment has to fulfil. Of the options that match, this is the first whose terms
/// the signed part meets, so that a route may offer one network twice (two assets in v1, two transfer
/// methods). If there is none, it is the first that matches.
pub fn find_match<'a>(
    payment: &Payment,
    options: impl IntoIterator<Item = &'a PaymentOption>,
) -> Option<usize> {
    let mut first = None;
    for (index, option) in options.into_iter().enumerate() {
        if matches(payment, option) {
            if proof_fits(&payment.proof, option) {
                return Some(index);
            }
            first = first.or(Some(index));
        }
    }
    first
}

fn proof_fits(proof: &Proof, option: &PaymentOption) -> bool {
    match proof {
        Proof::Eip3009 { authorization, .. } => {
            option.transfer_method == TransferMethod::Eip3009
                && authorization.value == option.amount
                && authorization.to == option.pay_to
        }
        Proof::Permit2 { permit, .. } => {
            option.transfer_method == TransferMethod::Permit2
                && permit.token == option.asset
                && permit.amount == option.amount
                && permit.witness_to == option.pay_to
        }
        Proof::Unusable(_) => false,
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
