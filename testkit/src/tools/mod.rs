//! Programs that are not crates of the workspace, one folder per tool and version in the per-user cache. Every
//! function returns where the tool is, after fetching it if it was missing.
//!
//! All of them are in one table, [`TOOLS`], which `cargo xtask tools` prints and `cargo xtask test` fetches. A version
//! is pinned only where the source keeps it:
//!
//! * PyPI, npm, crates.io and the server of the Rust project keep what they published. Of these one version is
//!   pinned, by lock files with everything it depends on.
//! * A distribution keeps one build of a package. Of Prometheus it is stated which releases will do; of nginx and
//!   Chromium any will.
//! * A program on the PATH is used where its version does not matter (cargo-nextest, nginx, Chromium) or will do
//!   (Prometheus).
//!
//! [`Tool::gone`] is the remedy for the day when a source has its tool no longer. Every error repeats it.

mod apt;
mod cargo_component;
mod cargo_deny;
mod chromium;
mod crates;
mod debian;
mod envoy;
mod fetch;
mod install;
mod nextest;
mod nginx;
mod node;
mod postgres;
mod prometheus;
mod pypi;
mod python;
mod targets;
mod tool;
mod traefik;
mod typos;
mod wasm_bindgen;

use std::time::Duration;

pub use cargo_component::cargo_component;
pub use cargo_deny::cargo_deny;
pub use chromium::chromium;
pub use debian::Program;
pub use envoy::{ENVOY_VERSION, envoy};
pub use fetch::{fetch, fetched};
pub use install::FETCH;
pub use nextest::nextest;
pub use nginx::nginx;
pub use node::{binaryen, node_packages};
pub use postgres::{POSTGRES_PROGRAMS, POSTGRES_VERSION, postgres};
pub use prometheus::{prometheus, promtool};
pub use python::python_packages;
pub use targets::wasm_targets;
pub use tool::{Here, Source, Tool};
pub use traefik::{TRAEFIK_VERSION, traefik};
pub use typos::typos;
pub use wasm_bindgen::wasm_bindgen_test_runner;

/// All tools. Those that are compiled here come last.
pub const TOOLS: [Tool; 14] = [
    targets::TOOL,
    envoy::TOOL,
    traefik::TOOL,
    postgres::TOOL,
    prometheus::TOOL,
    nginx::TOOL,
    chromium::TOOL,
    node::TOOL,
    python::TOOL,
    typos::TOOL,
    nextest::TOOL,
    cargo_deny::TOOL,
    cargo_component::TOOL,
    wasm_bindgen::TOOL,
];

/// A registry that does not answer a question in this time will not help much.
const ASK_LIMIT: Duration = Duration::from_secs(20);
