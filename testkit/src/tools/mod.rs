//! Programs that are not crates of the workspace, one folder per tool and version in the per-user cache. Every
//! function returns the place of the tool, and fetches a missing tool before.
//!
//! All of them are in one table, [`TOOLS`], which `cargo xtask tools` prints and `cargo xtask test` fetches. A version
//! is pinned only where the source keeps it:
//!
//! * PyPI, npm, crates.io and the server of the Rust project keep every version. So one version is pinned, with its
//!   dependencies by lock files.
//! * A distribution keeps one build of a package. For Prometheus the usable releases are stated; for nginx and
//!   Chromium any version is usable.
//! * A program on the PATH is used if its version does not matter (cargo-nextest, nginx, Chromium) or is usable
//!   (Prometheus).
//!
//! [`Tool::gone`] is the remedy if a source no longer has its tool. Every error has it.

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

/// Time limit for a question to a registry.
const ASK_LIMIT: Duration = Duration::from_secs(20);
