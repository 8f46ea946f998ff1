//! The terms against which a payment is checked: an option of the route. A payment that fails the checks of a new
//! one may have been charged before the rules changed, so it is checked against the terms that it was signed for.

use crate::evm::{Address, TransferMethod, asset_by_address, chain_by_name, v1_name};
use crate::protocol::{
    CheckPolicy, Payment, Proof, SignatureTrust, Signed, authenticate, find_match, same_network,
};
use crate::rules::{ChargeIndex, Route, RuleSet, TupleIndex};
use crate::terms::{Flow, PaymentOption};

/// The ways to pay on a route, and those of all other routes.
#[derive(Clone, Copy)]
pub(super) struct Ways<'a> {
    pub(super) rules: &'a RuleSet,
    pub(super) route: &'a Route,
    /// The tuple that counts payments without a matching option.
    pub(super) primary: TupleIndex,
    /// The request asks to switch protocols.
    pub(super) upgrade: bool,
}

/// The option against which a payment is checked.
pub(super) struct Fit {
    pub(super) option: PaymentOption,
    pub(super) charge: ChargeIndex,
    pub(super) tuple: TupleIndex,
    /// Whether a settlement of the payment counts under this charge.
    pub(super) can_settle: bool,
}

/// Most tokens that are tried, because each costs the recovery of a signer.
const MAX_TOKENS: usize = 4;

// === impl Ways ===

impl Ways<'_> {
    /// The option that the payment is for. An upgraded connection can only be paid upfront.
    pub(super) fn find(&self, payment: &Payment) -> Option<Fit> {
        let payable = || {
            let options = self.route.options.iter();
            options.filter(|(option, _)| !self.upgrade || option.flow == Flow::Upfront)
        };
        let place = find_match(payment, payable().map(|(option, _)| option))?;
        let (option, charge) = payable().nth(place)?;
        Some(Fit { tuple: tuple_of(option)?, option: option.clone(), charge: *charge, can_settle: true })
    }
    /// Checks whether a payment that fails as a new one is authentic, and returns it with an option of its signed
    /// terms. Its token is one of this route, of another route, or of the registry, because a token that is not
    /// taken any more may have been paid with before.
    pub(super) fn as_signed(&self, payment: &Payment, policy: &CheckPolicy) -> Option<(Fit, Signed)> {
        let mut deferred = None;
        for fit in self.tokens(payment) {
            let Ok(signed) = authenticate(payment, &fit.option, policy) else { continue };
            if signed.trust == SignatureTrust::Recovered {
                return Some((fit, signed));
            }
            deferred = deferred.or(Some((fit, signed)));
        }
        deferred
    }
    /// The tokens that a payment may be in, each once, as options with the signed terms.
    fn tokens(&self, payment: &Payment) -> Vec<Fit> {
        let (method, token, amount, pay_to) = match &payment.proof {
            Proof::Eip3009 { authorization, .. } => {
                let named =
                    payment.accepted.terms.as_ref().and_then(|terms| Address::parse(&terms.asset).ok());
                (TransferMethod::Eip3009, named, authorization.value, authorization.to)
            }
            Proof::Permit2 { permit, .. } => {
                (TransferMethod::Permit2, Some(permit.token), permit.amount, permit.witness_to)
            }
            Proof::Unusable(_) => return Vec::new(),
        };
        // Version 1 knows no other flow.
        let flow = payment.flow().unwrap_or(Flow::Authorization);
        let may_be_in = |option: &PaymentOption| {
            option.transfer_method == method
                && same_network(&payment.accepted.network, option)
                && token.is_none_or(|token| option.asset == token)
        };
        let sells = |option: &PaymentOption| option.amount == amount && option.pay_to == pay_to;
        let mut fits: Vec<Fit> = Vec::new();
        let mut take = |option: &PaymentOption, charge, tuple, can_settle| {
            if fits.len() < MAX_TOKENS && !fits.iter().any(|fit| same_domain(&fit.option, option)) {
                let option = PaymentOption { amount, pay_to, flow, ..option.clone() };
                fits.push(Fit { option, charge, tuple, can_settle });
            }
            fits.len()
        };
        // Four passes instead of sorting, because sorting would be more code than all the rest here.
        let ranks = [(true, true), (true, false), (false, true), (false, false)];
        let mut found = 0;
        for rank in ranks {
            let ranked = |option: &PaymentOption| (sells(option), option.flow == flow) == rank;
            let ours = self.route.options.iter().filter(|(option, _)| may_be_in(option) && ranked(option));
            for (option, charge) in ours {
                let tuple = tuple_of(option).unwrap_or(self.primary);
                found = take(option, *charge, tuple, sells(option));
            }
        }
        let Some((primary, charge)) = self.route.options.first() else { return fits };
        if found == 0 || token.is_none() {
            for (option, _) in self.rules.routes.iter().flat_map(|route| &route.options) {
                if found < MAX_TOKENS && may_be_in(option) {
                    found = take(option, *charge, self.primary, false);
                }
            }
        }
        if found == 0
            && let Some(option) = token.and_then(|token| known_token(primary, payment, token, method))
        {
            take(&option, *charge, self.primary, false);
        }
        fits
    }
}

/// Makes an option for a token of the registry that no rule names. Only its domain matters.
fn known_token(
    like: &PaymentOption,
    payment: &Payment,
    token: Address,
    transfer_method: TransferMethod,
) -> Option<PaymentOption> {
    let network = chain_by_name(&payment.accepted.network)?;
    let known = asset_by_address(&network, &token)?;
    Some(PaymentOption {
        v1_network: v1_name(&network).map(str::to_owned),
        network,
        asset: token,
        decimals: known.decimals,
        transfer_method,
        eip712_name: known.eip712_name.to_owned(),
        eip712_version: known.eip712_version.to_owned(),
        ..like.clone()
    })
}

/// Whether a signature for one option is also valid for the other.
fn same_domain(one: &PaymentOption, other: &PaymentOption) -> bool {
    let PaymentOption { network, asset, eip712_name, eip712_version, .. } = one;
    (network, asset, eip712_name, eip712_version)
        == (&other.network, &other.asset, &other.eip712_name, &other.eip712_version)
}

pub(super) fn tuple_of(option: &PaymentOption) -> Option<TupleIndex> {
    u32::try_from(option.tuple).ok().map(TupleIndex)
}
