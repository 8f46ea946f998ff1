//! `cargo xtask build`

use std::process::ExitCode;

use anyhow::Result;
use farebox_testkit::paths;

use crate::build;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only the guests, which host tests need.
    #[arg(long)]
    guests: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    if !args.guests {
        build::native()?;
    }
    build::guests()?.iter().for_each(|artefact| println!("{artefact}"));
    let mut places = vec![paths::envoy_filter()?, paths::traefik_plugin()?, paths::traefik_release()?];
    if !args.guests {
        places.insert(0, paths::farebox()?);
    }
    println!("artefacts:");
    places.iter().for_each(|place| println!("  {}", place.display()));
    Ok(ExitCode::SUCCESS)
}
