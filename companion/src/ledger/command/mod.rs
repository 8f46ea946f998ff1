//! `farebox ledger`: the books, for people and their programs. Only `resolve`, `settlement` and `export --delete` write.

mod export;
mod resolve;
mod settlement;
mod show;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::place::file_of;
use super::{Books, Filter};
use crate::settings::{Settings, Settlement, ledger_url};
use export::Format;

/// Arguments of `farebox ledger`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The database: sqlite:FILE or postgres://…, or file:PATH or env:NAME with that. If it is not given: what the
    /// companion's settings say, or sqlite:farebox.db.
    #[arg(long, global = true, value_name = "URL")]
    ledger: Option<String>,
    /// The companion's settings file; `farebox.yaml` in the working directory is used if it exists.
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "ledger")]
    settings: Option<PathBuf>,
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
    /// Everything about the payments with this nonce, or of this transaction.
    Show {
        /// Nonce or transaction hash: 0x and 64 hex digits.
        #[arg(value_name = "NONCE")]
        named: String,
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
    /// Who settles the payments: relay or direct. With a new one, changes it.
    Settlement {
        /// Who is to settle, as `facilitator.settlement` of the settings will say. Stop the proxies first.
        to: Option<Settlement>,
        /// Although payments are forgotten by that.
        #[arg(long, requires = "to")]
        forget: bool,
    },
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
    /// claimed (reserved, its signature not checked yet), reserved, verified, settling, unknown, owed (charged, and not answered), delivered or refused; settled for those
    /// that are owed or delivered.
    #[arg(long, value_parser = ["claimed", "reserved", "verified", "settling", "unknown", "owed", "delivered", "settled", "refused"])]
    state: Option<String>,
}

/// Runs the command. Never creates or migrates a database.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let ledger = &match &args.ledger {
        Some(ledger) => ledger_url(ledger)?,
        None => Settings::ledger(args.settings)?,
    };
    if let Some(file) = file_of(ledger).filter(|file| !file.is_file()) {
        anyhow::bail!("there is no ledger {}; name it with --ledger, or --settings", file.display());
    }
    let mut out = io::stdout().lock();
    let written = match args.command {
        Command::List { which, limit } => {
            let (mut books, filter) = (Books::read(ledger).await?, which.filter()?);
            let (entries, totals) = (books.list(&filter, limit).await?, books.totals(&filter).await?);
            if entries.is_empty() {
                eprintln!(
                    "no such payment is in {}; what is settled under `facilitator: {{ settlement: direct }}` is in no \
                     ledger",
                    books.url()
                );
            }
            show::list(&mut out, &entries, &totals)
        }
        Command::Show { named } => {
            let mut books = Books::read(ledger).await?;
            let by_nonce = Filter { nonce: Some(named.clone()), ..Filter::default() };
            let mut entries = books.list(&by_nonce, u32::MAX >> 1).await?;
            if entries.is_empty() {
                let by_transaction = Filter { transaction: Some(named), ..Filter::default() };
                entries = books.list(&by_transaction, u32::MAX >> 1).await?;
            }
            if entries.is_empty() {
                anyhow::bail!("no payment with this nonce or transaction is in {}", books.url());
            }
            entries.iter().try_for_each(|entry| show::everything(&mut out, entry))
        }
        Command::Export { which, before, delete, format } => {
            let mut filter = which.filter()?;
            if let Some(before) = before {
                let (from, to) = filter.between.unwrap_or((0, u64::MAX));
                filter.between = Some((from, to.min(start_of(before)?)));
            }
            let books = if delete { Books::clear(ledger).await? } else { Books::read(ledger).await? };
            return export::run(books, filter, format, delete, out).await;
        }
        Command::Resolve(how) => return resolve::run(ledger, how).await,
        Command::Settlement { to, forget } => return settlement::run(ledger, to, forget).await,
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
    use clap::Parser;

    use super::*;
    use crate::ledger::tests::{Book, unknown};
    use crate::testing::Database;

    /// As on a command line.
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    async fn says(url: &str, words: &[&str]) -> anyhow::Result<ExitCode> {
        let line = ["ledger", "--ledger", url].into_iter().chain(words.iter().copied());
        run(Line::try_parse_from(line)?.args).await
    }

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
            assert!(
                says(&url, &["show", "0x01"]).await.unwrap_err().to_string().contains("there is no ledger")
            );
            assert!(!file.exists());
        }
        let settings = folder.path().join("farebox.yaml");
        let books = folder.path().join("books.db");
        std::fs::write(&settings, format!("relay: {{ledger: 'sqlite:{}'}}\n", books.display())).unwrap();
        let line = ["ledger", "--settings", settings.to_str().unwrap(), "list"];
        let error = run(Line::try_parse_from(line).unwrap().args).await.unwrap_err().to_string();
        assert!(error.contains(books.to_str().unwrap()), "{error}");
    }

    #[tokio::test]
    async fn what_an_operator_found_out_is_counted_by_the_companion_that_sold_it() {
        let book = Book::open(Database::sqlite().await).await;
        book.begins(1).await;
        book.ends(1, 1, unknown()).await;
        let url = book.database.url.clone();
        let nonce = crate::ledger::tests::key(1).nonce.to_string();
        let (transaction, zero) = (format!("0x{:064x}", 7), format!("0x{:064x}", 0));
        for wrong in [
            vec!["resolve", &nonce],
            vec!["resolve", &nonce, "--settled", "0x1"],
            vec!["resolve", &nonce, "--settled", &zero],
            vec!["resolve", "0x1", "--refused"],
        ] {
            says(&url, &wrong).await.unwrap_err();
        }
        let text = says(&url, &["resolve", &nonce, "--refused"]).await.unwrap_err().to_string();
        assert!(text.starts_with("until ") && text.contains("--cancelled"), "{text}");
        says(&url, &["resolve", &nonce, "--settled", &transaction]).await.unwrap();
        let text = says(&url, &["resolve", &nonce, "--refused"]).await.unwrap_err().to_string();
        assert_eq!(text, format!("it is settled already, in {transaction}: what is proven stays"));
        assert_eq!(book.counted().await[0], ("Charged 1000".to_owned(), 1));
        let entry = book.entry(1).await.unwrap();
        assert_eq!((entry.state.as_str(), entry.transaction), ("owed", Some(transaction.clone())));
        says(&url, &["show", &transaction]).await.unwrap();
        let error = says(&url, &["show", &format!("0x{:064x}", 8)]).await.unwrap_err().to_string();
        assert!(error.starts_with("no payment with this nonce or transaction"), "{error}");
    }

    #[tokio::test]
    async fn an_operator_changes_who_settles() {
        let book = Book::open(Database::sqlite().await).await;
        let url = book.database.url.clone();
        says(&url, &["settlement"]).await.unwrap();
        book.is_settled_by(Settlement::Relay).await.unwrap();
        book.begins(1).await;
        says(&url, &["settlement"]).await.unwrap();
        says(&url, &["settlement", "neither"]).await.unwrap_err();
        let text = says(&url, &["settlement", "direct"]).await.unwrap_err().to_string();
        assert!(text.contains("in use or of unknown outcome: 1") && text.contains("--forget"), "{text}");
        assert_eq!(book.settlement().await.unwrap(), Some(Settlement::Relay));
        says(&url, &["settlement", "direct", "--forget"]).await.unwrap();
        assert_eq!(book.settlement().await.unwrap(), Some(Settlement::Direct));
    }

    #[tokio::test]
    async fn what_an_operator_found_out_waits_for_a_call_in_flight() {
        let book = Book::open(Database::sqlite().await).await;
        book.begins(1).await;
        let until = crate::clock::unix_millis() + 20_000;
        let sql = sqlx::query("UPDATE payments SET hold_until = $1").bind(i64::try_from(until).unwrap());
        sql.execute(&mut *book.connection().await.unwrap()).await.unwrap();
        let nonce = crate::ledger::tests::key(1).nonce.to_string();
        let transaction = format!("0x{:064x}", 7);
        let words = ["resolve", &nonce, "--settled", &transaction];
        let text = says(&book.database.url, &words).await.unwrap_err().to_string();
        let seconds = text.strip_prefix("a settle call is in flight, try again in ").unwrap();
        let seconds: u64 = seconds.strip_suffix(" s").unwrap().parse().unwrap();
        assert!((15..=20).contains(&seconds), "{text}");
        assert_eq!(book.state(1).await.as_deref(), Some("settling"));
    }

    #[tokio::test]
    async fn only_what_is_over_is_exported_to_be_taken_out() {
        let book = Book::open(Database::sqlite().await).await;
        book.sells(1).await;
        book.begins(2).await;
        let url = book.database.url.clone();
        assert!(says(&url, &["export", "--delete"]).await.is_err(), "everything is no date");
        says(&url, &["export", "--before", "2027-01-16", "--delete"]).await.unwrap();
        assert_eq!(book.state(1).await.as_deref(), Some("delivered"), "its window is open");
        let sql = "UPDATE payments SET ends_s = 1";
        sqlx::query(sql).execute(&mut *book.connection().await.unwrap()).await.unwrap();
        says(&url, &["export", "--before", "2027-01-15", "--delete"]).await.unwrap();
        assert_eq!(book.state(1).await.as_deref(), Some("delivered"), "it is of that day");
        says(&url, &["export", "--before", "2027-01-16", "--delete", "--format", "jsonl"]).await.unwrap();
        assert_eq!((book.state(1).await, book.state(2).await.as_deref()), (None, Some("settling")));
    }
}
