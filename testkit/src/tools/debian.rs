//! Programs of this machine's distribution in any version: the program on the PATH, else the package, unpacked with
//! the libraries that this machine does not have.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::ASK_LIMIT;
use super::apt::{self, Lists};
use super::install::{fetch_once, install_in};
use super::tool::{Here, Tool, printed_version};
use crate::{paths, shell};

/// Time limit for new lists, which are a few megabytes. It is long for slow machines, because the message has already
/// named the remedy.
const UPDATE_LIMIT: Duration = Duration::from_secs(180);
/// Where packages put libraries, below a folder of the machine's kind.
const LIBRARIES: &str = "usr/lib";

/// A program, and how to get it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packaged {
    /// Its package.
    pub(super) package: &'static str,
    /// Its names on a PATH, the best first.
    pub(super) names: &'static [&'static str],
    /// Where its package puts it.
    pub(super) place: &'static str,
    /// The argument that makes it print its version.
    pub(super) version: &'static str,
}

/// An available program.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    /// Folders of libraries that came with it, for `LD_LIBRARY_PATH`; empty for one of the machine.
    libraries: Vec<PathBuf>,
}

// === impl Packaged ===

impl Packaged {
    /// The program, fetched if it is missing.
    pub(super) fn program(&self, tool: &Tool) -> Result<Program> {
        if let Some((program, _)) = self.look()? {
            return Ok(program);
        }
        fetch_once(tool.name, || self.fetch().map_err(|error| tool.failed(&error)))?;
        match self.look()? {
            Some((program, _)) => Ok(program),
            None => {
                bail!("{} was fetched and does not run; delete {}-* in the cache", tool.name, self.package)
            }
        }
    }

    /// As [`Tool::here`] asks for it.
    pub(super) fn here(&self) -> Result<Option<Here>> {
        Ok(self.look()?.map(|(_, here)| here))
    }

    /// As [`Tool::ask`] asks for it.
    pub(super) fn ask(&self) -> Result<String> {
        Lists::of_the_machine()?;
        Lists::fresh(ASK_LIMIT * 2)?.candidate(self.package)
    }

    /// The remedy, see [`Tool::gone`].
    pub(super) fn gone(&self) -> String {
        format!("{}, or put `{}` on the PATH", apt::REMEDY, self.names.join("` or `"))
    }

    /// The one on the PATH, else the newest of the cache.
    fn look(&self) -> Result<Option<(Program, Here)>> {
        for name in self.names {
            let program = Program { path: name.into(), libraries: Vec::new() };
            if let Some(version) = self.version_of(&program) {
                return Ok(Some((program, Here { version, places: Vec::new() })));
            }
        }
        self.newest_in(&paths::cache()?)
    }

    fn newest_in(&self, cache: &Path) -> Result<Option<(Program, Here)>> {
        let mut folders = Vec::new();
        if cache.is_dir() {
            for entry in std::fs::read_dir(cache)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_ours = name.strip_prefix(self.package).is_some_and(|rest| rest.starts_with('-'));
                folders.extend(is_ours.then(|| entry.path()));
            }
        }
        folders.sort();
        let here = |folder: PathBuf| {
            let program = Program { path: folder.join(self.place), libraries: libraries_in(&folder) };
            let version = self.version_of(&program)?;
            Some((program, Here { version, places: vec![folder] }))
        };
        Ok(folders.into_iter().rev().find_map(here))
    }

    fn version_of(&self, program: &Program) -> Option<String> {
        printed_version(program.command().arg(self.version))
    }

    fn fetch(&self) -> Result<()> {
        let lists = Lists::of_the_machine()?;
        let Err(error) = self.fetch_by(&lists) else { return Ok(()) };
        shell::say(format_args!(
            "tools: {}: {error:#}. If apt's lists are empty or old, `apt-get update` as root renews them. \
             Now new ones are fetched into a folder of our own",
            self.package
        ));
        self.fetch_by(&Lists::fresh(UPDATE_LIMIT)?)
    }

    fn fetch_by(&self, lists: &Lists) -> Result<()> {
        let version = lists.candidate(self.package)?;
        let installed = install_in(&paths::cache()?, &format!("{}-{version}", self.package), |dir| {
            lists.unpack(&lists.with_needs(self.package, &version)?, dir)?;
            let program = Program { path: dir.join(self.place), libraries: libraries_in(dir) };
            if self.version_of(&program).is_none() {
                bail!("it does not run on this machine");
            }
            Ok(())
        });
        installed.map(drop)
    }
}

// === impl Program ===

impl Program {
    /// Where it is, also where it was found on the PATH.
    pub fn found(&self) -> Result<PathBuf> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&folders).map(|folder| folder.join(&self.path));
        places.find(|place| place.is_file()).with_context(|| format!("no {}", self.path.display()))
    }

    /// The folders of the libraries that came with it, as `LD_LIBRARY_PATH` has them.
    pub fn libraries(&self) -> String {
        let folders: Vec<_> = self.libraries.iter().map(|folder| folder.to_string_lossy()).collect();
        folders.join(":")
    }

    /// Runs it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", self.libraries());
        }
        command
    }
}

/// The folders with libraries in what was unpacked: `usr/lib/x86_64-linux-gnu` and those in it.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let folders_in = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let kinds = folders_in(&folder.join(LIBRARIES)).into_iter();
    let kinds = kinds.filter(|kind| kind.to_string_lossy().ends_with("-linux-gnu"));
    kinds.flat_map(|kind| [vec![kind.clone()], folders_in(&kind)].concat()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SOMETHING: Packaged =
        Packaged { package: "something", names: &["no-such-program"], place: "usr/bin/it", version: "-v" };

    fn put(cache: &Path, folder: &str, script: &str) {
        let program = cache.join(folder).join(SOMETHING.place);
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_newest_copy_that_runs_is_used_with_the_libraries_it_came_with() {
        let cache = tempfile::tempdir().unwrap();
        assert!(SOMETHING.newest_in(&cache.path().join("missing")).unwrap().is_none());
        put(cache.path(), "something-1", "echo it/1.0");
        put(cache.path(), "something-2", "echo it/2.0 >&2; test \"${LD_LIBRARY_PATH%:*}\"");
        put(cache.path(), "something-3", "exit 1");
        put(cache.path(), "somethings-9", "echo it/9.0");
        let libraries = cache.path().join("something-2/usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(libraries.join("pulseaudio")).unwrap();
        let (program, here) = SOMETHING.newest_in(cache.path()).unwrap().unwrap();
        assert_eq!((&*here.version, here.places), ("2.0", vec![cache.path().join("something-2")]));
        assert_eq!(program.libraries(), format!("{0}:{0}/pulseaudio", libraries.display()));
    }

    #[test]
    fn the_remedy_names_the_programs() {
        assert!(SOMETHING.gone().ends_with("or put `no-such-program` on the PATH"));
    }
}
