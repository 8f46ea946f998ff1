//! `farebox explain FILE METHOD PATH`: which rule decides a request, and why.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `farebox explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pricing file.
    pub file: PathBuf,
    /// Request method.
    pub method: String,
    /// Request path, with or without a query.
    pub path: String,
}

/// Prints the rule, price and chain of a request.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("explain is not available yet ({} {})", args.method, args.path)
}
