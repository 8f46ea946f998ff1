//! From the body of a call to a transfer that would hold on chain, or the code of a refusal.

use farebox_core::evm::{
    Address, Amount, B256, Network, PERMIT2, TransferMethod, asset_by_address, chain_by_name, v1_name,
};
use farebox_core::protocol::{CheckPolicy, Payment, PaymentError, Version, check, matches};
use farebox_core::rules::{Flow, PaymentOption};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A payment that was found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) network: Network,
    pub(super) asset: Address,
    /// The contract that counts the nonce: the token, or Permit2.
    pub(super) contract: Address,
    pub(super) payer: Address,
    pub(super) pay_to: Address,
    pub(super) amount: Amount,
    pub(super) nonce: B256,
    pub(super) signature: Vec<u8>,
}

/// A call, judged.
#[derive(Debug)]
pub(super) struct Judged {
    /// The network in the spelling of the call's version, for the reply; empty if there is none.
    pub(super) network: String,
    /// The payer the payment claims.
    pub(super) payer: Option<Address>,
    pub(super) verdict: Result<Transfer, &'static str>,
}

/// A contract takes only signatures it can recover itself, with a recovery byte of 27 or 28, and there
/// is no chain here to ask about contract wallets.
const POLICY: CheckPolicy = CheckPolicy {
    clock_skew_seconds: 0,
    defer_mismatch: false,
    defer_undecidable: false,
    strict_recovery_byte: true,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    x402_version: u64,
    #[serde(borrow)]
    payment_payload: &'a RawValue,
    payment_requirements: Requirements,
}

/// Requirements of either version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Requirements {
    scheme: String,
    network: String,
    amount: Option<Amount>,
    max_amount_required: Option<Amount>,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    extra: Option<Extra>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Extra {
    name: String,
    version: String,
    asset_transfer_method: Option<TransferMethod>,
    payment_flow: Option<Flow>,
}

/// Judges the body of a `/verify` or `/settle` call at `now` (Unix seconds). `None` if it is no call at
/// all, which is answered 400.
pub(super) fn judge(body: &[u8], now: u64) -> Option<Judged> {
    let body: Body<'_> = serde_json::from_slice(body).ok()?;
    let payment = match Payment::from_json(body.payment_payload.get(), false) {
        Ok(payment) => payment,
        Err(error) => return Some(unread(&body.payment_requirements, &error)),
    };
    let verdict = judge_payment(&body, &payment, now);
    Some(Judged { network: body.payment_requirements.network, payer: payment.payer(), verdict })
}

fn unread(requirements: &Requirements, error: &PaymentError) -> Judged {
    Judged { network: requirements.network.clone(), payer: None, verdict: Err(error.code()) }
}

fn judge_payment(body: &Body<'_>, payment: &Payment, now: u64) -> Result<Transfer, &'static str> {
    let version = match payment.version {
        Version::V1 => 1,
        Version::V2 => 2,
    };
    if body.x402_version != version {
        return Err("invalid_x402_version");
    }
    let option = option(&body.payment_requirements, payment.version)?;
    let checked = check(payment, &option, &POLICY, now).map_err(|refused| refused.code)?;
    if !matches(payment, &option) {
        return Err("invalid_payment_requirements");
    }
    let nonce = payment.nonce().ok_or("invalid_payload")?;
    Ok(Transfer {
        contract: match option.transfer_method {
            TransferMethod::Eip3009 => option.asset,
            TransferMethod::Permit2 => PERMIT2,
        },
        network: option.network,
        asset: option.asset,
        payer: checked.payer,
        pay_to: option.pay_to,
        amount: option.amount,
        nonce,
        signature: checked.forward_signature,
    })
}

fn option(requirements: &Requirements, version: Version) -> Result<PaymentOption, &'static str> {
    const UNUSABLE: &str = "invalid_payment_requirements";
    if requirements.scheme != "exact" {
        return Err("unsupported_scheme");
    }
    let (network, amount) = match version {
        Version::V1 => (
            chain_by_name(&requirements.network)
                .filter(|network| v1_name(network) == Some(requirements.network.as_str())),
            requirements.max_amount_required,
        ),
        Version::V2 => (Network::from_caip2(&requirements.network), requirements.amount),
    };
    let network = network.ok_or("invalid_network")?;
    let default_extra = Extra::default();
    let extra = requirements.extra.as_ref().unwrap_or(&default_extra);
    let option = PaymentOption {
        tuple: 0,
        v1_network: v1_name(&network).map(str::to_owned),
        network,
        v1_kind: false,
        amount: amount.ok_or(UNUSABLE)?,
        asset: requirements.asset,
        decimals: 0,
        pay_to: requirements.pay_to,
        max_timeout_seconds: requirements.max_timeout_seconds,
        flow: extra.payment_flow.unwrap_or_default(),
        transfer_method: extra.asset_transfer_method.unwrap_or(TransferMethod::Eip3009),
        eip712_name: extra.name.clone(),
        eip712_version: extra.version.clone(),
        gas_sponsoring: false,
        extra: serde_json::Map::new(),
    };
    check_domain(&option)?;
    Ok(option)
}

/// A token whose contract is known to sign under another domain would refuse the transfer.
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
    pub(super) fn nonce_used_code(&self) -> &'static str {
        if self.contract == PERMIT2 {
            "permit2_invalid_nonce"
        } else {
            "invalid_exact_evm_nonce_already_used"
        }
    }
}
