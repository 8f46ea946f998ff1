//! The real filter in a simulated Envoy: everything that a proxy, a facilitator, an upstream or a client
//! can do to it, in one process with a simulated clock.
//!
//! One binary on purpose: linking the wasm engine once is most of what building these tests costs.

mod shop;

mod boot;
mod challenge;
mod client_gone;
mod crash;
mod facilitator;
mod gradual;
mod holds;
mod host_rules;
mod hostile;
mod over;
mod paid;
mod random;
mod reload;
mod replay;
mod reports;
mod twins;
mod upfront;
mod upstream;
