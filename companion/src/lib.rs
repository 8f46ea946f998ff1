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

pub mod check;
pub mod cli;
pub mod clock;
pub mod counts;
pub mod explain;
pub mod facilitator;
pub mod gateway;
pub mod handle;
pub mod http;
pub mod ledger;
pub mod loading;
mod paths;
pub mod port;
pub mod publish;
pub mod relay;
pub mod rules;
pub mod run;
pub mod serve;
pub mod settings;

#[cfg(test)]
mod testing;
