//! The npm packages of the paying client.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use farebox_core::evm::keccak256;

use super::install;
use crate::{paths, shell};

/// The folder that holds `node_modules` of `xtask/client`, one per content of its lock file.
pub fn client_modules() -> Result<PathBuf> {
    let source = paths::workspace().join("xtask/client");
    let package = std::fs::read(source.join("package.json")).context("xtask/client/package.json")?;
    let lock = std::fs::read(source.join("package-lock.json")).context("xtask/client/package-lock.json")?;
    let hash = keccak256(&[package.as_slice(), &lock].concat());
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    install(&format!("client-{short}"), |dir| {
        for program in ["node", "npm"] {
            if !shell::answers(program, &["--version"]) {
                bail!(
                    "{program} is needed for the paying client and was not found; install Node 20 or newer"
                );
            }
        }
        std::fs::write(dir.join("package.json"), &package)?;
        std::fs::write(dir.join("package-lock.json"), &lock)?;
        shell::run(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
                .current_dir(dir),
        )
    })
}
