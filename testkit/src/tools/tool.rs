//! The entry of a tool in the table of all tools.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};

use crate::{paths, shell};

/// A program asked for its version answers at once, unless the machine is busy.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// One thing the commands fetch.
#[derive(Debug)]
pub struct Tool {
    /// Its name, for people.
    pub name: &'static str,
    /// Where it comes from.
    pub source: Source,
    /// The version that is pinned, or the oldest one that will do.
    pub wanted: &'static str,
    /// Megabytes of disk it takes, as measured when its version was chosen.
    pub megabytes: u64,
    /// The remedy if the source no longer has it.
    pub gone: fn() -> String,
    /// Looks for it on this machine.
    pub(super) here: fn() -> Result<Option<Here>>,
    /// Asks the source, and returns the available version.
    pub(super) ask: fn() -> Result<String>,
    /// Fetches it unless it is here.
    pub(super) fetch: fn() -> Result<()>,
}

/// Where a tool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A package of PyPI, which keeps its versions.
    PyPi(&'static str),
    /// Packages of npm, which keeps its versions.
    Npm(&'static str),
    /// A crate of crates.io, which keeps its versions. It is compiled here.
    CratesIo(&'static str),
    /// A package of the system's distribution, which keeps one build of it.
    Apt(&'static str),
    /// The server of the Rust project, which keeps its releases.
    Rustup,
}

/// A tool on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The version it says it has.
    pub version: String,
    /// The folders it is in. None if it is on the PATH.
    pub places: Vec<PathBuf>,
}

// === impl Tool ===

impl Tool {
    /// Looks for it on this machine, without fetching anything.
    pub fn here(&self) -> Result<Option<Here>> {
        (self.here)()
    }

    /// Asks its source whether it is available now. Returns the version; fails with the reason.
    pub fn ask(&self) -> Result<String> {
        (self.ask)()
    }

    /// Fetches it unless it is here. Fails with the reason.
    pub fn fetch(&self) -> Result<()> {
        (self.fetch)()
    }

    /// The error of a fetch, or of a question to the source, with the remedy.
    pub(super) fn failed(&self, error: &Error) -> Error {
        let Self { name, source, gone, .. } = self;
        anyhow!("{name} cannot be fetched: {error:#}\n  if {source} has it no longer: {}", gone())
    }

    /// Whether fetching it means compiling it.
    pub const fn is_compiled(&self) -> bool {
        matches!(self.source, Source::CratesIo(_))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, what) = match self {
            Self::PyPi(package) => ("PyPI: ", *package),
            Self::Npm(folder) => ("npm: ", *folder),
            Self::CratesIo(name) => ("crates.io: ", *name),
            Self::Apt(package) => ("apt: ", *package),
            Self::Rustup => ("rustup", ""),
        };
        f.pad(&format!("{kind}{what}"))
    }
}

/// A tool that is a folder of the cache, if it is there and its program runs.
pub(super) fn in_cache(folder: &str, program: &str, arguments: &[&str]) -> Result<Option<Here>> {
    let place = paths::cache()?.join(folder);
    let version = version(&place.join(program), arguments);
    Ok(version.map(|version| Here { version, places: vec![place] }))
}

/// The version a program prints about itself; none if it does not run.
pub(super) fn version(program: &Path, arguments: &[&str]) -> Option<String> {
    printed_version(Command::new(program).args(arguments))
}

/// The version in what a command prints; none if it fails.
pub(super) fn printed_version(command: &mut Command) -> Option<String> {
    let printed = shell::ask(command, VERSION_LIMIT).ok()?;
    version_in(&printed).map(str::to_owned)
}

/// The first word that looks like a version.
fn version_in(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "/,()".contains(c));
    let mut words = words.map(|word| word.strip_prefix('v').unwrap_or(word));
    words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_print() {
        let commit = "envoy  version: 0b1c2d3e4f/1.40.0/Clean/RELEASE/BoringSSL";
        assert_eq!(version_in(commit), Some("1.40.0"));
        let debian = "prometheus, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0+ds-5+b5)";
        assert_eq!(version_in(debian), Some("2.42.0+ds"));
        assert_eq!(version_in("Version:      3.7.15\nCodename:     x"), Some("3.7.15"));
        assert_eq!(version_in("postgres (PostgreSQL) 16.14"), Some("16.14"));
        assert_eq!(version_in("v20.20.2"), Some("20.20.2"));
        assert_eq!(version_in("nginx version: nginx/1.22.1"), Some("1.22.1"));
        assert_eq!(version_in("usage: program [options]"), None);
    }

    #[test]
    fn a_program_that_does_not_run_has_no_version() {
        assert_eq!(version(Path::new("no-such-program"), &["--version"]), None);
        assert_eq!(version(Path::new("false"), &["--version-1.2"]), None);
    }
}
