//! The npm packages: paying clients of both versions, packages to drive a browser and to make its page, an upstream
//! (Express), and Binaryen, which makes a linked wasm module smaller than the compiler can.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use farebox_core::evm::keccak256;
use serde::Deserialize;

use super::ASK_LIMIT;
use super::install::install;
use super::tool::{Here, Source, Tool};
use crate::{paths, shell};

/// One folder of the cache belongs to one lock file.
const WANTED: &str = "as locked";

pub(super) const TOOL: Tool = Tool {
    name: "npm packages",
    source: Source::Npm("testkit/node"),
    wanted: WANTED,
    megabytes: 270,
    gone: || "choose other versions in testkit/node/package.json, and run `npm install` there".to_owned(),
    here: || {
        let place = paths::cache()?.join(Packages::read()?.folder());
        let version = WANTED.to_owned();
        Ok(place.is_dir().then(|| Here { version, places: vec![place] }))
    },
    ask: || Packages::read()?.ask(),
    fetch: || node_packages().map(drop),
};

/// What `testkit/node` says.
struct Packages {
    package: Vec<u8>,
    lock: Vec<u8>,
}

/// The folder that holds `node_modules` of `testkit/node`, one per content of its lock file.
pub fn node_packages() -> Result<PathBuf> {
    let packages = Packages::read()?;
    install(&TOOL, &packages.folder(), |dir| {
        node()?;
        std::fs::write(dir.join("package.json"), &packages.package)?;
        std::fs::write(dir.join("package-lock.json"), &packages.lock)?;
        shell::run_beside(
            Command::new("npm")
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
                // npm gives up on a silent server within minutes.
                .args(["--fetch-retries=1", "--fetch-timeout=60000"])
                .current_dir(dir),
            "tools: npm packages",
        )
    })
}

/// The folder of `wasm-opt` and `wasm-metadce`.
pub fn binaryen() -> Result<PathBuf> {
    Ok(node_packages()?.join("node_modules/.bin"))
}

fn node() -> Result<()> {
    for program in ["node", "npm"] {
        if !shell::answers(program, &["--version"]) {
            bail!("{program} was not found; install Node 20 or newer");
        }
    }
    Ok(())
}

// === impl Packages ===

impl Packages {
    fn read() -> Result<Self> {
        let read = |name: &str| {
            let path = paths::workspace().join("testkit/node").join(name);
            std::fs::read(&path).with_context(|| format!("{}", path.display()))
        };
        Ok(Self { package: read("package.json")?, lock: read("package-lock.json")? })
    }

    fn folder(&self) -> String {
        let hash = keccak256(&[self.package.as_slice(), &self.lock].concat());
        let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("node-{short}")
    }

    /// Those named in `package.json`, with their versions. What they depend on is pinned by the lock file.
    fn named(&self) -> Result<Vec<(String, String)>> {
        #[derive(Deserialize)]
        struct Package {
            dependencies: BTreeMap<String, String>,
        }
        let package: Package = serde_json::from_slice(&self.package).context("testkit/node/package.json")?;
        Ok(package.dependencies.into_iter().collect())
    }

    /// Whether npm has those that are named.
    fn ask(&self) -> Result<String> {
        node()?;
        let named = self.named()?;
        std::thread::scope(|scope| {
            let questions: Vec<_> =
                named.iter().map(|(name, version)| scope.spawn(|| ask(name, version))).collect();
            questions.into_iter().try_for_each(|question| {
                question.join().unwrap_or_else(|_| bail!("the question to npm was broken off"))
            })
        })?;
        Ok(format!("{} named packages", named.len()))
    }
}

fn ask(name: &str, version: &str) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["view", "--loglevel=error", "--fetch-retries=0"])
        .arg(format!("{name}@{version}"))
        .arg("version");
    // For an unknown version npm may print nothing and succeed.
    if shell::ask(npm.current_dir(std::env::temp_dir()), ASK_LIMIT)? != version {
        bail!("npm has {name} no longer in version {version}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_package_is_pinned() {
        let named = Packages::read().unwrap().named().unwrap();
        assert!(named.iter().any(|(name, _)| name == "binaryen"));
        for (name, version) in named {
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name} {version}");
        }
    }
}
