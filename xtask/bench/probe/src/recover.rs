//! Signer recovery: digest and signature in, address out.

use std::hint::black_box;

use farebox_core::evm::{Address, B256, keccak256, recover};
use k256::ecdsa::SigningKey;
use serde_json::{Value, json};

use crate::nanoseconds;

/// A signed digest and who signed it.
struct Signed {
    digest: B256,
    rs: [u8; 64],
    v: u8,
    signer: Address,
}

/// Signatures recovered in turn, so that no branch is learned from one.
const SIGNATURES: u32 = 16;

pub(crate) fn measure(count: u32) -> Result<Value, String> {
    let signed = (1..=SIGNATURES).map(sign).collect::<Result<Vec<_>, _>>()?;
    for each in &signed {
        if recover(&each.digest, &each.rs, each.v) != Some(each.signer) {
            return Err("recovery finds another signer than signed".to_owned());
        }
    }
    let of = |turn: u32| &signed[turn as usize % signed.len()];
    let ours = nanoseconds(count, |turn| {
        let each = of(turn);
        black_box(recover(black_box(&each.digest), &each.rs, each.v));
    });
    #[cfg_attr(not(feature = "libsecp256k1"), expect(unused_mut, reason = "another figure may be added"))]
    let mut figures = json!({ "recover": ours });
    #[cfg(feature = "libsecp256k1")]
    {
        for each in &signed {
            if libsecp256k1::recover(each) != Some(each.signer) {
                return Err("libsecp256k1 finds another signer than signed".to_owned());
            }
        }
        figures["recover_libsecp256k1"] = nanoseconds(count, |turn| {
            black_box(libsecp256k1::recover(black_box(of(turn))));
        });
    }
    Ok(figures)
}

/// Signs without the testkit, because that is not there for WebAssembly, where this runs too.
fn sign(number: u32) -> Result<Signed, String> {
    let digest = keccak256(&number.to_be_bytes());
    let key = SigningKey::from_slice(&keccak256(&digest)).map_err(|error| error.to_string())?;
    let (signature, parity) = key.sign_prehash_recoverable(&digest);
    let point = key.verifying_key().to_sec1_point(false);
    let hash = keccak256(&point.as_bytes()[1..]);
    let mut signer = [0; 20];
    signer.copy_from_slice(&hash[12..]);
    Ok(Signed {
        digest: B256(digest),
        rs: signature.to_bytes().into(),
        v: 27 + parity.to_byte(),
        signer: Address(signer),
    })
}

/// The C library of Bitcoin Core, as the fastest there is.
#[cfg(feature = "libsecp256k1")]
mod libsecp256k1 {
    use farebox_core::evm::{Address, keccak256};
    use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
    use secp256k1::{Message, Secp256k1, VerifyOnly};

    use super::Signed;

    thread_local! {
        static CONTEXT: Secp256k1<VerifyOnly> = Secp256k1::verification_only();
    }

    pub(super) fn recover(signed: &Signed) -> Option<Address> {
        let parity = RecoveryId::try_from(i32::from(signed.v) - 27).ok()?;
        let signature = RecoverableSignature::from_compact(&signed.rs, parity).ok()?;
        let message = Message::from_digest(signed.digest.0);
        let key = CONTEXT.with(|context| context.recover_ecdsa(message, &signature)).ok()?;
        let point = key.serialize_uncompressed();
        keccak256(point.get(1..)?).last_chunk::<20>().map(|tail| Address(*tail))
    }
}
