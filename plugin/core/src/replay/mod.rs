//! One payment, one service. The key of an authorization and the packed table a shell keeps it in.
//!
//! A shell holds a fixed number of buckets (Envoy: one shared-data entry each, because shared data
//! cannot be deleted). Every change is a pure function from old bytes to new bytes, so the shell only
//! loops on compare-and-swap.

mod bucket;
mod key;
mod record;

pub use bucket::{Claim, Expired, Limits, Reserve, apply, reserve, sweep};
pub use key::{BUCKETS, ReplayKey};

use crate::metrics::{LateResult, Stamp, TupleCounter};
use crate::rules::{RuleSet, Tuple, TupleIndex};

/// A change to a key a request holds. A shell applies them in the order given.
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

/// Stable hash of a tuple's labels (FNV-1a, 32 bit). `born` is left out: a companion that restarts sets
/// it back to 0 although the series lives on.
pub fn tuple_hash(tuple: &Tuple) -> u32 {
    let labels = [&tuple.offer_namespace, &tuple.offer_name, &tuple.chain, &tuple.asset_symbol];
    labels
        .into_iter()
        .flat_map(|label| label.bytes().chain([0xff]))
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// What to count for unknown settlements whose records fell off. Those of offers that are gone count
/// nowhere: their series are gone too.
pub fn expired_stamps(expired: &[Expired], rules: &RuleSet) -> Vec<Stamp> {
    let mut stamps = Vec::new();
    for gone in expired {
        let place = rules.tuples.iter().position(|t| tuple_hash(t) == gone.tuple);
        let Some(tuple) = place.and_then(|p| u32::try_from(p).ok()).map(TupleIndex) else {
            continue;
        };
        if gone.first_seen {
            stamps.push(Stamp::Tuple(tuple, TupleCounter::UnresolvedOpened));
        }
        stamps.push(Stamp::Tuple(tuple, TupleCounter::UnresolvedClosed));
        stamps.push(Stamp::Tuple(tuple, TupleCounter::ResolvedLate(LateResult::Expired)));
    }
    stamps
}
