//! What the dependencies bring along, asked of cargo-deny by `deny.toml`, and whether each is compiled once.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use farebox_testkit::{paths, shell, tools};

/// Licences, forbidden crates and sources; and that commands, programs and tests share what is compiled.
pub(super) fn allowed() -> Result<()> {
    deny(&["bans", "licenses", "sources"])?;
    compiled_once()
}

/// Fails if the tests want a dependency with other features than the programs: it would be compiled twice, with all that
/// uses it.
fn compiled_once() -> Result<()> {
    let programs = features(&["--edges", "normal,build"])?;
    let tests = features(&["--edges", "normal,build,dev", "--workspace"])?;
    let twice: Vec<&str> = programs.difference(&tests).map(String::as_str).collect();
    if !twice.is_empty() {
        bail!(
            "compiled once for programs and once more for tests, which want other features; name those in testkit/Cargo.toml:\n  {}",
            twice.join("\n  ")
        );
    }
    Ok(())
}

/// Each package in a part of the tree, with its features.
fn features(part: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = shell::builder(paths::cargo());
    command.args(["tree", "--prefix", "none", "--no-dedupe", "--format", "{p} {f}"]).args(part);
    let tree = shell::capture(&mut command)?;
    Ok(tree.lines().map(str::to_owned).collect())
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
