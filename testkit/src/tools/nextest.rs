//! cargo-nextest, the test runner.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::crates::Crate;
use super::install::install;
use super::tool::{Here, Source, Tool, in_cache, version};

const CRATE: Crate = Crate { name: "cargo-nextest", version: "0.9.143" };
const PROGRAM: &str = "bin/cargo-nextest";
const ASK_VERSION: [&str; 2] = ["nextest", "--version"];

pub(super) const TOOL: Tool = Tool {
    name: CRATE.name,
    source: Source::CratesIo(CRATE.name),
    wanted: "0.9.143 or any on the PATH",
    megabytes: 1,
    gone: || format!("put any cargo-nextest on the PATH, or pin another version in {}", file!()),
    here: || Ok(on_path().or(in_cache(&folder(), PROGRAM, &ASK_VERSION)?)),
    ask: || CRATE.ask(),
    fetch: || nextest().map(drop),
};

/// The cargo-nextest program: the one on the PATH if there is one, else the pinned one.
pub fn nextest() -> Result<PathBuf> {
    if on_path().is_some() {
        return Ok(PathBuf::from(CRATE.name));
    }
    Ok(install(&TOOL, &folder(), |dir| CRATE.build(dir))?.join(PROGRAM))
}

fn on_path() -> Option<Here> {
    version(Path::new(CRATE.name), &ASK_VERSION).map(|version| Here { version, places: Vec::new() })
}

fn folder() -> String {
    format!("cargo-nextest-{}", CRATE.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_wants_the_version_that_is_built() {
        assert_eq!(TOOL.wanted, format!("{} or any on the PATH", CRATE.version));
    }
}
