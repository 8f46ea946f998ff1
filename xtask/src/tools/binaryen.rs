//! Binaryen, which makes a linked wasm module smaller than the compiler can.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::install;
use crate::shell;

const VERSION: &str = "132.0.0";

/// The folder with `wasm-opt` and `wasm-metadce`.
pub fn binaryen() -> Result<PathBuf> {
    let folder = install(&format!("binaryen-{VERSION}"), |dir| {
        for program in ["node", "npm"] {
            if !shell::answers(program, &["--version"]) {
                bail!("{program} is needed to shrink the filter and was not found; install Node 20 or newer");
            }
        }
        shell::run(
            Command::new("npm")
                .args([
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--ignore-scripts",
                    "--loglevel=error",
                    "--prefix",
                ])
                .arg(dir)
                .arg(format!("binaryen@{VERSION}")),
        )
    })?;
    Ok(folder.join("node_modules/.bin"))
}
