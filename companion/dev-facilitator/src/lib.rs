//! A facilitator for development: the standard API with a ledger in memory. It moves no money.
//!
//! * `POST /verify`, `POST /settle`, `GET /supported`: the standard facilitator API, versions 1 and 2.
//! * `POST /dev/fail`: fail in a named way from now on, see [`Mode`].
//! * `GET /dev/record`: every call with its body and outcome, balances, settled payments.
//! * `POST /dev/reset`: forget calls, payments, balances and failures.
//!
//! Payments are checked by the same core as in a proxy, as strictly as in a token contract: a
//! signature that could not settle on a chain does not settle here.
#![forbid(unsafe_code)]

mod answer;
mod api;
mod judge;
mod ledger;
mod listener;
mod mode;
mod state;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use farebox_core::evm::Amount;
use tokio::net::TcpListener;

pub use api::router;
pub use listener::{Connection, CuttableListener};
pub use mode::{Endpoint, Mode};
pub use state::Facilitator;

/// Arguments of `farebox facilitator`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:4020")]
    pub listen: SocketAddr,
    /// What every payer owns of every asset at the start, in atomic units.
    #[arg(long, default_value = "1000000000000000000000000", value_parser = parse_balance)]
    pub balance: Amount,
    /// Fail from the start, e.g. `settle=hang` or `verify=http_503`. May be repeated.
    #[arg(long = "fail", value_name = "ENDPOINT=MODE", value_parser = parse_failure)]
    pub failures: Vec<(Endpoint, Mode)>,
}

const BANNER: &str = "\
************************************************************************
*  DEVELOPMENT FACILITATOR: NO MONEY MOVES HERE.                       *
*  Payments are checked and then only noted in memory. Transactions    *
*  are made up. Never point a route that sells something at it.        *
************************************************************************";

/// Runs the development facilitator until SIGINT or SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}: choose another address with --listen", args.listen))?;
    let address = listener.local_addr()?;
    let facilitator = Facilitator::new(args.balance, args.failures);
    eprintln!("{BANNER}");
    println!("facilitator listening on http://{address}");
    let app = router(facilitator).into_make_service_with_connect_info::<Connection>();
    tokio::select! {
        served = axum::serve(CuttableListener(listener), app) => served?,
        () = stopped() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn parse_balance(text: &str) -> Result<Amount, String> {
    Amount::parse(text).map_err(|error| error.to_string())
}

fn parse_failure(text: &str) -> Result<(Endpoint, Mode), String> {
    let (endpoint, mode) = text.split_once('=').ok_or("must be ENDPOINT=MODE, e.g. settle=hang")?;
    let endpoint: Endpoint = endpoint.parse()?;
    Ok((endpoint, Mode::parse_for(mode, endpoint)?))
}
