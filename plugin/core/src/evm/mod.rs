//! The parts of an EVM payment: chains, assets, exact amounts and signatures.

mod address;
mod amount;
mod assets;
mod chain;
mod eip3009;
mod eip712;
mod hex;
mod permit2;
mod signature;

pub use address::{Address, B256, HexError};
pub use amount::{Amount, AmountError, PriceError};
pub use assets::{Asset, TransferMethod, asset_by_address, asset_by_symbol, assets, default_asset};
pub use chain::{Network, chain_by_name, chain_name, is_named_chain, named_chains, v1_name};
pub use eip712::{Domain, domain_separator, permit2_domain_separator, typed_data_digest};
pub use eip3009::{Authorization, transfer_with_authorization_hash};
pub use hex::{from_hex, to_hex};
pub use permit2::{EXACT_PROXY, PERMIT2, PermitAuthorization, permit_witness_transfer_from_hash};
pub use signature::{SignatureClass, classify, expanded, keccak256, recover};
