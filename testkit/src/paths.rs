//! Where things are: the workspace, cargo's target directory, the artefacts, the per-user cache.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // Cargo and nextest name the package being run at run time, which is right even when two
        // checkouts share a target directory and with it this binary.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file());
        root.map_or_else(|| package.join(".."), Path::to_path_buf)
    })
}

/// Cargo's target directory, wherever its environment or configuration put it.
pub fn target() -> Result<&'static Path> {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    if let Some(found) = TARGET.get() {
        return Ok(found);
    }
    let output = Command::new(cargo())
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(workspace())
        .output()
        .context("cargo metadata does not run")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(TARGET.get_or_init(|| PathBuf::from(target)))
}

/// Where the release artefacts are put.
pub fn artefacts() -> Result<PathBuf> {
    Ok(target()?.join("farebox"))
}

/// The native program as it is released: companion, checks and development facilitator.
pub fn farebox() -> Result<PathBuf> {
    Ok(artefacts()?.join("farebox"))
}

/// The native program of the dev profile, which unit tests compile too: what tests, demo and `up` run.
pub fn dev_farebox() -> Result<PathBuf> {
    Ok(target()?.join("debug/farebox"))
}

/// The filter for Envoy.
pub fn envoy_filter() -> Result<PathBuf> {
    Ok(artefacts()?.join("farebox-envoy.wasm"))
}

/// The plugin for Traefik, as a folder of local plugins (`plugins-local`).
pub fn traefik_plugin() -> Result<PathBuf> {
    Ok(artefacts()?.join("traefik-plugin"))
}

/// The plugin's module in a folder of local plugins.
pub fn traefik_module(plugins: &Path) -> PathBuf {
    plugins.join("src/github.com/farebox/farebox/plugin.wasm")
}

/// The plugin for Traefik, as a release carries it.
pub fn traefik_release() -> Result<PathBuf> {
    Ok(artefacts()?.join("farebox-traefik.zip"))
}

/// The core as a WebAssembly component.
pub fn component() -> Result<PathBuf> {
    Ok(artefacts()?.join("farebox.component.wasm"))
}

/// The per-user cache of tools: `$FAREBOX_CACHE`, else `~/.cache/farebox`.
pub fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("FAREBOX_CACHE").filter(|dir| !dir.is_empty()) {
        return std::path::absolute(&dir).context("FAREBOX_CACHE is not a usable path");
    }
    let home =
        std::env::var_os("HOME").context("HOME is not set; set FAREBOX_CACHE to a folder for tools")?;
    Ok(PathBuf::from(home).join(".cache/farebox"))
}

/// The cargo that runs us, so that a `+toolchain` on the outer call is kept.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}
