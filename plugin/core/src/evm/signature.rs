//! Signatures: which of them can be checked without a chain, and recovery of the signer.

use k256::ecdsa::{RecoveryId, Signature, VerifyingKey};
use sha3::{Digest, Keccak256};

use super::{Address, B256};

/// What kind of signature the bytes are, and so whether it can be checked without a chain.
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
    /// 65 bytes with r or s zero or out of range, or s above half the order. Tokens revert on these,
    /// while some off-chain checks accept them: a payment that verifies and then fails to settle.
    Malformed,
    /// 65 bytes in range whose recovery byte is none of an account: a forgery, or a contract wallet's own format.
    ForeignRecoveryByte,
    /// ERC-6492: the wallet may not be deployed yet.
    Undeployed,
    /// Any other length: a contract wallet's own format. Also the 64 bytes of EIP-2098, which tokens
    /// refuse for accounts without code.
    Contract,
}

/// The 32 bytes an ERC-6492 signature ends with.
const ERC_6492_SUFFIX: [u8; 32] = [
    0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64,
    0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92, 0x64, 0x92,
];

/// keccak-256.
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// Sorts signature bytes into a class. Pure; recovers nothing.
pub fn classify(signature: &[u8]) -> SignatureClass {
    if signature.ends_with(&ERC_6492_SUFFIX) {
        return SignatureClass::Undeployed;
    }
    let Some((rs, &[v])) = signature.split_first_chunk::<64>() else { return SignatureClass::Contract };
    // Parsing checks that r and s are in 1..n.
    match Signature::from_slice(rs) {
        Ok(parsed) if !bool::from(k256::elliptic_curve::scalar::IsHigh::is_high(&*parsed.s())) => {}
        _ => return SignatureClass::Malformed,
    }
    match v {
        0 | 1 => SignatureClass::Recoverable { rs: *rs, v: v + 27, rewritten: true },
        27 | 28 => SignatureClass::Recoverable { rs: *rs, v, rewritten: false },
        _ => SignatureClass::ForeignRecoveryByte,
    }
}

/// The 65-byte form of a 64-byte signature of EIP-2098. Use it only to compare signatures: the 64 bytes are sent on
/// unchanged, because a contract wallet may have its own format of 64 bytes.
pub fn expanded(signature: &[u8]) -> Option<[u8; 65]> {
    let compact: &[u8; 64] = signature.try_into().ok()?;
    let mut full = [0; 65];
    full[..64].copy_from_slice(compact);
    full[32] &= 0x7f;
    full[64] = 27 + (compact[32] >> 7);
    Some(full)
}

/// The address whose key made the signature over the digest, or `None` if there is none. `v` is 27 or 28.
pub fn recover(digest: &B256, rs: &[u8; 64], v: u8) -> Option<Address> {
    let signature = Signature::from_slice(rs).ok()?;
    let parity = RecoveryId::from_byte(v.checked_sub(27)?).filter(|id| !id.is_x_reduced())?;
    let key = VerifyingKey::recover_from_prehash(&digest.0, &signature, parity).ok()?;
    let point = key.to_sec1_point(false);
    // Uncompressed SEC1: one tag byte, then the 64 bytes that Ethereum hashes.
    let (_, xy) = point.as_bytes().split_first()?;
    keccak256(xy).last_chunk::<20>().map(|tail| Address(*tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// secp256k1 n/2, rounded down: the largest s a token accepts.
    const HALF_ORDER: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";
    const ABOVE_HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1";
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";
    const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn class(r: &str, s: &str, v: &str) -> SignatureClass {
        classify(&crate::evm::from_hex(&format!("0x{r}{s}{v}")).unwrap())
    }

    #[test]
    fn s_may_reach_half_the_order_and_no_further() {
        assert!(matches!(class(ONE, HALF_ORDER, "1b"), SignatureClass::Recoverable { v: 27, .. }));
        assert_eq!(class(ONE, ABOVE_HALF, "1b"), SignatureClass::Malformed);
    }

    #[test]
    fn zero_and_out_of_range_words_are_malformed() {
        assert_eq!(class(ZERO, ONE, "1b"), SignatureClass::Malformed);
        assert_eq!(class(ONE, ZERO, "1b"), SignatureClass::Malformed);
        assert_eq!(class(ORDER, ONE, "1b"), SignatureClass::Malformed);
        assert_eq!(class(ONE, ORDER, "1b"), SignatureClass::Malformed);
    }

    #[test]
    fn recovery_bytes_0_and_1_are_raised_to_27_and_28() {
        for (byte, v, rewritten) in [("00", 27, true), ("01", 28, true), ("1b", 27, false), ("1c", 28, false)]
        {
            let SignatureClass::Recoverable { v: found, rewritten: was, .. } = class(ONE, ONE, byte) else {
                panic!("{byte}");
            };
            assert_eq!((found, was), (v, rewritten), "{byte}");
        }
        for byte in ["02", "1a", "1d", "1f", "ff"] {
            assert_eq!(class(ONE, ONE, byte), SignatureClass::ForeignRecoveryByte, "{byte}");
        }
    }

    #[test]
    fn other_lengths_are_a_contract_wallets_own_business() {
        for length in [0, 1, 64, 66, 130] {
            assert_eq!(classify(&vec![1; length]), SignatureClass::Contract, "{length}");
        }
    }

    #[test]
    fn the_erc_6492_suffix_is_seen_at_any_length() {
        for prefix in [0, 1, 33, 640] {
            let mut bytes = vec![1; prefix];
            bytes.extend(ERC_6492_SUFFIX);
            assert_eq!(classify(&bytes), SignatureClass::Undeployed, "{prefix}");
        }
    }

    #[test]
    fn recovery_of_nothing_is_nothing() {
        let digest = B256([7; 32]);
        assert_eq!(recover(&digest, &[0; 64], 27), None);
        assert_eq!(recover(&digest, &[1; 64], 26), None);
        assert_eq!(recover(&digest, &[1; 64], 29), None);
    }
}
