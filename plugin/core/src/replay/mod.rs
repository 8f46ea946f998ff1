//! One payment, one service. The key of an authorization and the packed table a shell keeps it in.
//!
//! A shell holds a fixed number of buckets (Envoy: one shared-data entry each, because shared data
//! cannot be deleted). Every change is a pure function from old bytes to new bytes, so the shell only
//! loops on compare-and-swap.

mod bucket;
mod key;

pub use bucket::{Claim, Expired, Limits, Reserve, apply, reserve, sweep};
pub use key::{BUCKETS, ReplayKey};

use crate::evm::keccak256;
use crate::rules::Tuple;

/// What a shell does to a key outside the request path, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// The payment can be used again: nothing was settled.
    Free,
    /// A settle call is about to leave; a crash from here on makes the outcome unknown.
    Settling,
    /// Settled, and the response is on its way.
    Delivering {
        /// Transaction hash of the receipt.
        transaction: String,
    },
    /// Settled and served: never again.
    Delivered,
    /// Settled but not served: one redemption on the same route is owed.
    Owed {
        /// Transaction hash of the receipt.
        transaction: String,
    },
    /// Nobody knows whether money moved.
    Unknown {
        /// Transaction if known.
        transaction: Option<String>,
    },
}

/// The answer to a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// Ours now.
    Fresh,
    /// Another request holds it.
    InFlight,
    /// Used up.
    Delivered,
    /// Seen on another route.
    OtherRoute,
    /// Settled earlier and never served; claimed for this request, which serves it without settling.
    Redeem {
        /// Transaction of the stored receipt.
        transaction: String,
    },
    /// The earlier outcome is unknown; claimed for this request, which repeats the identical settle.
    Unresolved {
        /// Transaction if known.
        transaction: Option<String>,
        /// The record was left in `settling` by a crash, so the unresolved count has not seen it yet.
        first_seen: bool,
    },
    /// The table has no room: fail closed.
    Full,
    /// The table cannot be reached or read: fail closed.
    Unavailable,
}

/// What a reservation binds the key to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// [`crate::rules::Route::binding`] of the route.
    pub route: u32,
    /// [`tuple_hash`] of the metric tuple, to count an expired unknown under the right labels later.
    pub tuple: u32,
}

/// What [`Binding::tuple`] holds: a hash of labels and birth, so that a record of an earlier life of the
/// same labels is not counted in the present one.
pub fn tuple_hash(tuple: &Tuple) -> u32 {
    let mut bytes = Vec::new();
    for label in [&tuple.offer_namespace, &tuple.offer_name, &tuple.chain, &tuple.asset_symbol] {
        bytes.extend_from_slice(label.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(&tuple.born.to_be_bytes());
    let [a, b, c, d, ..] = keccak256(&bytes);
    u32::from_be_bytes([a, b, c, d])
}
