//! The PyPI packages of the reference facilitator in Python.

use std::path::PathBuf;

use anyhow::{Context, Result};
use farebox_core::evm::keccak256;

use super::install::install;
use super::pypi::{self, Package};
use super::tool::{Here, Source, Tool};
use crate::paths;

/// One folder of the cache belongs to one list.
const WANTED: &str = "as listed";
/// The package that is used; the list has it with its dependencies.
const PACKAGE: Package = Package { name: "x402", version: "2.25.0", files: &[] };

pub(super) const TOOL: Tool = Tool {
    name: "Python packages",
    source: Source::PyPi("testkit/python"),
    wanted: WANTED,
    megabytes: 92,
    gone: || "choose other versions in testkit/python/requirements.txt".to_owned(),
    here: || {
        let place = paths::cache()?.join(folder(&requirements()?));
        let version = WANTED.to_owned();
        Ok(place.is_dir().then(|| Here { version, places: vec![place] }))
    },
    ask: || PACKAGE.ask(),
    fetch: || python_packages().map(drop),
};

/// The folder of the packages of `testkit/python`, for `PYTHONPATH`; one per content of their list.
pub fn python_packages() -> Result<PathBuf> {
    let list = requirements()?;
    install(&TOOL, &folder(&list), |dir| pypi::unpack_listed(dir, &paths::workspace().join(LIST)))
}

const LIST: &str = "testkit/python/requirements.txt";

fn requirements() -> Result<Vec<u8>> {
    std::fs::read(paths::workspace().join(LIST)).context(LIST)
}

fn folder(list: &[u8]) -> String {
    let short: String = keccak256(list).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("python-{short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_package_is_pinned() {
        let list = String::from_utf8(requirements().unwrap()).unwrap();
        let lines: Vec<_> = list.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.contains(&format!("{}=={}", PACKAGE.name, PACKAGE.version).as_str()));
        assert!(lines.iter().all(|line| line.contains("==")), "{lines:?}");
    }
}
