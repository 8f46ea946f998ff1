//! The release artefacts in `target/farebox/`.

mod artefact;
mod component;
mod envoy;
mod shrink;
mod traefik;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use farebox_testkit::{paths, shell, tools};

pub(crate) use artefact::{Artefact, Guest, inspect};
pub(crate) use component::{component, component_lints};
pub(crate) use envoy::ENVOY;
pub(crate) use traefik::TRAEFIK;

/// Builds `farebox` and the guests, checks these, and returns what was found in them.
pub(crate) fn build() -> Result<Vec<Artefact>> {
    tools::wasm_targets()?;
    native()?;
    Ok(vec![filter()?, traefik_plugin()?])
}

/// The native program alone.
pub(crate) fn native() -> Result<()> {
    shell::say("building farebox");
    cargo(&["build", "--release", "--package", "farebox"])?;
    place(&paths::target()?.join("release/farebox"), &paths::farebox()?)
}

/// The filter for Envoy alone.
pub(crate) fn filter() -> Result<Artefact> {
    let (artefact, built) = checked("farebox-envoy", "farebox_envoy", &ENVOY)?;
    place(&built, &paths::envoy_filter()?)?;
    Ok(artefact)
}

/// The plugin for Traefik alone.
pub(crate) fn traefik_plugin() -> Result<Artefact> {
    let (artefact, built) = checked("farebox-traefik", "farebox-traefik", &TRAEFIK)?;
    traefik::pack(&built)?;
    Ok(artefact)
}

fn checked(package: &str, module: &str, host: &Guest) -> Result<(Artefact, PathBuf)> {
    shell::say(format_args!("building {}", host.name));
    let built = guest(package, module, host)?;
    let wasm = std::fs::read(&built).with_context(|| format!("{}", built.display()))?;
    let artefact = inspect(host, &wasm).with_context(|| format!("{} must not be loaded", host.name))?;
    Ok((artefact, built))
}

/// Any package as the guests of a host are built: the module of this name, shrunk to what the host calls.
pub(crate) fn guest(package: &str, module: &str, host: &Guest) -> Result<PathBuf> {
    cargo(&["build", "--profile", host.profile, "--target", "wasm32-wasip1", "--package", package])?;
    let folder = paths::target()?.join("wasm32-wasip1").join(host.profile);
    let built = folder.join(module).with_extension("wasm");
    let small = built.with_extension("small.wasm");
    shrink::shrink(&built, host, &small)?;
    Ok(small)
}

/// Any native program as it is released, with these features.
pub(crate) fn release(package: &str, features: &[&str]) -> Result<PathBuf> {
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
