//! The runner that executes wasm tests in Node.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install;
use crate::{paths, shell};

const VERSION: &str = "0.2.130";

/// `wasm-bindgen-test-runner`.
pub fn wasm_bindgen_test_runner() -> Result<PathBuf> {
    let lock = std::fs::read_to_string(paths::workspace().join("Cargo.lock")).context("no Cargo.lock")?;
    must_match(&lock)?;
    if !shell::answers("node", &["--version"]) {
        bail!("node is needed to run the wasm tests and was not found; install Node 20 or newer");
    }
    let folder = install(&format!("wasm-bindgen-cli-{VERSION}"), build)?;
    Ok(folder.join("bin/wasm-bindgen-test-runner"))
}

fn build(dir: &Path) -> Result<()> {
    // Not --locked: the lock file inside the published crate names a release that is no longer served.
    shell::run(
        Command::new(paths::cargo())
            .args(["install", "wasm-bindgen-cli", "--version", VERSION, "--root"])
            .arg(dir)
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(std::env::temp_dir()),
    )
}

/// The runner only reads modules of exactly its own wasm-bindgen.
fn must_match(lock: &str) -> Result<()> {
    let found = lock
        .split("[[package]]")
        .find(|entry| entry.trim_start().starts_with("name = \"wasm-bindgen\"\n"))
        .and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("version = ")))
        .map(|version| version.trim_matches('"'));
    match found {
        Some(VERSION) => Ok(()),
        Some(other) => bail!(
            "Cargo.lock has wasm-bindgen {other} but the test runner is {VERSION}: \
             run `cargo update -p wasm-bindgen --precise {VERSION}`, or change VERSION in {}",
            file!()
        ),
        None => bail!("Cargo.lock names no wasm-bindgen, so the wasm tests cannot be built"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.2.1\"\n\n\
        [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";

    #[test]
    fn the_version_in_the_lock_file_must_be_the_runners() {
        assert!(must_match(ENTRY).is_ok());
        let error = must_match(&ENTRY.replace("0.2.130", "0.2.131")).unwrap_err().to_string();
        assert!(
            error.starts_with("Cargo.lock has wasm-bindgen 0.2.131 but the test runner is 0.2.130"),
            "{error}"
        );
    }

    #[test]
    fn a_lock_file_without_wasm_bindgen_is_refused() {
        assert!(must_match("[[package]]\nname = \"wasm-bindgen-macro\"\n").is_err());
    }
}
