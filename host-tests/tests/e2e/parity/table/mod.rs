//! The table: every row of the contract's flow table, both versions of the protocol and both flows.

mod before;
mod facilitator;
mod life;
mod payment;
mod reload;
mod trouble;
mod upstream;

use super::case::Case;

/// The cases of a complete shop, in their order.
pub(super) fn shop() -> Vec<Case> {
    [
        before::payment_stage(),
        before::no_payment(),
        payment::no_payment_at_all(),
        payment::bad(),
        payment::good(),
        life::used(),
        life::purchases(),
        life::junk(),
        upstream::failing(),
        upstream::failing_after_the_charge(),
        upstream::streaming(),
        facilitator::verifying(),
        facilitator::settling(),
        life::open(),
        upstream::clients_that_leave(),
        reload::rules_that_change(),
        life::late(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The cases of a shop whose facilitator does not say what it supports, with `unmatched: pass`.
pub(super) use before::facilitator_not_ready as unready;

/// The cases of a shop with an upstream that has a second to answer, and a database that becomes
/// unreachable.
pub(super) use trouble::upstream_and_ledger as trouble;
