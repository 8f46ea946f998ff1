//! The assets Farebox knows, compiled in. Every field can be overridden by the pricing file.

use super::{Address, Network};
use serde::{Deserialize, Serialize};

/// How an `exact` payment moves the asset (`extra.assetTransferMethod`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferMethod {
    /// `transferWithAuthorization` of EIP-3009: the protocol's default.
    Eip3009,
    /// Uniswap's Permit2 with the x402 exact proxy as spender.
    Permit2,
}

/// One row of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// CAIP-2 id of the chain, e.g. `eip155:8453`.
    pub network: &'static str,
    /// Symbol used as the `asset_symbol` label.
    pub symbol: &'static str,
    /// Contract.
    pub address: Address,
    /// Decimals of one whole unit.
    pub decimals: u8,
    /// Default transfer method.
    pub transfer_method: TransferMethod,
    /// EIP-712 domain name of the token contract.
    pub eip712_name: &'static str,
    /// EIP-712 domain version of the token contract.
    pub eip712_version: &'static str,
    /// Whether the token can be permitted without gas (EIP-2612), which the challenge then offers.
    pub gas_sponsoring: bool,
    /// Sources disagree on the domain: the load warns unless the pricing file names it.
    pub disputed: bool,
}

/// The asset used when a route names none: the chain's USDC (contract section 5).
pub fn default_asset(network: &Network) -> Option<&'static Asset> {
    let _ = network;
    todo!()
}
/// A registry asset of a chain by symbol; the symbol's case is ignored.
pub fn asset_by_symbol(network: &Network, symbol: &str) -> Option<&'static Asset> {
    let _ = (network, symbol);
    todo!()
}
/// A registry asset of a chain by contract.
pub fn asset_by_address(network: &Network, address: &Address) -> Option<&'static Asset> {
    let _ = (network, address);
    todo!()
}
