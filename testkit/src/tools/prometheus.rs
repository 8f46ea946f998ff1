//! Prometheus and its promtool: those on the PATH if their version is usable, else those of this machine's
//! distribution.
//!
//! No build is pinned, because a distribution replaces builds (see [`super::apt`]), and no registry that keeps its
//! versions has the two programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use super::ASK_LIMIT;
use super::apt::{self, Lists};
use super::install::{fetch_once, install_in};
use super::tool::{Here, Source, Tool, version};
use crate::{paths, shell};

/// The server, its package, and how the names of its folders in the cache begin.
const PACKAGE: &str = "prometheus";
/// The program for rules. From Debian 13 on it has a package of its own, of this name.
const PROMTOOL: &str = "promtool";
/// The oldest release with which the rules and their tests work.
const OLDEST: &str = "2.42.0";
/// The first release with which the tests fail. Prometheus 3 excludes the sample at the beginning of a window, so the
/// tests would have to expect other digits, and the end of an alert a minute earlier.
const TOO_NEW: &str = "3";
/// The same in words.
const WANTED: &str = "2.42.0 or newer, below 3";
/// Time limit for new lists, which are a few megabytes. It is long for slow machines, because the message has already
/// named the remedy.
const UPDATE_LIMIT: Duration = Duration::from_secs(180);
/// Where in a folder of the cache the programs are.
const PROGRAMS: &str = "usr/bin";

pub(super) const TOOL: Tool = Tool {
    name: "Prometheus",
    source: Source::Apt(PACKAGE),
    wanted: WANTED,
    megabytes: 99,
    gone: || format!("{}, or {}", apt::REMEDY, by_hand()),
    here,
    ask: || {
        Lists::of_the_machine()?;
        candidate(&Lists::fresh(ASK_LIMIT * 2)?)
    },
    fetch: || prometheus().map(drop),
};

/// The Prometheus server.
pub fn prometheus() -> Result<PathBuf> {
    program(PACKAGE)
}

/// The program that checks and tests rules.
pub fn promtool() -> Result<PathBuf> {
    program(PROMTOOL)
}

fn program(name: &str) -> Result<PathBuf> {
    if here()?.is_none() {
        fetch_once(TOOL.name, || fetch().map_err(|error| TOOL.failed(&error)))?;
    }
    match here()? {
        Some(here) => {
            Ok(here.places.first().map_or_else(|| name.into(), |place| place.join(PROGRAMS).join(name)))
        }
        None => bail!("Prometheus was fetched and does not run; delete {PACKAGE}-* in the cache of tools"),
    }
}

/// The programs on the PATH if their version is usable, else the newest of the cache.
fn here() -> Result<Option<Here>> {
    if let Some(version) = release_in(Path::new("")) {
        return Ok(Some(Here { version, places: Vec::new() }));
    }
    newest_in(&paths::cache()?)
}

fn newest_in(cache: &Path) -> Result<Option<Here>> {
    let mut found = Vec::new();
    if cache.is_dir() {
        for entry in std::fs::read_dir(cache)? {
            let place = entry?.path();
            let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.strip_prefix(PACKAGE).is_some_and(|rest| rest.starts_with('-')) {
                let release = release_in(&place.join(PROGRAMS));
                found.extend(release.map(|version| Here { version, places: vec![place] }));
            }
        }
    }
    Ok(found.into_iter().max_by_key(|here| release(&here.version)))
}

/// The release of the programs in a folder, if both run and will do.
fn release_in(folder: &Path) -> Option<String> {
    let [server, tool] = [PACKAGE, PROMTOOL].map(|name| version(&folder.join(name), &["--version"]));
    let (server, tool) = (server?, tool?);
    (will_do(&server) && will_do(&tool)).then_some(server)
}

fn fetch() -> Result<()> {
    let lists = Lists::of_the_machine()?;
    let Err(error) = fetch_by(&lists) else { return Ok(()) };
    shell::say(format_args!(
        "tools: Prometheus: {error:#}. If apt's lists are empty or old, `apt-get update` as root renews them. \
         Now new ones are fetched into a folder of our own"
    ));
    fetch_by(&Lists::fresh(UPDATE_LIMIT)?)
}

fn fetch_by(lists: &Lists) -> Result<()> {
    let version = candidate(lists)?;
    let installed = install_in(&paths::cache()?, &format!("{PACKAGE}-{version}"), |dir| {
        lists.unpack(&[format!("{PACKAGE}={version}")], dir)?;
        if !dir.join(PROGRAMS).join(PROMTOOL).is_file() {
            lists.unpack(&[format!("{PROMTOOL}={}", lists.candidate(PROMTOOL)?)], dir)?;
        }
        if release_in(&dir.join(PROGRAMS)).is_none() {
            bail!("its programs do not run on this machine, or are not {WANTED}");
        }
        Ok(())
    });
    installed.map(drop)
}

/// The version that apt offers, if that will do.
fn candidate(lists: &Lists) -> Result<String> {
    let version = lists.candidate(PACKAGE)?;
    if !will_do(&version) {
        bail!("apt has {PACKAGE} {version}, and {WANTED}, is needed");
    }
    Ok(version)
}

fn will_do(version: &str) -> bool {
    (release(OLDEST)..release(TOO_NEW)).contains(&release(version))
}

/// The upstream release in a version, of a program or of a package: `2:2.45.3+ds-2` is 2.45.3.
fn release(version: &str) -> Vec<u64> {
    let upstream = version.split_once(':').map_or(version, |(_epoch, rest)| rest);
    let numbers = upstream.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    numbers.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The remedy if there is no such package.
fn by_hand() -> String {
    format!("put `prometheus` and `promtool` ({WANTED}) on the PATH")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of the cache whose programs say these versions.
    fn put(cache: &Path, folder: &str, server: &str, tool: &str) {
        let programs = cache.join(folder).join(PROGRAMS);
        std::fs::create_dir_all(&programs).unwrap();
        for (name, version) in [("prometheus", server), ("promtool", tool)] {
            let program = programs.join(name);
            std::fs::write(&program, format!("#!/bin/sh\necho '{name}, version {version} (branch: x)'\n"))
                .unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[test]
    fn any_build_of_a_wanted_release_will_do() {
        for version in
            ["2.42.0", "2.42.0+ds-5+b6", "2.42.0+ds-5+deb12u1", "2:2.45.3+ds-2", "2.53.3+ds1-2", "2.100.0"]
        {
            assert!(will_do(version), "{version}");
        }
        for version in ["2.41.9", "2.24.1+ds-1", "1:2.9.0", "0.300.0", "3.0.0", "3.5.3+ds1-6", "", "devel"] {
            assert!(!will_do(version), "{version}");
        }
    }

    #[test]
    fn the_newest_copy_in_the_cache_is_used() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(newest_in(&cache.path().join("missing")).unwrap(), None);
        put(cache.path(), "prometheus-2.42.0+ds-5+b6", "2.42.0+ds", "2.42.0+ds");
        put(cache.path(), "prometheus-2.53.3+ds1-1", "2.53.3+ds1", "2.53.3+ds1");
        let here = newest_in(cache.path()).unwrap().unwrap();
        assert_eq!(here.version, "2.53.3+ds1");
        assert_eq!(here.places, [cache.path().join("prometheus-2.53.3+ds1-1")]);
    }

    #[test]
    fn a_copy_of_which_one_program_is_old_or_broken_is_not_used() {
        let cache = tempfile::tempdir().unwrap();
        put(cache.path(), "prometheus-old", "2.42.0", "2.41.0");
        put(cache.path(), "prometheus-broken", "2.42.0", "");
        put(cache.path(), "prometheusish", "2.42.0", "2.42.0");
        assert_eq!(newest_in(cache.path()).unwrap(), None);
    }

    #[test]
    fn the_way_around_the_package_names_the_release_and_the_place() {
        assert_eq!(by_hand(), "put `prometheus` and `promtool` (2.42.0 or newer, below 3) on the PATH");
        assert_eq!(WANTED, format!("{OLDEST} or newer, below {TOO_NEW}"));
    }
}
