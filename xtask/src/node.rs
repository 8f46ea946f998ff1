//! The scripts of `xtask/node`, run by Node with the packages they need.

use std::path::PathBuf;

use anyhow::{Context, Result};
use farebox_core::evm::keccak256;

use crate::{paths, tools};

/// A script of `xtask/node`, where Node finds its packages. Installs what is missing of them.
///
/// Node finds modules from where a script lies, so the script goes beside them, under a name that follows its
/// content: another checkout may have another one.
pub fn script(name: &str) -> Result<PathBuf> {
    let folder = tools::node_packages()?;
    let source = paths::workspace().join(format!("xtask/node/{name}.mjs"));
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
