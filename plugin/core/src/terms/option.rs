//! One way to pay.

use serde::{Deserialize, Serialize};

use super::Extra;
use crate::evm::{Address, Amount, Network, TransferMethod};

/// One way to pay for a route: the operator's requirement, fully resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentOption {
    /// Index into the tuples of the push.
    pub tuple: usize,
    /// CAIP-2 id.
    pub network: Network,
    /// v1 name of the network; absent where v1 cannot express the option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v1_network: Option<String>,
    /// Whether the facilitator lists the v1 kind of this option, so that a v1 payment is sent on as
    /// v1.
    pub v1_kind: bool,
    /// Atomic units.
    pub amount: Amount,
    /// Token contract.
    pub asset: Address,
    /// Decimals of the asset, for people only.
    pub decimals: u8,
    /// Recipient.
    pub pay_to: Address,
    /// Seconds.
    pub max_timeout_seconds: u64,
    /// When the payment is settled.
    pub flow: Flow,
    /// How the asset moves.
    pub transfer_method: TransferMethod,
    /// EIP-712 domain name of the token; in `extra` on the wire.
    pub eip712_name: String,
    /// EIP-712 domain version of the token; in `extra` on the wire.
    pub eip712_version: String,
    /// Whether the asset supports permits without gas: then the challenge has
    /// `eip2612GasSponsoring`.
    pub gas_sponsoring: bool,
    /// Further members of `extra` (agentSkills, agentRuntime).
    #[serde(skip_serializing_if = "Extra::is_empty")]
    pub extra: Extra,
}

/// When settlement happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flow {
    /// verify → upstream → settle.
    #[default]
    Authorization,
    /// settle → upstream.
    Upfront,
}
