//! The runner that executes wasm tests in Node: wasm-bindgen's, compiled from `xtask/runner`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::crates::{self, Crate};
use super::install::install;
use super::tool::{Source, Tool, in_cache};
use crate::{paths, shell};

const CRATE: Crate = Crate { name: "wasm-bindgen-cli", version: "0.2.130" };
const PROGRAM: &str = "bin/farebox-wasm-test-runner";

pub(super) const TOOL: Tool = Tool {
    name: "wasm test runner",
    source: Source::CratesIo(CRATE.name),
    wanted: CRATE.version,
    megabytes: 16,
    gone: || "run `cargo update` in xtask/runner, and commit its Cargo.lock".to_owned(),
    here: || in_cache(&folder(), PROGRAM, &["--version"]),
    ask: || CRATE.ask(),
    fetch: || wasm_bindgen_test_runner().map(drop),
};

/// The runner, which is called as `wasm-bindgen-test-runner`.
pub fn wasm_bindgen_test_runner() -> Result<PathBuf> {
    let lock = std::fs::read_to_string(paths::workspace().join("Cargo.lock")).context("no Cargo.lock")?;
    must_match(&lock)?;
    if !shell::answers("node", &["--version"]) {
        bail!("node is needed to run the wasm tests and was not found; install Node 20 or newer");
    }
    Ok(install(&TOOL, &folder(), build)?.join(PROGRAM))
}

fn build(dir: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let mut command = crates::cargo();
    command.args(["install", "--locked", "--path"]).arg(paths::workspace().join("xtask/runner"));
    // The build leaves no files beside its sources.
    command.arg("--target-dir").arg(scratch.path()).arg("--root").arg(dir);
    crates::compile(&mut command, TOOL.name)
}

fn folder() -> String {
    format!("wasm-test-runner-{}", CRATE.version)
}

/// The runner only reads modules of exactly its own wasm-bindgen.
fn must_match(lock: &str) -> Result<()> {
    match locked(lock, "wasm-bindgen") {
        Some(version) if version == CRATE.version => Ok(()),
        Some(other) => bail!(
            "Cargo.lock has wasm-bindgen {other} but the test runner is {wanted}: \
             run `cargo update -p wasm-bindgen --precise {wanted}`, or change the version in {} and in xtask/runner",
            file!(),
            wanted = CRATE.version,
        ),
        None => bail!("Cargo.lock names no wasm-bindgen, so the wasm tests cannot be built"),
    }
}

/// The version of a crate in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("name = \"{name}\"\n");
    let entry = lock.split("[[package]]").find(|entry| entry.trim_start().starts_with(&start))?;
    entry.lines().find_map(|line| line.strip_prefix("version = ")).map(|version| version.trim_matches('"'))
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

    #[test]
    fn the_runner_that_is_compiled_is_of_the_version_that_is_wanted() {
        let lock = std::fs::read_to_string(paths::workspace().join("xtask/runner/Cargo.lock")).unwrap();
        assert_eq!(locked(&lock, CRATE.name), Some(CRATE.version));
    }
}
