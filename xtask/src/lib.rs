//! The developer commands of Farebox, and the parts of them that tests use too.
//!
//! * [`origin`]: the demo upstream, with every kind of answer a paid route can meet.
//! * [`commands`]: one module per `cargo xtask` command.
//! * [`payer`]: signs payments, and forges them.
//! * [`client`]: the public x402 client, run by Node.
//! * [`page`]: a page in a real browser that buys.
//! * [`stack`]: origin, development facilitator, companion and Envoy as one running whole.
//! * [`node`]: the scripts that run by Node.
//! * [`http`]: the HTTP client of all of these.
//! * [`alerts`]: the Prometheus rules an operator loads, and their unit tests.
//! * [`build`]: the release artefacts and what is asserted about them.
//! * [`tools`]: pinned programs that are not crates, in a per-user cache.
#![forbid(unsafe_code)]

pub mod alerts;
pub mod build;
pub mod client;
pub mod commands;
pub mod http;
pub mod node;
pub mod origin;
pub mod page;
pub mod paths;
pub mod payer;
pub mod shell;
pub mod stack;
pub mod tools;
