//! Packages of this machine's distribution, downloaded and unpacked without installing them, which needs no root.
//!
//! A distribution keeps one build of a package: the next security update replaces it on the mirror. So no version is
//! pinned; apt says which build it has. Its lists may be empty, as in a container, or older than the mirror. Then new
//! lists are fetched into a separate folder, and the machine's lists are not changed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::shell;

/// The remedy for empty and old lists.
pub(super) const REMEDY: &str = "run `apt-get update` as root";
/// apt answers from its lists.
const POLICY_LIMIT: Duration = Duration::from_secs(20);
/// Options that give up on a silent mirror within a minute.
const IMPATIENT: [&str; 3] =
    ["Acquire::Retries=0", "Acquire::http::Timeout=15", "Acquire::https::Timeout=15"];
/// Settings that keep new lists small. A download needs neither translations nor contents nor sources.
const SPARING: &str = "Acquire::Languages \"none\";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled \"false\";
";

/// Apt's settings for lists of our own, in their folder.
const SETTINGS: &str = "apt.conf";

/// Lists of packages.
pub(super) struct Lists {
    /// None for the machine's.
    folder: Option<TempDir>,
    /// The first line of apt about a source it could not reach.
    missing: String,
}

// === impl Lists ===

impl Lists {
    /// The lists of the machine.
    pub(super) fn of_the_machine() -> Result<Self> {
        for program in ["apt-get", "apt-cache", "dpkg-deb"] {
            if !shell::answers(program, &["--version"]) {
                bail!("{program} was not found");
            }
        }
        Ok(Self { folder: None, missing: String::new() })
    }

    /// Fetches new lists from the machine's sources, within this time.
    pub(super) fn fresh(limit: Duration) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("farebox-apt-").tempdir()?;
        let place = folder.path();
        std::fs::create_dir_all(place.join("lists/partial"))?;
        std::fs::create_dir_all(place.join("cache/archives/partial"))?;
        let dirs = format!("Dir::State::Lists \"{0}/lists\";\nDir::Cache \"{0}/cache\";\n", place.display());
        std::fs::write(place.join(SETTINGS), dirs + SPARING)?;

        let mut lists = Self { folder: Some(folder), missing: String::new() };
        let printed =
            shell::ask(lists.apt("apt-get").arg("update"), limit).context("apt cannot fetch new lists")?;
        // apt does not fail if a source cannot be reached, because another may have the package.
        let missing = printed.lines().find(|line| line.contains("Failed to fetch"));
        lists.missing = missing.unwrap_or_default().to_owned();
        Ok(lists)
    }

    /// The version of a package that apt would install.
    pub(super) fn candidate(&self, package: &str) -> Result<String> {
        let answer = shell::ask(self.apt("apt-cache").args(["policy", package]), POLICY_LIMIT)?;
        match candidate_in(&answer) {
            Some(version) => Ok(version.to_owned()),
            None if self.missing.is_empty() => bail!("apt has no package {package}"),
            None => bail!("apt has no package {package}: {}", self.missing),
        }
    }

    /// A package in this version, with the dependencies that this machine does not have, each as `NAME=VERSION`.
    pub(super) fn with_needs(&self, package: &str, version: &str) -> Result<Vec<String>> {
        let package = format!("{package}={version}");
        let mut install = self.apt("apt-get");
        install.args(["--simulate", "--no-install-recommends", "install", &package]);
        let plan = shell::ask(&mut install, POLICY_LIMIT)?;
        let packages = installed_by(&plan);
        if !packages.contains(&package) {
            bail!("apt would not install {package}:\n{plan}");
        }
        Ok(packages)
    }

    /// Downloads packages, each as `NAME=VERSION`, and unpacks them into a folder.
    pub(super) fn unpack(&self, packages: &[String], dir: &Path) -> Result<()> {
        let names = packages.join(" ");
        let mut download = self.apt("apt-get");
        shell::run_beside(
            download.arg("download").args(packages).current_dir(dir),
            &format!("tools: {names}"),
        )
        .with_context(|| format!("apt cannot download {names}"))?;
        let archives = archives_in(dir)?;
        if archives.len() < packages.len() {
            bail!("apt-get said it downloaded {names}, but {} packages are there", archives.len());
        }
        for archive in archives {
            shell::run(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(dir))?;
            std::fs::remove_file(archive)?;
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Its answers are parsed.
        command.env("LC_ALL", "C").arg("--quiet");
        command.args(IMPATIENT.iter().flat_map(|option| ["-o", option]));
        if let Some(folder) = &self.folder {
            command.arg("--config-file").arg(folder.path().join(SETTINGS));
        }
        command
    }
}

/// The candidate in an answer of `apt-cache policy`.
fn candidate_in(answer: &str) -> Option<&str> {
    let mut lines = answer.lines().filter_map(|line| line.trim().strip_prefix("Candidate:"));
    lines.next().map(str::trim).filter(|version| *version != "(none)")
}

/// What a plan of `apt-get --simulate` installs: `Inst NAME [OLD] (VERSION ORIGIN) …` for each package.
fn installed_by(plan: &str) -> Vec<String> {
    let package = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let (_, version) = rest.split_once('(')?;
        Some(format!("{name}={}", version.split([' ', ')']).next()?))
    };
    plan.lines().filter_map(package).collect()
}

/// The archives that were downloaded into a folder.
fn archives_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut archives = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            archives.push(path);
        }
    }
    Ok(archives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read_from_the_policy() {
        let answer = "prometheus:\n  Installed: (none)\n  Candidate: 2.42.0+ds-5+deb12u1\n  Version table:\n";
        assert_eq!(candidate_in(answer), Some("2.42.0+ds-5+deb12u1"));
        assert_eq!(candidate_in("prometheus:\n  Installed: 2.1\n  Candidate: (none)\n"), None);
        // For an unknown package apt prints nothing.
        assert_eq!(candidate_in(""), None);
    }

    #[test]
    fn archives_are_found_among_what_else_is_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("partial"), "").unwrap();
        assert!(archives_in(dir.path()).unwrap().is_empty());
        let archive = dir.path().join("prometheus_2.42.0_amd64.deb");
        std::fs::write(&archive, "").unwrap();
        assert_eq!(archives_in(dir.path()).unwrap(), [archive]);
    }

    #[test]
    fn a_plan_names_new_and_renewed_packages() {
        let plan = "Reading package lists...\nInst nginx-common (1.22.1-9 Debian:12/stable [all])\n\
                    Inst libc6 [2.36-8] (2.36-9 Debian:12/stable [amd64]) []\nConf libc6 (2.36-9 Debian)\n";
        assert_eq!(installed_by(plan), ["nginx-common=1.22.1-9", "libc6=2.36-9"]);
    }
}
