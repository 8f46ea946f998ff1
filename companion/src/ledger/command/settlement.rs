//! Who settles the payments of a ledger, by an operator's decision.

use std::process::ExitCode;

use anyhow::bail;

use super::super::{AtStake, Books, Ledger, LedgerOptions};
use crate::settings::{MAX_CLOCK_SKEW, Settlement};

/// Names a companion that never ran: it counts nothing.
const NOBODY: &str = "farebox ledger settlement";

/// Says who settles, or changes it.
pub(super) async fn run(url: &str, to: Option<Settlement>, forget: bool) -> anyhow::Result<ExitCode> {
    // Says so if the schema is not that of this version, where opening it to write would bring it up to date.
    Books::read(url).await?.close().await;
    let ledger = Ledger::open(url, NOBODY, LedgerOptions::default()).await?;
    let said = say(&ledger, to, forget).await;
    ledger.close().await;
    println!("{}", said?);
    Ok(ExitCode::SUCCESS)
}

async fn say(ledger: &Ledger, to: Option<Settlement>, forget: bool) -> anyhow::Result<String> {
    let Some(now) = ledger.settlement().await? else {
        return Ok("no companion has used this ledger: the first one decides".to_owned());
    };
    let Some(to) = to.filter(|to| *to != now) else {
        return Ok(format!("facilitator.settlement: {now}"));
    };
    let at_stake = ledger.at_stake(now, MAX_CLOCK_SKEW).await?;
    if at_stake != AtStake::default() && !forget {
        bail!(
            "{to} would take payments again that {now} took ({at_stake}); --forget changes it all the same"
        );
    }
    ledger.change_settlement(to).await?;
    Ok(format!("facilitator.settlement: {to}. A companion that still runs with {now} stops within seconds"))
}
