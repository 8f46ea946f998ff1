//! The scripts of `testkit/node`, run by Node with the packages they need.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use farebox_core::evm::keccak256;
use serde::de::DeserializeOwned;

use crate::{paths, tools};

/// Copies a script of `testkit/node` to a place where Node finds its packages. Installs missing packages.
///
/// Node looks for modules from the folder of the script, so the script is copied beside them. Its name
/// depends on its content, because another checkout may have another version.
pub fn script(name: &str) -> Result<PathBuf> {
    let folder = tools::node_packages()?;
    let source = paths::workspace().join(format!("testkit/node/{name}.mjs"));
    let text = std::fs::read(&source).with_context(|| format!("{}", source.display()))?;
    let content: String = keccak256(&text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let script = folder.join(format!("{name}-{content}.mjs"));
    if !script.is_file() {
        let mut copy = tempfile::NamedTempFile::new_in(&folder)?;
        std::io::Write::write_all(&mut copy, &text)?;
        copy.persist(&script)?;
    }
    Ok(script)
}

/// Runs a script with one argument and reads the JSON it prints. `who` names it in errors.
pub(crate) async fn run<T: DeserializeOwned>(
    script: &Path,
    argument: &str,
    deadline: Duration,
    who: &str,
) -> Result<T> {
    let mut node = tokio::process::Command::new("node");
    node.arg(script).arg(argument).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(deadline, node.output())
        .await
        .with_context(|| format!("{who} gave no answer within {deadline:?}"))?
        .context("node does not run")?;
    if !output.status.success() {
        bail!("{who} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{who} printed no result"))
}
