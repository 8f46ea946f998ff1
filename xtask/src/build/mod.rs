//! The release artefacts in `target/farebox/`.

mod artefact;
mod component;
mod envoy;
mod shrink;
mod traefik;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use farebox_testkit::stack::{Program, Shell};
use farebox_testkit::{paths, shell, tools};

pub(crate) use artefact::{Artefact, Guest, inspect};
pub(crate) use component::{component, component_lints};
pub(crate) use envoy::ENVOY;
pub(crate) use traefik::TRAEFIK;

/// The guests, checked. Returns what was found in them.
pub(crate) fn guests() -> Result<Vec<Artefact>> {
    Ok(vec![filter()?, traefik_plugin()?])
}

/// What a stack runs: `farebox`, and the guest of its proxy as it is released.
pub(crate) fn stack(shell: Shell, program: Program) -> Result<()> {
    // Beside compiling. Who needs one of them waits for it, and has its error.
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            scope.spawn(tools::wasm_targets);
            scope.spawn(tools::node_packages);
            match shell {
                Shell::Envoy => drop(scope.spawn(tools::envoy)),
                Shell::Traefik => drop(scope.spawn(tools::traefik)),
                Shell::Gateway => {}
            }
        });
    });
    match program {
        Program::Dev => dev()?,
        Program::Released => native()?,
    }
    match shell {
        Shell::Envoy => filter().map(drop),
        Shell::Traefik => traefik_plugin().map(drop),
        Shell::Gateway => Ok(()),
    }
}

/// The native program of the dev profile.
fn dev() -> Result<()> {
    shell::say("building farebox, unoptimised");
    // Without `--package`, as the alias in .cargo/config.toml, for the features of all default members.
    cargo(&["build", "--bin", "farebox"])
}

/// The native program alone, as it is released.
pub(crate) fn native() -> Result<()> {
    shell::say("building farebox, optimised");
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
    tools::wasm_targets()?;
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
    shell::run(shell::builder(paths::cargo()).args(args))
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
