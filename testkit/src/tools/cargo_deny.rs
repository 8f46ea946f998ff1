//! cargo-deny, which checks the dependencies: licences, sources, known faults.

use std::path::PathBuf;

use anyhow::Result;

use super::crates::Crate;
use super::install::install;
use super::tool::{Source, Tool, in_cache};

const CRATE: Crate = Crate { name: "cargo-deny", version: "0.20.2" };
const PROGRAM: &str = "bin/cargo-deny";

pub(super) const TOOL: Tool = Tool {
    name: CRATE.name,
    source: Source::CratesIo(CRATE.name),
    wanted: CRATE.version,
    megabytes: 18,
    gone: || {
        let folder = folder();
        format!("put the program into the cache as {folder}/{PROGRAM}, or pin another version in {}", file!())
    },
    here: || in_cache(&folder(), PROGRAM, &["--version"]),
    ask: || CRATE.ask(),
    fetch: || cargo_deny().map(drop),
};

/// The cargo-deny program.
pub fn cargo_deny() -> Result<PathBuf> {
    Ok(install(&TOOL, &folder(), |dir| CRATE.build(dir))?.join(PROGRAM))
}

fn folder() -> String {
    format!("cargo-deny-{}", CRATE.version)
}
