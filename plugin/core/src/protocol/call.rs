//! The body of a `/verify` or `/settle` call, read.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::payment::{Payment, Version};
use super::requirement::SCHEME;
use crate::evm::{Address, Amount, Network, TransferMethod, chain_by_name, v1_name};
use crate::terms::{self, Flow, PaymentOption};

/// A payment and the requirement it is to meet.
#[derive(Debug)]
pub struct PaymentCall {
    /// The payment.
    pub payment: Payment,
    /// The requirement of the call, as an option. It belongs to no loaded rules, so its tuple means
    /// nothing.
    pub option: PaymentOption,
    /// The network in the spelling of the call's version.
    pub network: String,
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The body is not a call.
    NoCall,
    /// The body is a call that no facilitator can serve.
    Unusable {
        /// The network in the call.
        network: String,
        /// The payer in the call.
        payer: Option<Address>,
        /// Protocol code.
        code: &'static str,
    },
}

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

// === impl PaymentCall ===

impl PaymentCall {
    /// Reads a body, and checks only that the required members are there.
    pub fn read(body: &[u8]) -> Result<Self, CallError> {
        let body: Body<'_> = serde_json::from_slice(body).map_err(|_| CallError::NoCall)?;
        let requirements = body.payment_requirements;
        let unusable =
            |payer, code| CallError::Unusable { network: requirements.network.clone(), payer, code };
        let payment = Payment::from_json(body.payment_payload.get(), false)
            .map_err(|error| unusable(None, error.code()))?;
        let version = match payment.version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        if body.x402_version != version {
            return Err(unusable(payment.payer(), "invalid_x402_version"));
        }
        let option =
            option(&requirements, payment.version).map_err(|code| unusable(payment.payer(), code))?;
        Ok(Self { payment, option, network: requirements.network })
    }
}

fn option(requirements: &Requirements, version: Version) -> Result<PaymentOption, &'static str> {
    if requirements.scheme != SCHEME {
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
    Ok(PaymentOption {
        tuple: 0,
        v1_network: v1_name(&network).map(str::to_owned),
        network,
        v1_kind: false,
        amount: amount.ok_or("invalid_payment_requirements")?,
        asset: requirements.asset,
        decimals: 0,
        pay_to: requirements.pay_to,
        max_timeout_seconds: requirements.max_timeout_seconds,
        flow: extra.payment_flow.unwrap_or_default(),
        transfer_method: extra.asset_transfer_method.unwrap_or(TransferMethod::Eip3009),
        eip712_name: extra.name.clone(),
        eip712_version: extra.version.clone(),
        gas_sponsoring: false,
        extra: terms::Extra::default(),
    })
}
