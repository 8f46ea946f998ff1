//! Programs that are published as crates, and compiled here.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::ASK_LIMIT;
use crate::{paths, shell};

/// A crate of crates.io in one version.
pub(super) struct Crate {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

// === impl Crate ===

impl Crate {
    /// Compiles it, with the dependencies it was published with, into `bin` of a folder.
    pub(super) fn build(&self, dir: &Path) -> Result<()> {
        let mut command = cargo();
        command.args(["install", "--locked", self.name, "--version", self.version, "--root"]).arg(dir);
        compile(&mut command, self.name)
    }

    /// Whether crates.io has it. Cargo learns only by fetching whether all of its dependencies are there.
    pub(super) fn ask(&self) -> Result<String> {
        let answer = shell::ask(
            cargo().args(["info", "--quiet"]).arg(format!("{}@{}", self.name, self.version)),
            ASK_LIMIT,
        )?;
        if !describes(&answer, self.version) {
            bail!("crates.io has {} no longer in version {}", self.name, self.version);
        }
        Ok(self.version.to_owned())
    }
}

/// Runs a build of a program that is only used here.
pub(super) fn compile(command: &mut Command, name: &str) -> Result<()> {
    shell::say(format_args!("tools: compiling {name} takes some minutes, once"));
    // Such a program runs for seconds. Optimising it takes longer than it gains.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    command.env("CARGO_PROFILE_RELEASE_LTO", "false");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    shell::run_beside(command, &format!("tools: {name}"))
}

/// Cargo outside the workspace, whose settings are not for other programs.
pub(super) fn cargo() -> Command {
    let mut command = Command::new(paths::cargo());
    command.env_remove("CARGO_TARGET_DIR").env("CARGO_TERM_COLOR", "never").current_dir(std::env::temp_dir());
    command
}

/// Whether `cargo info` describes this version.
fn describes(answer: &str, version: &str) -> bool {
    let described = answer.lines().find_map(|line| line.strip_prefix("version:"));
    described.and_then(|rest| rest.split_whitespace().next()) == Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_is_described_is_read_without_what_is_newer() {
        let answer = "cargo-nextest #test\nA test runner.\nversion: 0.9.143 (latest 0.9.150)\nlicense: MIT\n";
        assert!(describes(answer, "0.9.143"));
        assert!(!describes(answer, "0.9.150"));
        assert!(!describes("license: MIT", "0.9.143"));
    }
}
