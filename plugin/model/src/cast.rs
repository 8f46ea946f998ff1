//! The four payments of the world, and the bodies of their calls.

use std::sync::Arc;

use farebox_core::payment::{Fingerprint, Trust};

use crate::ledger::TICK_MS;

/// A step of time.
pub(crate) type Tick = u8;

/// The payments of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Payment {
    /// The buyer's payment.
    Good,
    /// Another authorization of its nonce: other terms, another window, a good signature.
    Other,
    /// The buyer's authorization with an invalid signature.
    Junk,
    /// Another payment for the same purchase: the same `payment-identifier`, another nonce.
    Second,
}

/// The body of a settle call: its payment, and the request that recorded it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Body {
    pub(crate) payment: Payment,
    pub(crate) written_by: u8,
}

// === impl Payment ===

impl Payment {
    pub(crate) const ALL: [Self; 4] = [Self::Good, Self::Other, Self::Junk, Self::Second];

    /// The nonce of the payment.
    pub(crate) const fn key(self) -> usize {
        match self {
            Self::Good | Self::Other | Self::Junk => 0,
            Self::Second => 1,
        }
    }

    /// The step of time from which the chain refuses the payment.
    pub(crate) const fn ends(self) -> Tick {
        match self {
            Self::Good | Self::Junk => 2,
            Self::Other | Self::Second => 3,
        }
    }

    pub(crate) const fn ends_seconds(self) -> u64 {
        self.ends() as u64 * TICK_MS / 1000
    }

    /// How far the signature can be proven without a facilitator.
    pub(crate) const fn trust(self) -> Trust {
        match self {
            Self::Junk => Trust::Claimed,
            Self::Good | Self::Other | Self::Second => Trust::Proven,
        }
    }

    pub(crate) const fn fingerprint(self) -> Fingerprint {
        Fingerprint([self as u8; 32])
    }
}

// === impl Body ===

impl Body {
    pub(crate) fn bytes(self) -> Arc<[u8]> {
        Arc::from([self.payment as u8, self.written_by])
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [payment, written_by] => {
                Some(Self { payment: Payment::ALL[usize::from(*payment)], written_by: *written_by })
            }
            _ => None,
        }
    }
}
