//! The facilitator: what it supports, and a development one for demos and tests.

mod supported;

use std::process::ExitCode;

pub use supported::{Supported, SupportedError, SupportedKind, fetch};

/// Arguments of `farebox facilitator`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:4020")]
    pub listen: std::net::SocketAddr,
}

/// Runs the development facilitator until SIGINT or SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the development facilitator is not available yet ({})", args.listen)
}
