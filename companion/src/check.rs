//! `farebox check FILE`: every error of a pricing file at once.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `farebox check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pricing file.
    pub file: PathBuf,
}

/// Prints what loading the file finds. Exit code 0: usable, 1: rejected.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("check is not available yet ({})", args.file.display())
}
