//! Prometheus and its promtool, from the package of the Debian mirror this machine's apt is configured for.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::install;
use crate::shell;

/// The Prometheus that the rules are tested with, as Debian 12 counts its builds.
const VERSION: &str = "2.42.0+ds-5+b6";

/// The Prometheus server.
pub fn prometheus() -> Result<PathBuf> {
    program("prometheus")
}

/// The program that checks and tests rules.
pub fn promtool() -> Result<PathBuf> {
    program("promtool")
}

fn program(name: &str) -> Result<PathBuf> {
    let folder = install(&format!("prometheus-{VERSION}"), fill)?;
    let program = folder.join("usr/bin").join(name);
    if !shell::answers(&program.to_string_lossy(), &["--version"]) {
        bail!("{} does not run; delete {} and try again", program.display(), folder.display());
    }
    Ok(program)
}

/// Downloads the package and unpacks it, without installing it: neither step needs root.
fn fill(dir: &Path) -> Result<()> {
    for program in ["apt-get", "dpkg-deb"] {
        if !shell::answers(program, &["--version"]) {
            bail!("{program} is needed to fetch Prometheus and was not found; {}", by_hand());
        }
    }
    let package = format!("prometheus={VERSION}");
    shell::run(Command::new("apt-get").args(["--quiet", "download"]).arg(&package).current_dir(dir))
        .with_context(|| {
            format!(
                "apt has no {package}; run `apt-get update` as root if its lists are old or empty. \
                 If the mirror has moved on to another build, change VERSION in {}; or {}",
                file!(),
                by_hand()
            )
        })?;
    let package = downloaded(dir)?;
    shell::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(dir))?;
    Ok(std::fs::remove_file(package)?)
}

fn downloaded(dir: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(path);
        }
    }
    bail!("apt-get said it downloaded the package, but there is none")
}

/// What helps where there is no such package.
fn by_hand() -> String {
    format!(
        "put `prometheus` and `promtool` of release {} into usr/bin/ of a folder prometheus-{VERSION} in the \
         cache of tools (~/.cache/farebox, or FAREBOX_CACHE)",
        VERSION.split('+').next().unwrap_or(VERSION)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_around_the_package_names_the_release_and_the_folder() {
        let text = by_hand();
        assert!(text.contains("of release 2.42.0 into"), "{text}");
        assert!(text.contains(&format!("prometheus-{VERSION} ")), "{text}");
    }

    #[test]
    fn the_package_is_found_among_what_else_is_there() {
        let dir = tempfile::tempdir().unwrap();
        assert!(downloaded(dir.path()).is_err());
        std::fs::write(dir.path().join("partial"), "").unwrap();
        let package = dir.path().join("prometheus_2.42.0_amd64.deb");
        std::fs::write(&package, "").unwrap();
        assert_eq!(downloaded(dir.path()).unwrap(), package);
    }
}
