//! `farebox ledger`: the books, for people and their programs.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{Entry, Filter, Ledger, LedgerOptions, Total};

/// Arguments of `farebox ledger`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The database: sqlite:FILE or postgres://…
    #[arg(long, global = true, default_value = "sqlite:farebox.db", value_name = "URL")]
    ledger: String,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The latest payments, and what was settled, by chain and asset.
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Everything about the payments with this nonce.
    Show {
        /// 0x and 64 hex digits.
        nonce: String,
    },
    /// Every payment, for other programs.
    Export {
        #[command(flatten)]
        which: Which,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
    },
}

/// Which payments; all that is given must hold.
#[derive(Debug, clap::Args)]
struct Which {
    /// NAMESPACE/NAME, or NAME alone.
    #[arg(long)]
    offer: Option<String>,
    /// Address of the buyer.
    #[arg(long)]
    payer: Option<String>,
    /// Day of the reservation in UTC, as YYYY-MM-DD.
    #[arg(long)]
    day: Option<Date>,
    /// reserved, verified, settling, settled, refused, unknown or expired.
    #[arg(long, value_parser = ["reserved", "verified", "settling", "settled", "refused", "unknown", "expired"])]
    state: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// With a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// Runs the command. Never creates a database.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(file) = args.ledger.strip_prefix("sqlite:")
        && !std::path::Path::new(file.split('?').next().unwrap_or(file)).is_file()
    {
        anyhow::bail!("there is no ledger {}; name it with --ledger", args.ledger);
    }
    let ledger = Ledger::open(&args.ledger, "", LedgerOptions::default()).await?;
    let mut out = io::stdout().lock();
    let written = match args.command {
        Command::List { which, limit } => {
            let filter = which.filter()?;
            let (entries, totals) = (ledger.list(&filter, limit).await?, ledger.totals(&filter).await?);
            list(&mut out, &entries, &totals)
        }
        Command::Show { nonce } => {
            let filter = Filter { nonce: Some(nonce), ..Filter::default() };
            let entries = ledger.list(&filter, u32::MAX).await?;
            if entries.is_empty() {
                anyhow::bail!("no payment with this nonce is in {}", ledger.url());
            }
            entries.iter().try_for_each(|entry| show(&mut out, entry))
        }
        Command::Export { which, format } => {
            export(&mut out, &ledger.list(&which.filter()?, u32::MAX).await?, format)
        }
    };
    match written {
        // Whoever reads it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.context("cannot write").map(|()| ExitCode::SUCCESS),
    }
}

// === impl Which ===

impl Which {
    fn filter(self) -> anyhow::Result<Filter> {
        let start = |day: Date| {
            let midnight = day.to_zoned(TimeZone::UTC)?.timestamp().as_millisecond();
            anyhow::Ok(u64::try_from(midnight)?)
        };
        let between = match self.day {
            Some(day) => Some((start(day)?, start(day.tomorrow()?)?)),
            None => None,
        };
        Ok(Filter { offer: self.offer, payer: self.payer, state: self.state, nonce: None, between })
    }
}

fn list(out: &mut impl Write, entries: &[Entry], totals: &[Total]) -> io::Result<()> {
    for entry in entries {
        writeln!(
            out,
            "{} {:8} {} {} {} from {} for {}/{} {}",
            time(entry.reserved_at),
            entry.state,
            entry.amount,
            entry.asset_symbol,
            entry.network,
            entry.payer,
            entry.offer_namespace,
            entry.offer_name,
            entry.transaction.as_deref().or(entry.reason.as_deref()).unwrap_or(&entry.nonce),
        )?;
    }
    for total in totals {
        let Total { network, asset, asset_symbol, payments, amount } = total;
        writeln!(
            out,
            "settled: {amount} {asset_symbol} (atomic units of {asset} on {network}) in {payments} payments"
        )?;
    }
    Ok(())
}

fn show(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, entry)?;
    writeln!(out)
}

fn export(out: &mut impl Write, entries: &[Entry], format: Format) -> io::Result<()> {
    match format {
        Format::Csv => {
            let mut writer = csv::Writer::from_writer(out);
            entries.iter().try_for_each(|entry| writer.serialize(entry)).map_err(io::Error::from)?;
            writer.flush()
        }
        Format::Jsonl => entries.iter().try_for_each(|entry| {
            serde_json::to_writer(&mut *out, entry)?;
            writeln!(out)
        }),
    }
}

fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(String::new, |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            state: "settled".into(),
            network: "eip155:84532".into(),
            asset: "0xasset".into(),
            asset_symbol: "USDC".into(),
            amount: "1000".into(),
            payer: "0xpayer".into(),
            pay_to: "0xshop".into(),
            nonce: "0x01".into(),
            offer_namespace: "ns".into(),
            offer_name: "a, \"b\"".into(),
            transaction: Some("0xtx".into()),
            reason: None,
            facilitator: Some("https://pay.example.com".into()),
            source: "e1/1".into(),
            generation: 9,
            reserved_at: 1_800_000_000_000,
            verified_at: None,
            settling_at: Some(1_800_000_000_100),
            ended_at: Some(1_800_000_000_200),
        }
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_has_a_header_and_quotes_what_needs_it() {
        let csv = text(|out| export(out, &[entry()], Format::Csv));
        let mut lines = csv.lines();
        assert!(lines.next().unwrap().starts_with("state,network,asset,asset_symbol,amount,"));
        assert!(lines.next().unwrap().contains("\"a, \"\"b\"\"\""));
    }

    #[test]
    fn json_lines_read_back() {
        let json = text(|out| export(out, &[entry(), entry()], Format::Jsonl));
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["amount"]), (2, &serde_json::json!("1000")));
    }

    #[test]
    fn everything_about_a_payment_says_who_settles_it() {
        let shown: serde_json::Value = serde_json::from_str(&text(|out| show(out, &entry()))).unwrap();
        assert_eq!(shown["facilitator"], "https://pay.example.com");
    }

    #[test]
    fn a_list_shows_time_state_money_and_totals() {
        let total = Total {
            network: "eip155:84532".into(),
            asset: "0xasset".into(),
            asset_symbol: "USDC".into(),
            payments: 1,
            amount: "1000".into(),
        };
        let list = text(|out| list(out, &[entry()], &[total]));
        assert_eq!(
            list,
            "2027-01-15T08:00:00Z settled  1000 USDC eip155:84532 from 0xpayer for ns/a, \"b\" 0xtx\n\
             settled: 1000 USDC (atomic units of 0xasset on eip155:84532) in 1 payments\n"
        );
    }

    #[test]
    fn a_day_is_that_day_in_utc() {
        let which = Which { offer: None, payer: None, day: Some("2027-01-15".parse().unwrap()), state: None };
        assert_eq!(which.filter().unwrap().between, Some((1_799_971_200_000, 1_800_057_600_000)));
    }

    #[tokio::test]
    async fn a_ledger_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none.db");
        let args = Args {
            command: Command::Show { nonce: "0x01".into() },
            ledger: format!("sqlite:{}", file.display()),
        };
        assert!(run(args).await.unwrap_err().to_string().contains("there is no ledger"));
        assert!(!file.exists());
    }
}
