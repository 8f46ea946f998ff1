//! EIP-712: domain separators and digests.

use super::{Address, B256, Network};

/// A token's EIP-712 domain with name and version (EIP-3009 tokens).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain<'a> {
    /// `name` of the token contract, hashed as UTF-8 bytes.
    pub name: &'a str,
    /// `version` of the token contract.
    pub version: &'a str,
    /// Chain whose id enters the domain.
    pub network: &'a Network,
    /// The token.
    pub verifying_contract: Address,
}

/// keccak256 of the encoded domain.
pub fn domain_separator(domain: &Domain<'_>) -> B256 {
    let _ = domain;
    todo!()
}
/// The domain separator of the Permit2 contract on a chain (its domain has no version).
pub fn permit2_domain_separator(network: &Network) -> B256 {
    let _ = network;
    todo!()
}
/// keccak256(0x19 0x01 ‖ separator ‖ struct hash): what the payer signed.
pub fn typed_data_digest(domain_separator: &B256, struct_hash: &B256) -> B256 {
    let _ = (domain_separator, struct_hash);
    todo!()
}
