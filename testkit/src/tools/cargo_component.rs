//! cargo-component, which makes a WebAssembly component of a crate.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::crates::Crate;
use super::install::install;
use super::tool::{Source, Tool, in_cache};
use crate::shell;

const CRATE: Crate = Crate { name: "cargo-component", version: "0.21.1" };
const PROGRAM: &str = "bin/cargo-component";

/// What makes openssl-sys look for OpenSSL elsewhere than where pkg-config says.
const OPENSSL_PLACES: [&str; 2] = ["OPENSSL_DIR", "OPENSSL_LIB_DIR"];

pub(super) const TOOL: Tool = Tool {
    name: CRATE.name,
    source: Source::CratesIo(CRATE.name),
    wanted: CRATE.version,
    megabytes: 60,
    gone: || {
        let folder = folder();
        format!("put the program into the cache as {folder}/{PROGRAM}, or pin another version in {}", file!())
    },
    here: || in_cache(&folder(), PROGRAM, &["component", "--version"]),
    ask: || {
        openssl()?;
        CRATE.ask()
    },
    fetch: || cargo_component().map(drop),
};

/// The cargo-component program.
pub fn cargo_component() -> Result<PathBuf> {
    let folder = install(&TOOL, &folder(), |dir| {
        openssl()?;
        CRATE.build(dir)
    })?;
    Ok(folder.join(PROGRAM))
}

/// Whether it could be linked.
fn openssl() -> Result<()> {
    let placed = OPENSSL_PLACES.iter().any(|name| std::env::var_os(name).is_some());
    if cfg!(target_os = "linux") && !placed && !shell::answers("pkg-config", &["--exists", "openssl"]) {
        bail!(
            "cargo-component needs the headers of OpenSSL, which pkg-config does not find: install pkg-config and \
             libssl-dev (Debian, Ubuntu), pkgconf and openssl-devel (Fedora), or set OPENSSL_DIR"
        );
    }
    Ok(())
}

fn folder() -> String {
    format!("cargo-component-{}", CRATE.version)
}
