//! cargo-nextest, the test runner.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::install;
use crate::{paths, shell};

const VERSION: &str = "0.9.143";

/// The cargo-nextest program: the one on the PATH if there is one, else the pinned one.
pub fn nextest() -> Result<PathBuf> {
    if shell::answers("cargo-nextest", &["nextest", "--version"]) {
        return Ok(PathBuf::from("cargo-nextest"));
    }
    let folder = install(&format!("cargo-nextest-{VERSION}"), |dir| {
        shell::say("building cargo-nextest from source takes some minutes, once");
        shell::run(
            Command::new(paths::cargo())
                .args(["install", "--locked", "cargo-nextest", "--version", VERSION, "--root"])
                .arg(dir)
                .env_remove("CARGO_TARGET_DIR")
                .current_dir(std::env::temp_dir()),
        )
    })?;
    Ok(folder.join("bin/cargo-nextest"))
}
