//! The record of a payment.

use std::sync::Arc;

use crate::evm::{Address, Amount, B256, expanded, from_hex, keccak256, to_hex};
use crate::protocol::{Payment, Proof, signed_digest};
use crate::terms::{Flow, PaymentOption};

/// The signed data: a hash of the EIP-712 digest and of the signature in its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// What a payment was taken for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// `offer_namespace/offer_name`.
    pub offer: String,
    /// The route's pattern.
    pub route: String,
    /// Token.
    pub asset: Address,
    /// Atomic units.
    pub amount: Amount,
    /// Who is paid.
    pub pay_to: Address,
    /// When it is settled.
    pub flow: Flow,
}

/// The random id of one request with a payment. No other caller can guess it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub [u8; 16]);

/// The right of one request to go on with a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    /// The request that has the right.
    pub holder: Holder,
    /// When its lease ends, Unix milliseconds.
    pub until_ms: u64,
}

/// How far the signature of a reserved payment is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Not proven: a stranger who knows a nonce can send any bytes as a signature that only a chain could check.
    Claimed,
    /// Its signer was recovered.
    Proven,
    /// The facilitator said that the payment is valid.
    Vouched,
}

/// The state of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// A request uses the payment, and nothing was settled.
    Reserved {
        /// That request.
        hold: Hold,
        /// How far its signature is proven.
        trust: Trust,
    },
    /// The settle call of [`Record::epoch`] is under way, or may be.
    Settling {
        /// The request or reconciliation that makes the call. After the lease it no longer waits for the outcome.
        hold: Hold,
        /// Whether a buyer waits for the outcome.
        waits: bool,
    },
    /// No call is under way, and money may have moved.
    Unknown,
    /// Charged, and not answered. With a hold, an answer is under way.
    Owed {
        /// The request that gets the answer.
        hold: Option<Hold>,
    },
    /// Charged, and answered.
    Delivered,
}

/// One payment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Record {
    /// The signed data. `None` in a record of an older ledger.
    pub fingerprint: Option<Fingerprint>,
    /// What it was taken for.
    pub terms: Terms,
    /// The body of every settle call of this payment.
    pub call: Arc<[u8]>,
    /// When the authorization ends, Unix seconds.
    pub ends: u64,
    /// Number of settle calls begun, the current one included.
    pub epoch: u32,
    /// Whether the owed answer was fetched, or is being fetched: this is possible once.
    pub redeemed: bool,
    /// The request whose hold ended before another request fetched the answer. Its own answer may still turn out to be
    /// whole.
    pub before: Option<Holder>,
    /// Transaction of the settlement, if it is known.
    pub transaction: Option<String>,
    /// When it last changed, Unix milliseconds.
    pub since_ms: u64,
    /// The state of the payment.
    pub state: State,
}

// === impl Fingerprint ===

impl Fingerprint {
    /// The fingerprint of a digest and the signature's canonical bytes, which are sent to the facilitator. A 64-byte
    /// signature has the fingerprint of its 65-byte form.
    pub fn new(digest: &B256, signature: &[u8]) -> Self {
        let whole = expanded(signature);
        let signature = whole.as_ref().map_or(signature, |whole| whole);
        Self(keccak256(&[&digest.0[..], signature].concat()))
    }

    /// The fingerprint of a payment whose signature is in canonical form already, as in the body of a facilitator call.
    /// `None` for an unreadable proof.
    pub fn of_canonical(payment: &Payment, option: &PaymentOption) -> Option<Self> {
        Some(Self::new(&signed_digest(payment, option)?, payment.proof.signature()?))
    }
}

// === impl Terms ===

impl Terms {
    /// The terms of a payment for this offer on this route. Asset, amount and payTo are the signed ones and not those of
    /// the option. `None` for an unreadable proof.
    pub fn signed(payment: &Payment, option: &PaymentOption, offer: String, route: String) -> Option<Self> {
        let (asset, amount, pay_to) = match &payment.proof {
            Proof::Eip3009 { authorization, .. } => (option.asset, authorization.value, authorization.to),
            Proof::Permit2 { permit, .. } => (permit.token, permit.amount, permit.witness_to),
            Proof::Unusable(_) => return None,
        };
        let flow = payment.flow().unwrap_or(option.flow);
        Some(Self { offer, route, asset, amount, pay_to, flow })
    }
}

// === impl Holder ===

impl Holder {
    /// Reads the hexadecimal text.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).filter(|_| text.len() == 34)?.try_into().ok().map(Self)
    }
}

impl core::fmt::Display for Holder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

// === impl Hold ===

impl Hold {
    /// Whether the lease still runs.
    pub const fn runs(&self, now_ms: u64) -> bool {
        now_ms < self.until_ms
    }
}

// === impl Record ===

impl Record {
    /// Whether it is unknown if money moved. The payment then counts as unresolved.
    pub const fn is_open(&self) -> bool {
        match self.state {
            State::Unknown => true,
            State::Settling { .. } => self.epoch > 1,
            State::Reserved { .. } | State::Owed { .. } | State::Delivered => false,
        }
    }
    /// Whether money moved.
    pub const fn is_charged(&self) -> bool {
        matches!(self.state, State::Owed { .. } | State::Delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_and_its_compact_form_are_one_payment() {
        let digest = B256([3; 32]);
        for (v, high_bit) in [(27, 0), (28, 0x80)] {
            let (mut whole, mut compact) = ([5; 65], [5; 64]);
            whole[64] = v;
            compact[32] |= high_bit;
            let of = |signature: &[u8]| Fingerprint::new(&digest, signature);
            assert!(of(&whole) == of(&compact), "{v}");
            whole[64] = 55 - v;
            assert!(of(&whole) != of(&compact), "{v}");
        }
        // A contract wallet's own format can have any length.
        assert!(Fingerprint::new(&digest, &[5; 63]) != Fingerprint::new(&digest, &[5; 66]));
    }
}
