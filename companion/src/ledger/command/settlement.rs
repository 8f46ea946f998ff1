//! Who settles the payments of a ledger, by an operator's decision.

use std::process::ExitCode;

use farebox_core::terms;

use super::super::{AtStake, Books, Ledger, LedgerOptions};
use crate::settings::Settlement;

/// Names a companion that never ran: it counts nothing.
const NOBODY: &str = "farebox ledger settlement";

/// Says who settles, or changes it.
pub(super) async fn run(url: &str, to: Option<Settlement>) -> anyhow::Result<ExitCode> {
    // Says so if the schema is not that of this version, where opening it to write would bring it up to date.
    Books::read(url).await?.close().await;
    let ledger = Ledger::open(url, NOBODY, LedgerOptions::default()).await?;
    let said = say(&ledger, to).await;
    ledger.close().await;
    println!("{}", said?);
    Ok(ExitCode::SUCCESS)
}

async fn say(ledger: &Ledger, to: Option<Settlement>) -> anyhow::Result<String> {
    let Some(now) = ledger.settlement().await? else {
        return Ok("no companion has used this ledger: the first one decides".to_owned());
    };
    let Some(to) = to.filter(|to| *to != now) else {
        return Ok(format!("facilitator.settlement: {now}"));
    };
    let at_stake = ledger.at_stake(now, terms::Settings::default().replay_horizon_seconds).await?;
    ledger.change_settlement(to).await?;
    let forgotten = match at_stake {
        none if none == AtStake::default() => "nothing is forgotten".to_owned(),
        some => format!("forgotten are: {some}"),
    };
    Ok(format!(
        "facilitator.settlement: {to}; {forgotten}. A companion that still runs with {now} stops within seconds"
    ))
}
