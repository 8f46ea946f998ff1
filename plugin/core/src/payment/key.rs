//! The key of a payment: (chain, contract, payer, nonce), which a chain accepts only once. Header bytes
//! and signature are not part of it.

use super::bucket::BUCKETS;
use crate::evm::{Address, B256, Network, PERMIT2, TransferMethod, keccak256};
use crate::protocol::Payment;
use crate::terms::PaymentOption;

/// The key of a payment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentKey {
    /// The chain.
    pub network: Network,
    /// The token (EIP-3009) or the Permit2 contract.
    pub contract: Address,
    /// Who pays.
    pub payer: Address,
    /// EIP-3009's nonce, or that of Permit2 as a big-endian word.
    pub nonce: B256,
}

/// The first half of a key's hash. It is short, to save room in shared data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 16]);

// === impl PaymentKey ===

impl PaymentKey {
    /// The key of a payment for this option. `None` for an unreadable proof.
    pub fn of(payment: &Payment, option: &PaymentOption) -> Option<Self> {
        let contract = match option.transfer_method {
            TransferMethod::Eip3009 => option.asset,
            TransferMethod::Permit2 => PERMIT2,
        };
        let (payer, nonce) = (payment.payer()?, payment.nonce()?);
        Some(Self { network: option.network.clone(), contract, payer, nonce })
    }

    /// Its digest.
    pub fn digest(&self) -> KeyDigest {
        let chain = self.network.chain_id().to_be_bytes();
        let mut words = Vec::with_capacity(80);
        for field in [&chain[..], &self.contract.0, &self.payer.0, &self.nonce.0] {
            words.extend_from_slice(field);
        }
        let mut digest = [0; 16];
        for (slot, byte) in digest.iter_mut().zip(keccak256(&words)) {
            *slot = byte;
        }
        KeyDigest(digest)
    }
}

// === impl KeyDigest ===

impl KeyDigest {
    /// The number of its bucket, below [`BUCKETS`].
    pub fn bucket(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d]) % BUCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(chain: &str, contract: u8, payer: u8, nonce: u8) -> KeyDigest {
        let network = Network::from_caip2(chain).unwrap();
        let (contract, payer, nonce) = (Address([contract; 20]), Address([payer; 20]), B256([nonce; 32]));
        PaymentKey { network, contract, payer, nonce }.digest()
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
