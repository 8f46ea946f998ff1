//! Permit2 `PermitWitnessTransferFrom` with the x402 exact witness.

use super::{Address, Amount, B256};

/// The Permit2 contract, the same on every chain.
pub const PERMIT2: Address = Address([0; 20]);
/// The only spender an `exact` payment may name: x402ExactPermit2Proxy.
pub const EXACT_PROXY: Address = Address([0; 20]);

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

/// The EIP-712 struct hash of the permit.
pub fn permit_witness_transfer_from_hash(permit: &PermitAuthorization) -> B256 {
    let _ = permit;
    todo!()
}
