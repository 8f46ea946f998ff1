//! The Farebox companion: owns the pricing rules, pushes them to the proxies, and tells the truth about
//! what they did.
//!
//! A tour along the path of a pricing file:
//!
//! * [`cli`] and [`settings`]: what the operator typed and wrote.
//! * [`rules`] and [`loading`]: the file is watched, loaded and applied by one function.
//! * [`facilitator`]: what the facilitator supports, and how it is called.
//! * [`publish`]: the rules become an Envoy resource, in a file and over gRPC; what each proxy reports confirms them.
//! * [`relay`] and [`ledger`]: payments are settled once, whichever proxy asks. [`gateway`]: a proxy of its own.
//! * [`counts`]: what proxies, gateway and spools report becomes counters of the ledger; series of gone offers go.
//! * [`port`]: the listener of every port, which strangers cannot hold.
//! * [`serve`]: `/metrics`, `/healthz`, `/readyz`, `/status`.
//! * [`run`]: the daemon that ties them together. [`check`] and [`explain`]: the same rules, on the command line.

#![expect(unreachable_pub, reason = "the parts are private, and `pub` marks what other parts may use")]

mod check;
pub mod cli;
mod clock;
mod counts;
mod explain;
mod facilitator;
mod gateway;
mod handle;
mod http;
pub mod ledger;
mod loading;
mod paths;
mod port;
mod publish;
mod relay;
mod rules;
mod run;
mod serve;
mod settings;

#[cfg(test)]
mod testing;
