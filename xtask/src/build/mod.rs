//! The release artefacts in `target/farebox/`.

mod artefact;
mod shrink;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, shell, tools};

pub use artefact::{Artefact, EXPORTS, inspect};

/// Builds `farebox` and `farebox-envoy.wasm`, checks the filter, and returns what was found in it.
pub fn build() -> Result<Artefact> {
    tools::wasm_targets()?;
    native()?;
    filter()
}

/// The native program alone.
pub fn native() -> Result<()> {
    shell::say("building farebox");
    cargo(&["build", "--release", "--package", "farebox"])?;
    place(&paths::target()?.join("release/farebox"), &paths::farebox()?)
}

/// The filter alone.
pub fn filter() -> Result<Artefact> {
    shell::say("building farebox-envoy.wasm");
    let small = guest("farebox-envoy", "farebox_envoy", &artefact::EXPORTS)?;
    let artefact = inspect(&std::fs::read(&small).with_context(|| format!("{}", small.display()))?)
        .context("farebox-envoy.wasm is not what Envoy may load")?;
    place(&small, &paths::envoy_filter()?)?;
    Ok(artefact)
}

/// Any package as the filter is built: the module of this name, shrunk to these exports.
pub fn guest(package: &str, module: &str, exports: &[&str]) -> Result<PathBuf> {
    cargo(&["build", "--profile", "guest", "--target", "wasm32-wasip1", "--package", package])?;
    let built = paths::target()?.join("wasm32-wasip1/guest").join(module).with_extension("wasm");
    let small = built.with_extension("small.wasm");
    shrink::shrink(&built, exports, &small)?;
    Ok(small)
}

/// Any native program as it is released, with these features.
pub fn release(package: &str, features: &[&str]) -> Result<PathBuf> {
    cargo(&["build", "--release", "--package", package, "--features", &features.join(",")])?;
    Ok(paths::target()?.join("release").join(package))
}

fn cargo(args: &[&str]) -> Result<()> {
    shell::run(Command::new(paths::cargo()).args(args).current_dir(paths::workspace()))
}

/// Copies by rename, so that a program that is running keeps its old file.
fn place(built: &Path, place: &Path) -> Result<()> {
    let folder = place.parent().context("an artefact needs a folder")?;
    std::fs::create_dir_all(folder)?;
    let temporary = tempfile::Builder::new().prefix(".artefact-").tempdir_in(folder)?;
    let copy = temporary.path().join("copy");
    std::fs::copy(built, &copy).with_context(|| format!("cannot copy {}", built.display()))?;
    std::fs::rename(&copy, place).with_context(|| format!("cannot write {}", place.display()))
}
