//! `cargo xtask build`

use std::process::ExitCode;

use anyhow::Result;
use farebox_testkit::paths;

use crate::build;

pub(super) fn run() -> Result<ExitCode> {
    build::build()?.iter().for_each(|artefact| println!("{artefact}"));
    let places =
        [paths::farebox()?, paths::envoy_filter()?, paths::traefik_plugin()?, paths::traefik_release()?];
    println!("artefacts:");
    places.iter().for_each(|place| println!("  {}", place.display()));
    Ok(ExitCode::SUCCESS)
}
