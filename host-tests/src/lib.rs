//! The filters under wasmtime and in the real proxies.
//!
//! [`envoy`] is a stateful simulator of Envoy's proxy-wasm host: it runs the real artefact and refuses
//! what Envoy refuses, so that a test can reach states a real proxy shows only by accident (a crash
//! between two host calls, a lost compare-and-swap race, a client that leaves during a settlement).
//! [`traefik`] does the same for Traefik's http-wasm host. [`Dice`] make random histories that can be
//! repeated.

mod dice;
pub mod envoy;
mod memory;
pub mod traefik;

pub use dice::Dice;
