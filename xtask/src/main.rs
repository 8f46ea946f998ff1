//! `cargo xtask`: the developer commands of Farebox. What they start is in `farebox-testkit`.
//!
//! * [`commands`]: one module per command.
//! * [`build`]: the release artefacts and what is asserted about them.
//! * [`links`]: whether the links of the documents lead somewhere.
//! * [`alerts`]: the Prometheus rules an operator loads, and their unit tests.
#![forbid(unsafe_code)]

mod alerts;
mod build;
mod commands;
mod links;

use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
