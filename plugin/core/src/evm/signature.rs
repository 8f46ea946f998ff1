//! Signatures: which can be decided without a chain, and signer recovery.

use super::{Address, B256};

/// What the bytes of a signature allow to be decided here (x402 reference section 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureClass {
    /// 65 bytes with canonical r, s and v: recovery decides. `v` is normalised to 27 or 28.
    Recoverable {
        /// r ‖ s.
        rs: [u8; 64],
        /// 27 or 28.
        v: u8,
        /// Whether the byte on the wire was 0 or 1 and has to be rewritten for the facilitator.
        rewritten: bool,
    },
    /// 65 bytes that no valid ECDSA signature of a token can have (high s, zero, s or r out of range, other v).
    Malformed,
    /// ERC-6492: the wallet may not be deployed yet.
    Undeployed,
    /// Any other length: a contract wallet's own format.
    Contract,
}

/// keccak-256.
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    let _ = bytes;
    todo!()
}
/// Sorts signature bytes into a class. Pure; recovers nothing.
pub fn classify(signature: &[u8]) -> SignatureClass {
    let _ = signature;
    todo!()
}
/// The address whose key made the signature over the digest, or `None` if there is none.
pub fn recover(digest: &B256, rs: &[u8; 64], v: u8) -> Option<Address> {
    let _ = (digest, rs, v);
    todo!()
}
