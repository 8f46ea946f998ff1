//! typos, which finds misspelled words.

use std::path::PathBuf;

use anyhow::Result;

use super::install::install;
use super::pypi::Package;
use super::tool::{Source, Tool, in_cache};

const PACKAGE: Package = Package { name: "typos", version: "1.52.0", files: &[] };
const PROGRAM: &str = "bin/typos";

pub(super) const TOOL: Tool = Tool {
    name: PACKAGE.name,
    source: Source::PyPi(PACKAGE.name),
    wanted: PACKAGE.version,
    megabytes: 33,
    gone: || {
        let folder = folder();
        format!("put the program into the cache as {folder}/{PROGRAM}, or pin another version in {}", file!())
    },
    here: || in_cache(&folder(), PROGRAM, &["--version"]),
    ask: || PACKAGE.ask(),
    fetch: || typos().map(drop),
};

/// The typos program.
pub fn typos() -> Result<PathBuf> {
    Ok(install(&TOOL, &folder(), |dir| PACKAGE.unpack(dir))?.join(PROGRAM))
}

fn folder() -> String {
    format!("typos-{}", PACKAGE.version)
}
