//! EIP-3009 `TransferWithAuthorization`.

use super::eip712::{address_word, hash_words, word};
use super::{Address, Amount, B256};

/// The signed authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authorization {
    /// Payer.
    pub from: Address,
    /// Recipient; must be the offer's payTo.
    pub to: Address,
    /// Atomic units of the asset.
    pub value: Amount,
    /// Unix seconds; valid when `now >= valid_after`.
    pub valid_after: Amount,
    /// Unix seconds; valid when `now < valid_before`.
    pub valid_before: Amount,
    /// The payer's nonce for this token.
    pub nonce: B256,
}

const TRANSFER_TYPE_HASH: [u8; 32] =
    word(*b"7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267");

/// The EIP-712 struct hash of the authorization.
pub fn transfer_with_authorization_hash(authorization: &Authorization) -> B256 {
    hash_words(&[
        TRANSFER_TYPE_HASH,
        address_word(&authorization.from),
        address_word(&authorization.to),
        authorization.value.to_be_bytes(),
        authorization.valid_after.to_be_bytes(),
        authorization.valid_before.to_be_bytes(),
        authorization.nonce.0,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evm::keccak256;

    #[test]
    fn the_type_hash_is_that_of_its_type() {
        let text = "TransferWithAuthorization(address from,address to,uint256 value,\
                    uint256 validAfter,uint256 validBefore,bytes32 nonce)";
        assert_eq!(TRANSFER_TYPE_HASH, keccak256(text.as_bytes()));
    }
}
