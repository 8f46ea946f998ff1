//! cargo-component, which makes a WebAssembly component of a crate.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::install;
use crate::{paths, shell};

const VERSION: &str = "0.21.1";

/// What makes openssl-sys look for OpenSSL elsewhere than where pkg-config says.
const OPENSSL_PLACES: [&str; 2] = ["OPENSSL_DIR", "OPENSSL_LIB_DIR"];

/// The cargo-component program.
pub fn cargo_component() -> Result<PathBuf> {
    let folder = install(&format!("cargo-component-{VERSION}"), build)?;
    Ok(folder.join("bin/cargo-component"))
}

fn build(dir: &Path) -> Result<()> {
    let placed = OPENSSL_PLACES.iter().any(|name| std::env::var_os(name).is_some());
    if cfg!(target_os = "linux") && !placed && !shell::answers("pkg-config", &["--exists", "openssl"]) {
        bail!(
            "it needs the headers of OpenSSL, which pkg-config does not find: install pkg-config and libssl-dev \
             (Debian, Ubuntu), pkgconf and openssl-devel (Fedora), or set OPENSSL_DIR"
        );
    }
    shell::say("building cargo-component from source takes some minutes, once");
    shell::run(
        Command::new(paths::cargo())
            .args(["install", "--locked", "cargo-component", "--version", VERSION, "--root"])
            .arg(dir)
            // It runs for a second; to optimise it takes longer than it will ever run.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
            .env("CARGO_PROFILE_RELEASE_LTO", "false")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(std::env::temp_dir()),
    )
}
