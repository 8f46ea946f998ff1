//! The part of Farebox that decides about money, without a clock, a socket or a host.
//!
//! Inputs are bytes and the current time, outputs are decisions. The same code runs in Envoy's VM, in Traefik's guest
//! and natively in the companion, so a rule about money is written once, here.
//!
//! The modules, from the lowest layer to the highest. Each module imports only from modules above it in this list; a
//! test checks that:
//!
//! * [`evm`]: chains, assets, exact amounts, EIP-712, and the signatures of EIP-3009 and Permit2.
//! * [`terms`]: what is sold, and on which terms.
//! * [`protocol`]: the x402 messages, v1 and v2: challenges, payments, receipts, facilitator replies.
//! * [`rules`]: the companion pushes [`rules::PushedRules`]; a proxy compiles them into the immutable
//!   [`rules::RuleSet`] that matches requests.
//! * [`metrics`]: every metric family, and the names under which a proxy counts for the companion.
//! * [`payment`]: one payment's life: the state machine, and the encoding of its records in shared data.
//! * [`exchange`]: one request's life as a state machine; events in, effects out.
//!
//! `examples/shell.rs` is the smallest shell around this crate.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]

pub mod evm;
pub mod exchange;
pub mod metrics;
pub mod payment;
pub mod protocol;
pub mod rules;
pub mod terms;

mod members;

/// The time of one event, as the shell read it from its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch, the unit of every x402 and EIP-3009 time.
    pub const fn unix_seconds(self) -> u64 {
        self.unix_ms / 1000
    }
}
