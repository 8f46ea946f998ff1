//! The WebAssembly targets of the toolchain.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{paths, shell};

const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-unknown-unknown"];

/// Adds the wasm targets to the toolchain where they are missing.
pub fn wasm_targets() -> Result<()> {
    for target in TARGETS {
        let libdir = shell::capture(
            Command::new("rustc")
                .args(["--print", "target-libdir", "--target", target])
                .current_dir(paths::workspace()),
        )?;
        if std::path::Path::new(&libdir).is_dir() {
            continue;
        }
        if !shell::answers("rustup", &["--version"]) {
            bail!("the Rust toolchain has no {target} and there is no rustup to add it; install rustup");
        }
        shell::say(format_args!("adding {target} to the toolchain"));
        shell::run(Command::new("rustup").args(["target", "add", target]).current_dir(paths::workspace()))?;
    }
    Ok(())
}
