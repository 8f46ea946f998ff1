//! The replay key: (chain, contract, payer, nonce), never header bytes or the signature.

use crate::evm::{Address, B256, Network, keccak256};

/// How many buckets a shell keeps.
pub const BUCKETS: u32 = 4096;

/// Hash of a normalised (chain id, contract, payer, nonce).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayKey(pub [u8; 16]);

impl ReplayKey {
    /// `contract` is the token (EIP-3009) or the Permit2 contract.
    pub fn new(network: &Network, contract: &Address, payer: &Address, nonce: &B256) -> Self {
        let chain = network.chain_id().to_be_bytes();
        let mut words = Vec::with_capacity(80);
        for field in [&chain[..], &contract.0, &payer.0, &nonce.0] {
            words.extend_from_slice(field);
        }
        let [high, _low] = halves(keccak256(&words));
        Self(high)
    }
    /// The bucket it lives in, below [`BUCKETS`].
    pub fn bucket(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d]) % BUCKETS
    }
}

fn halves(word: [u8; 32]) -> [[u8; 16]; 2] {
    let mut out = [[0; 16]; 2];
    for (slot, byte) in out.as_flattened_mut().iter_mut().zip(word) {
        *slot = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(chain: &str, contract: u8, payer: u8, nonce: u8) -> ReplayKey {
        ReplayKey::new(
            &Network::from_caip2(chain).unwrap(),
            &Address([contract; 20]),
            &Address([payer; 20]),
            &B256([nonce; 32]),
        )
    }

    #[test]
    fn every_part_of_the_key_matters() {
        let keys = [
            key("eip155:8453", 1, 2, 3),
            key("eip155:84532", 1, 2, 3),
            key("eip155:8453", 9, 2, 3),
            key("eip155:8453", 1, 9, 3),
            key("eip155:8453", 1, 2, 9),
            key("eip155:8453", 2, 1, 3),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], key("eip155:8453", 1, 2, 3));
    }

    #[test]
    fn buckets_are_used_evenly() {
        let mut used = std::collections::BTreeSet::new();
        for nonce in 0..=255 {
            let bucket = key("eip155:1", 1, 2, nonce).bucket();
            assert!(bucket < BUCKETS);
            used.insert(bucket);
        }
        assert!(used.len() > 240, "{} of 256 keys in buckets of their own", used.len());
    }
}
