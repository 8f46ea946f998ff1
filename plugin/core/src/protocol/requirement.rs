//! Our own requirement on the wire: one payment option as an `accepts` entry of either version.

use serde::Serialize;

use crate::evm::{Address, Amount, Network, TransferMethod, chain_by_name, chain_name, v1_name};
use crate::terms::{Extra, Flow, PaymentOption};

/// The only scheme that Farebox can check.
pub(super) const SCHEME: &str = "exact";

/// The `mimeType` of every challenge.
pub(super) const MIME_TYPE: &str = "application/json";

/// A v2 requirement: an `accepts` entry, the `accepted` a facilitator sees, its `paymentRequirements`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requirement<'a> {
    scheme: &'static str,
    network: &'a str,
    amount: Amount,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    extra: Extra,
}

/// A v1 requirement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct V1Requirement<'a> {
    scheme: &'static str,
    network: &'a str,
    max_amount_required: Amount,
    resource: &'a str,
    description: &'a str,
    mime_type: &'static str,
    pay_to: Address,
    max_timeout_seconds: u64,
    asset: Address,
    extra: TokenDomain<'a>,
}

#[derive(Debug, Serialize)]
struct TokenDomain<'a> {
    name: &'a str,
    version: &'a str,
}

// === impl Requirement ===

impl<'a> Requirement<'a> {
    /// Makes the requirement with the canonical CAIP-2 network.
    pub(super) fn new(option: &'a PaymentOption) -> Self {
        Self::on(option, option.network.as_str())
    }

    /// Makes the copy with the chain's plain name, for buyers that know only names.
    pub(super) fn legacy(option: &'a PaymentOption) -> Option<Self> {
        chain_name(&option.network).map(|name| Self::on(option, name))
    }

    fn on(option: &'a PaymentOption, network: &'a str) -> Self {
        Self {
            scheme: SCHEME,
            network,
            amount: option.amount,
            asset: option.asset,
            pay_to: option.pay_to,
            max_timeout_seconds: option.max_timeout_seconds,
            extra: extra(option),
        }
    }
}

// === impl V1Requirement ===

impl<'a> V1Requirement<'a> {
    /// Makes the v1 requirement. `None` if v1 cannot express the option: v1 has no Permit2, only the
    /// flow `authorization`, and only networks with a v1 name.
    pub(super) fn new(option: &'a PaymentOption, resource: &'a str, description: &'a str) -> Option<Self> {
        let network = option.v1_network.as_deref()?;
        if option.transfer_method != TransferMethod::Eip3009 || option.flow != Flow::Authorization {
            return None;
        }
        Some(Self {
            scheme: SCHEME,
            network,
            max_amount_required: option.amount,
            resource,
            description,
            mime_type: MIME_TYPE,
            pay_to: option.pay_to,
            max_timeout_seconds: option.max_timeout_seconds,
            asset: option.asset,
            extra: TokenDomain { name: &option.eip712_name, version: &option.eip712_version },
        })
    }
}

/// Whether a network as a client or a facilitator wrote it (CAIP-2 id, name, alias or v1 name) is the
/// option's.
pub fn same_network(text: &str, option: &PaymentOption) -> bool {
    text == option.network.as_str()
        || option.v1_network.as_deref() == Some(text)
        || v1_name(&option.network) == Some(text)
        || resolves_to(text, &option.network)
}

/// Whether an address as a client wrote it is the one of ours; letter case never matters.
pub(super) fn same_address(text: &str, address: &Address) -> bool {
    Address::parse(text).is_ok_and(|parsed| parsed == *address)
}

fn resolves_to(text: &str, network: &Network) -> bool {
    chain_by_name(text).is_some_and(|resolved| resolved == *network)
}

/// Makes `extra`. The operator's members come first, so that they cannot replace members of the
/// protocol.
fn extra(option: &PaymentOption) -> Extra {
    let mut extra = option.extra.clone();
    extra.set("name", &option.eip712_name);
    extra.set("version", &option.eip712_version);
    extra.set("assetTransferMethod", option.transfer_method.as_str());
    match option.flow {
        // The default flow is left out, because older clients refuse unknown flows.
        Flow::Authorization => extra.remove("paymentFlow"),
        Flow::Upfront => extra.set("paymentFlow", "upfront"),
    }
    extra
}
