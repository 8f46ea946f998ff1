//! `cargo xtask model`

use std::process::ExitCode;

use anyhow::Result;
use farebox_testkit::{paths, shell};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Larger worlds than the tests explore: minutes, and some gigabytes of memory.
    #[arg(long)]
    deep: bool,
    /// Put faults in on purpose, and show for each the shortest history that finds it.
    #[arg(long, conflicts_with = "deep")]
    faults: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = shell::builder(paths::cargo());
    command.args(["run", "--quiet", "--bin", "farebox-model", "--"]);
    command.args(args.deep.then_some("--deep")).args(args.faults.then_some("--faults"));
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
