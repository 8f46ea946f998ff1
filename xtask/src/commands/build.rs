//! `cargo xtask build`

use std::process::ExitCode;

use anyhow::Result;

use crate::{build, paths};

pub(super) fn run() -> Result<ExitCode> {
    let artefact = build::build()?;
    println!("{artefact}");
    println!("artefacts: {} {}", paths::farebox()?.display(), paths::envoy_filter()?.display());
    Ok(ExitCode::SUCCESS)
}
