//! The WebAssembly targets of the toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

use super::install::fetch_once;
use super::tool::{Here, Source, Tool, version};
use crate::{paths, shell};

const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-unknown-unknown"];

pub(super) const TOOL: Tool = Tool {
    name: "wasm targets",
    source: Source::Rustup,
    wanted: "the toolchain's",
    megabytes: 210,
    gone: || "set another Rust in rust-toolchain.toml".to_owned(),
    here,
    ask: || {
        rustup()?;
        Ok("not asked, because rustup asks only by fetching".to_owned())
    },
    fetch: wasm_targets,
};

/// Adds the wasm targets to the toolchain where they are missing.
pub fn wasm_targets() -> Result<()> {
    if places()?.iter().all(|place| place.is_dir()) {
        return Ok(());
    }
    fetch_once(TOOL.name, || add().map_err(|error| TOOL.failed(&error)))
}

fn add() -> Result<()> {
    rustup()?;
    shell::say(format_args!("tools: adding {} to the toolchain", TARGETS.join(" and ")));
    let mut command = Command::new("rustup");
    command.args(["target", "add"]).args(TARGETS).current_dir(paths::workspace());
    shell::run_beside(&mut command, "tools: wasm targets")
}

fn here() -> Result<Option<Here>> {
    let places = places()?;
    if !places.iter().all(|place| place.is_dir()) {
        return Ok(None);
    }
    let version = version(Path::new("rustc"), &["--version"]).unwrap_or_default();
    Ok(Some(Here { version, places }))
}

/// Where the toolchain has, or would have, the libraries of the targets.
fn places() -> Result<Vec<PathBuf>> {
    static PLACES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    if let Some(places) = PLACES.get() {
        return Ok(places.clone());
    }
    let printed =
        shell::capture(Command::new("rustc").args(["--print", "sysroot"]).current_dir(paths::workspace()))?;
    let libraries = Path::new(&printed).join("lib/rustlib");
    Ok(PLACES.get_or_init(|| TARGETS.map(|target| libraries.join(target).join("lib")).to_vec()).clone())
}

fn rustup() -> Result<()> {
    if !shell::answers("rustup", &["--version"]) {
        bail!(
            "the Rust toolchain has no {} and there is no rustup to add them; install rustup",
            TARGETS.join(", ")
        );
    }
    Ok(())
}
