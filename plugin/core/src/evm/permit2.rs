//! Permit2 `PermitWitnessTransferFrom` with the x402 exact witness.

use super::eip712::{address_word, hash_words, word};
use super::{Address, Amount, B256};

/// The Permit2 contract, the same on every chain.
pub const PERMIT2: Address = Address::literal(b"0x000000000022D473030F116dDEE9F6B43aC78BA3");
/// The only spender an `exact` payment may name: x402ExactPermit2Proxy.
pub const EXACT_PROXY: Address = Address::literal(b"0x402085c248EeA27D92E8b30b2C58ed07f9E20001");

/// The signed permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermitAuthorization {
    /// Payer; not part of the message, but the expected signer.
    pub from: Address,
    /// Token to be moved.
    pub token: Address,
    /// Atomic units permitted; must equal the price.
    pub amount: Amount,
    /// Contract that may move it.
    pub spender: Address,
    /// Permit2 nonce (decimal on the wire).
    pub nonce: Amount,
    /// Unix seconds.
    pub deadline: Amount,
    /// Recipient named by the witness.
    pub witness_to: Address,
    /// Unix seconds named by the witness.
    pub witness_valid_after: Amount,
}

const TOKEN_PERMISSIONS_TYPE_HASH: [u8; 32] =
    word(*b"618358ac3db8dc274f0cd8829da7e234bd48cd73c4a740aede1adec9846d06a1");
const WITNESS_TYPE_HASH: [u8; 32] =
    word(*b"d97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37");
const PERMIT_TYPE_HASH: [u8; 32] = word(*b"ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7");

/// The EIP-712 struct hash of the permit. A nested struct is included as its hash; `from` is not
/// included.
pub fn permit_witness_transfer_from_hash(permit: &PermitAuthorization) -> B256 {
    let permitted =
        hash_words(&[TOKEN_PERMISSIONS_TYPE_HASH, address_word(&permit.token), permit.amount.to_be_bytes()]);
    let witness = hash_words(&[
        WITNESS_TYPE_HASH,
        address_word(&permit.witness_to),
        permit.witness_valid_after.to_be_bytes(),
    ]);
    hash_words(&[
        PERMIT_TYPE_HASH,
        permitted.0,
        address_word(&permit.spender),
        permit.nonce.to_be_bytes(),
        permit.deadline.to_be_bytes(),
        witness.0,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evm::keccak256;

    #[test]
    fn the_type_hashes_are_those_of_their_types() {
        let permissions = "TokenPermissions(address token,uint256 amount)";
        let witness = "Witness(address to,uint256 validAfter)";
        let permit = format!(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,\
             uint256 deadline,Witness witness){permissions}{witness}"
        );
        assert_eq!(TOKEN_PERMISSIONS_TYPE_HASH, keccak256(permissions.as_bytes()));
        assert_eq!(WITNESS_TYPE_HASH, keccak256(witness.as_bytes()));
        assert_eq!(PERMIT_TYPE_HASH, keccak256(permit.as_bytes()));
    }
}
