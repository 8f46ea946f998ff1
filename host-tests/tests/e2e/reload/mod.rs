//! Reloads in the real Envoy with two workers: what is running is not disturbed, what is removed is gone,
//! what is broken changes nothing, and whoever restarts picks up where it was.

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
