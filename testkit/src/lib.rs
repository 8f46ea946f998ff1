//! The programs and helpers of tests, demo and benchmark: real hosts, origins, buyers and one
//! wallet.
//!
//! * [`stack`]: origin, development facilitator, companion and proxy as one running whole.
//! * [`origin`]: the demo upstream, with every kind of answer for a paid route.
//! * [`wallet`]: signs payments, and forges them.
//! * [`facilitator`]: the development facilitator, in this process or another.
//! * [`client`]: the public x402 client, run by Node.
//! * [`page`]: a page in a real browser that buys.
//! * [`node`]: the scripts that run by Node.
//! * [`http`]: the HTTP client of all of these.
//! * [`tools`]: pinned programs that are not crates, in a per-user cache.
//! * [`paths`] and [`shell`]: paths of files, and running other programs.
#![forbid(unsafe_code)]

pub mod client;
pub mod facilitator;
pub mod http;
pub mod node;
pub mod origin;
pub mod page;
pub mod paths;
pub mod shell;
pub mod stack;
pub mod tools;
pub mod wallet;
