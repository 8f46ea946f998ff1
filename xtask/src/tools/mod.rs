//! Pinned programs that are not crates of the workspace, one folder per tool and version in the
//! per-user cache. Every function returns where the tool is, after installing it if it was missing.

mod cargo_component;
mod envoy;
mod nextest;
mod node;
mod postgres;
mod prometheus;
mod pypi;
mod targets;
mod traefik;
mod wasm_bindgen;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{paths, shell};

pub use cargo_component::cargo_component;
pub use envoy::{ENVOY_VERSION, envoy};
pub use nextest::nextest;
pub use node::{binaryen, node_packages};
pub use postgres::{POSTGRES_PROGRAMS, POSTGRES_VERSION, postgres};
pub use prometheus::{prometheus, promtool};
pub use targets::wasm_targets;
pub use traefik::{TRAEFIK_VERSION, traefik};
pub use wasm_bindgen::wasm_bindgen_test_runner;

/// Installs into a folder that is either whole or absent: `fill` works in a temporary sibling, which
/// is renamed into place at the end. Whoever loses a race uses the winner's folder.
fn install(folder: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    install_in(&paths::cache()?, folder, fill)
}

fn install_in(cache: &Path, folder: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let place = cache.join(folder);
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    shell::say(format_args!("installing {folder} into {}", cache.display()));
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{folder}-"))
        .tempdir_in(cache)
        .with_context(|| format!("cannot write to {}", cache.display()))?;
    fill(temporary.path()).with_context(|| format!("{folder} could not be installed"))?;
    let filled = temporary.keep();
    if let Err(error) = std::fs::rename(&filled, &place) {
        let _ = std::fs::remove_dir_all(&filled);
        if !place.is_dir() {
            return Err(error).with_context(|| format!("cannot move {folder} into {}", cache.display()));
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_installation_leaves_nothing_behind() {
        let cache = tempfile::tempdir().unwrap();
        let error = install_in(cache.path(), "tool-1", |dir| {
            std::fs::write(dir.join("half"), "done")?;
            anyhow::bail!("the network went away")
        })
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "tool-1 could not be installed: the network went away");
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_installed_tool_is_not_installed_again() {
        let cache = tempfile::tempdir().unwrap();
        let first = install_in(cache.path(), "tool-1", |dir| Ok(std::fs::write(dir.join("program"), "v1")?));
        let second = install_in(cache.path(), "tool-1", |_| anyhow::bail!("must not run"));
        assert_eq!(first.unwrap(), cache.path().join("tool-1"));
        assert_eq!(second.unwrap(), cache.path().join("tool-1"));
        assert_eq!(std::fs::read_to_string(cache.path().join("tool-1/program")).unwrap(), "v1");
    }
}
