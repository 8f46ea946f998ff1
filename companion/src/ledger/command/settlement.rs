//! Who settles the payments of a ledger, by an operator's decision.

use std::process::ExitCode;

use anyhow::bail;

use super::super::{AtStake, Books, Ledger, LedgerOptions};
use crate::settings::Settlement;

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
        return Ok("it is not decided yet: the next companion that starts decides".to_owned());
    };
    let Some(to) = to.filter(|to| *to != now) else {
        return Ok(format!("facilitator.settlement: {now}"));
    };
    let at_stake = ledger.change_settlement(to, forget).await?;
    if at_stake != AtStake::default() {
        bail!(
            "it stays {now}: {to} would take payments again that {now} took ({at_stake}). Stop every companion first, and see \
             \"Who settles\" in docs/ledger.md; --forget changes it all the same"
        );
    }
    Ok(format!("facilitator.settlement: {to}. A companion that still runs with {now} stops within seconds"))
}
