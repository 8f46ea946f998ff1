//! `cargo xtask component`

use std::process::ExitCode;

use anyhow::Result;
use farebox_testkit::{paths, tools};

use crate::build;

pub(super) fn run() -> Result<ExitCode> {
    tools::wasm_targets()?;
    println!("{}", build::component()?);
    println!("artefact:\n  {}", paths::component()?.display());
    Ok(ExitCode::SUCCESS)
}
