//! The npm packages: the paying client, and Binaryen, which makes a linked wasm module smaller than the
//! compiler can.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use farebox_core::evm::keccak256;

use super::install;
use crate::{paths, shell};

/// The folder that holds `node_modules` of `xtask/node`, one per content of its lock file.
pub fn node_packages() -> Result<PathBuf> {
    let source = paths::workspace().join("xtask/node");
    let package = std::fs::read(source.join("package.json")).context("xtask/node/package.json")?;
    let lock = std::fs::read(source.join("package-lock.json")).context("xtask/node/package-lock.json")?;
    let hash = keccak256(&[package.as_slice(), &lock].concat());
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    install(&format!("node-{short}"), |dir| {
        for program in ["node", "npm"] {
            if !shell::answers(program, &["--version"]) {
                bail!("{program} was not found; install Node 20 or newer");
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

/// The folder of `wasm-opt` and `wasm-metadce`.
pub fn binaryen() -> Result<PathBuf> {
    Ok(node_packages()?.join("node_modules/.bin"))
}
