//! The Farebox companion: owns the pricing rules, pushes them to the proxies, and shows what the proxies did.
//!
//! The parts, along the path of a pricing file:
//!
//! * [`cli`] and [`settings`]: the command line and the settings file.
//! * [`rules`] and [`loading`]: the file is watched, loaded and applied by one function.
//! * [`facilitator`]: what the facilitator supports, and how it is called.
//! * [`publish`]: the rules become an Envoy resource, in a file and over gRPC; what each proxy reports confirms them.
//! * [`relay`] and [`ledger`]: each payment is settled once, for all proxies. [`gateway`]: the companion as a proxy.
//! * [`counts`]: reports of proxies, gateway and spools become counters of the ledger; series of removed offers are
//!   dropped.
//! * [`port`]: the listener of every port, with limits against strangers.
//! * [`serve`]: `/metrics`, `/healthz`, `/readyz`, `/status`.
//! * [`run`]: the daemon that starts and connects the parts. [`check`] and [`explain`]: the same rules, on the
//!   command line.

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
