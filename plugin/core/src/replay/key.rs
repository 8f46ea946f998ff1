//! The replay key: (chain, contract, payer, nonce), never header bytes or the signature.

use crate::evm::{Address, B256, Network};

/// How many buckets a shell keeps.
pub const BUCKETS: u32 = 4096;

/// Hash of a normalised (chain id, contract, payer, nonce).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayKey(pub [u8; 16]);

impl ReplayKey {
    /// `contract` is the token (EIP-3009) or the Permit2 contract.
    pub fn new(network: &Network, contract: &Address, payer: &Address, nonce: &B256) -> Self {
        let _ = (network, contract, payer, nonce);
        todo!()
    }
    /// The bucket it lives in, below [`BUCKETS`].
    pub fn bucket(&self) -> u32 {
        todo!()
    }
}
