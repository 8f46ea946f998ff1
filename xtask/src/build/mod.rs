//! The release artefacts in `target/farebox/`.

mod artefact;
mod shrink;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, shell, tools};

pub use artefact::{Artefact, inspect};

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
    cargo(&["build", "--profile", "guest", "--target", "wasm32-wasip1", "--package", "farebox-envoy"])?;
    let built = paths::target()?.join("wasm32-wasip1/guest/farebox_envoy.wasm");
    let small = built.with_extension("small.wasm");
    shrink::shrink(&built, &artefact::EXPORTS, &small)?;
    let artefact = inspect(&std::fs::read(&small).with_context(|| format!("{}", small.display()))?)
        .context("farebox-envoy.wasm is not what Envoy may load")?;
    place(&small, &paths::envoy_filter()?)?;
    Ok(artefact)
}

fn cargo(args: &[&str]) -> Result<()> {
    shell::run(Command::new(paths::cargo()).args(args).args(["--quiet"]).current_dir(paths::workspace()))
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
