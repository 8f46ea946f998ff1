//! What the dependencies bring along, asked of cargo-deny by `deny.toml`.

use std::process::{Command, ExitCode};

use anyhow::Result;
use farebox_testkit::{paths, shell, tools};

/// Licences, forbidden crates and sources.
pub(super) fn allowed() -> Result<()> {
    deny(&["bans", "licenses", "sources"])
}

/// `cargo xtask advisories`: known faults. Apart from the tests, because the answer changes without a change here, and
/// because the database is a repository of another server, which not every machine reaches.
pub(super) fn advisories() -> Result<ExitCode> {
    deny(&["advisories"])?;
    Ok(ExitCode::SUCCESS)
}

fn deny(checks: &[&str]) -> Result<()> {
    let mut command = Command::new(tools::cargo_deny()?);
    shell::run(command.args(["--workspace", "check"]).args(checks).current_dir(paths::workspace()))
}
