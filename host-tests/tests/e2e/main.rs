//! Farebox end to end: a real Envoy with two workers, the companion, the development facilitator and an
//! origin. Every test starts a stack of its own on free ports.
//!
//! * [`accounting`]: a scripted run, and every metric series against the script's own tally.
//! * [`labels`]: the chain of a route, however it was spelled.
//! * [`concurrency`]: one payment, one service, across workers and spellings.
//! * [`clients`]: public clients, our own requirement, streams and large bodies.
#![forbid(unsafe_code)]

mod accounting;
mod clients;
mod concurrency;
mod labels;
mod support;
