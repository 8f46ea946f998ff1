//! What an operator found out about a payment.

use std::process::ExitCode;

use anyhow::{Context, bail};
use farebox_core::evm::B256;
use farebox_core::payment::{Answer, Resolution};

use super::super::{Books, Entry, Filter, Ledger, LedgerOptions};
use crate::clock::{http_date, unix_seconds};

/// Arguments of `farebox ledger resolve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// 0x and 64 hex digits.
    nonce: String,
    /// The buyer, where several payments have this nonce.
    #[arg(long, value_name = "ADDRESS")]
    payer: Option<String>,
    #[command(flatten)]
    found: Found,
    /// With --refused: although the authorization can still be used. Only where its nonce was cancelled on the chain.
    #[arg(long, requires = "refused")]
    cancelled: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Found {
    /// The money moved, in this transaction: it is counted, and the buyer may fetch the answer once.
    #[arg(long, value_name = "TRANSACTION")]
    settled: Option<String>,
    /// No money moved, and none can any more: the authorization ended, or its nonce was cancelled on the chain.
    #[arg(long)]
    refused: bool,
}

/// Writes down what was found out.
pub(super) async fn run(url: &str, args: Args) -> anyhow::Result<ExitCode> {
    let resolution = args.found.resolution()?;
    let mut books = Books::read(url).await?;
    let Args { nonce, payer, cancelled, .. } = args;
    let filter = Filter { nonce: Some(nonce), payer, ..Filter::default() };
    let found = books.list(&filter, 2).await?;
    let entry = match &found[..] {
        [] => bail!("no such payment is in {}", books.url()),
        [entry] => entry.clone(),
        _ => bail!("several payments have this nonce; name the buyer with --payer"),
    };
    books.close().await;
    let is_open = matches!(entry.state.as_str(), "settling" | "unknown");
    if resolution == Resolution::Refused && is_open && !cancelled && entry.ends >= unix_seconds() {
        bail!(
            "until {} the money of this authorization can still move, and its buyer would be charged for nothing: wait \
             until then, or say --cancelled if its nonce was cancelled on the chain",
            http_date(entry.ends)
        );
    }
    println!("{}", resolve(url, &entry, resolution).await?);
    Ok(ExitCode::SUCCESS)
}

/// Ends a payment, in the counters of the companion that sold it.
async fn resolve(url: &str, entry: &Entry, resolution: Resolution) -> anyhow::Result<String> {
    let key = entry.key().context("its key cannot be read")?;
    let ledger = Ledger::open(url, &entry.companion, LedgerOptions::default()).await?;
    let stepped = ledger.resolve(&key, resolution).await;
    let left = ledger.held_for(&key).await;
    ledger.close().await;
    match stepped?.answer {
        Answer::Settled { transaction } => Ok(format!("settled in {transaction}")),
        Answer::Noted => Ok("refused: nothing was charged".to_owned()),
        Answer::InFlight => bail!("a settle call is in flight, try again in {} s", left?.as_secs() + 1),
        Answer::Used => bail!(
            "it is settled already, in {}: what is proven stays",
            entry.transaction.as_deref().unwrap_or("a transaction that is not known")
        ),
        Answer::New => bail!("it is over already"),
        other => bail!("the ledger says {other:?}"),
    }
}

// === impl Found ===

impl Found {
    fn resolution(self) -> anyhow::Result<Resolution> {
        let Some(transaction) = self.settled else { return Ok(Resolution::Refused) };
        if !B256::parse(&transaction).is_ok_and(|hash| hash.0 != [0; 32]) {
            bail!("`{transaction}` is no transaction hash: 0x and 64 hex digits, not all of them zero");
        }
        Ok(Resolution::Settled { transaction: transaction.to_ascii_lowercase() })
    }
}
