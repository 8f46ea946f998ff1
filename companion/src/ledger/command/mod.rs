//! `farebox ledger`: the books, for people and their programs. Only `resolve` and `export --delete` write.

mod export;
mod resolve;
mod show;

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::place::file_of;
use super::{Books, Filter};
use export::Format;

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
    /// Every payment, the oldest first, for other programs.
    Export {
        #[command(flatten)]
        which: Which,
        /// Only what was reserved before this day in UTC, as YYYY-MM-DD.
        #[arg(long, value_name = "DATE")]
        before: Option<Date>,
        /// Only what is over (delivered, or refused, and its authorization ended), and take it out of the ledger once
        /// it is written. Open and owed payments stay.
        #[arg(long, requires = "before")]
        delete: bool,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
    },
    /// Ends a payment whose outcome nobody could find out, by what the chain says.
    Resolve(resolve::Args),
}

/// Which payments; all that is given must hold.
#[derive(Debug, Default, clap::Args)]
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
    /// reserved, verified, settling, unknown, owed, delivered or refused. Money moved for owed and delivered ones.
    #[arg(long, value_parser = ["reserved", "verified", "settling", "unknown", "owed", "delivered", "refused"])]
    state: Option<String>,
}

/// Runs the command. Never creates or migrates a database.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if file_of(&args.ledger).is_some_and(|file| !file.is_file()) {
        anyhow::bail!("there is no ledger {}; name it with --ledger", args.ledger);
    }
    let mut out = io::stdout().lock();
    let written = match args.command {
        Command::List { which, limit } => {
            let (mut books, filter) = (Books::read(&args.ledger).await?, which.filter()?);
            let (entries, totals) = (books.list(&filter, limit).await?, books.totals(&filter).await?);
            show::list(&mut out, &entries, &totals)
        }
        Command::Show { nonce } => {
            let mut books = Books::read(&args.ledger).await?;
            let entries =
                books.list(&Filter { nonce: Some(nonce), ..Filter::default() }, u32::MAX >> 1).await?;
            if entries.is_empty() {
                anyhow::bail!("no payment with this nonce is in {}", books.url());
            }
            entries.iter().try_for_each(|entry| show::everything(&mut out, entry))
        }
        Command::Export { which, before, delete, format } => {
            let mut filter = which.filter()?;
            if let Some(before) = before {
                let (from, to) = filter.between.unwrap_or((0, u64::MAX));
                filter.between = Some((from, to.min(start_of(before)?)));
            }
            let books = if delete { Books::clear(&args.ledger).await? } else { Books::read(&args.ledger).await? };
            return export::run(books, filter, format, delete, out).await;
        }
        Command::Resolve(how) => return resolve::run(&args.ledger, how).await,
    };
    finished(written)
}

/// Whoever reads it may have read enough.
fn finished(written: io::Result<()>) -> anyhow::Result<ExitCode> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.context("cannot write").map(|()| ExitCode::SUCCESS),
    }
}

// === impl Which ===

impl Which {
    fn filter(self) -> anyhow::Result<Filter> {
        let between = match self.day {
            Some(day) => Some((start_of(day)?, start_of(day.tomorrow()?)?)),
            None => None,
        };
        let Self { offer, payer, state, day: _ } = self;
        Ok(Filter { offer, payer, state, between, ..Filter::default() })
    }
}

/// Midnight in UTC, Unix milliseconds.
fn start_of(day: Date) -> anyhow::Result<u64> {
    Ok(u64::try_from(day.to_zoned(TimeZone::UTC)?.timestamp().as_millisecond())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_day_in_utc() {
        let which = Which { day: Some("2027-01-15".parse().unwrap()), ..Which::default() };
        assert_eq!(which.filter().unwrap().between, Some((1_799_971_200_000, 1_800_057_600_000)));
    }

    #[tokio::test]
    async fn a_ledger_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("none.db");
        for url in [format!("sqlite:{}", file.display()), format!("sqlite://{}", file.display())] {
            let args = Args { command: Command::Show { nonce: "0x01".into() }, ledger: url };
            assert!(run(args).await.unwrap_err().to_string().contains("there is no ledger"));
            assert!(!file.exists());
        }
    }
}
