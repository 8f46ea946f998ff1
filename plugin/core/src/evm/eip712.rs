//! EIP-712: domain separators and digests.

use super::permit2::PERMIT2;
use super::{Address, Amount, B256, Network, keccak256};

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

/// keccak256 of the type with name, version, chainId and verifyingContract.
const DOMAIN_TYPE_HASH: [u8; 32] = word(*b"8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");
/// keccak256 of the type without version.
const DOMAIN_WITHOUT_VERSION_TYPE_HASH: [u8; 32] =
    word(*b"8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a866");

/// keccak256 of the encoded domain.
pub fn domain_separator(domain: &Domain<'_>) -> B256 {
    hash_words(&[
        DOMAIN_TYPE_HASH,
        keccak256(domain.name.as_bytes()),
        keccak256(domain.version.as_bytes()),
        Amount::from_u64(domain.network.chain_id()).to_be_bytes(),
        address_word(&domain.verifying_contract),
    ])
}

/// The domain separator of the Permit2 contract on a chain (its domain has no version).
pub fn permit2_domain_separator(network: &Network) -> B256 {
    hash_words(&[
        DOMAIN_WITHOUT_VERSION_TYPE_HASH,
        keccak256(b"Permit2"),
        Amount::from_u64(network.chain_id()).to_be_bytes(),
        address_word(&PERMIT2),
    ])
}

/// keccak256(0x19 0x01 ‖ separator ‖ struct hash), the digest that the payer signs.
pub fn typed_data_digest(domain_separator: &B256, struct_hash: &B256) -> B256 {
    let message: Vec<u8> = [0x19, 0x01].into_iter().chain(domain_separator.0).chain(struct_hash.0).collect();
    B256(keccak256(&message))
}

/// keccak256 of the words in order: a struct hash, or a domain.
pub(super) fn hash_words(words: &[[u8; 32]]) -> B256 {
    B256(keccak256(words.as_flattened()))
}

/// An address as EIP-712 word: padded on the left.
pub(super) fn address_word(address: &Address) -> [u8; 32] {
    let mut word = [0; 32];
    for (to, from) in word.iter_mut().skip(12).zip(address.0) {
        *to = from;
    }
    word
}

/// Reads a hash literal at compile time; a bad literal does not compile.
#[expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "only evaluated in constants, where both are compile errors"
)]
pub(super) const fn word(digits: [u8; 64]) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = match super::hex::decode_pair([digits[at * 2], digits[at * 2 + 1]]) {
            Some(byte) => byte,
            None => panic!("not a hex digit"),
        };
        at += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_hashes_are_those_of_their_types() {
        assert_eq!(
            DOMAIN_TYPE_HASH,
            keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
        );
        assert_eq!(
            DOMAIN_WITHOUT_VERSION_TYPE_HASH,
            keccak256(b"EIP712Domain(string name,uint256 chainId,address verifyingContract)")
        );
    }
}
