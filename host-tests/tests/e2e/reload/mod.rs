//! Reloads in the real Envoy with two workers: requests under way are not disturbed, removed offers are
//! gone, broken files change nothing, and restarted programs continue.

mod broken;
pub(crate) mod buyer;
mod late;
mod load;
pub(crate) mod metrics;
pub(crate) mod pricing;
mod removal;
mod restart;
pub(crate) mod stage;
mod stream;
mod terms;
