//! EIP-3009 `TransferWithAuthorization`.

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

/// The EIP-712 struct hash of the authorization.
pub fn transfer_with_authorization_hash(authorization: &Authorization) -> B256 {
    let _ = authorization;
    todo!()
}
