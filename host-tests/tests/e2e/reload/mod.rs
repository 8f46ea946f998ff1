//! Reloads in the real Envoy with two workers: what is running is not disturbed, what is removed is gone,
//! what is broken changes nothing, and whoever restarts picks up where it was.

mod broken;
mod buyer;
mod late;
mod load;
mod metrics;
mod pricing;
mod removal;
mod restart;
mod stage;
mod stream;
mod terms;
