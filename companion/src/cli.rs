//! The command line: one program, several commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{check, explain, ledger, run, settings};

/// x402 payments inside the proxy that already carries the traffic.
#[derive(Debug, Parser)]
#[command(name = "farebox", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines are written to stderr. `RUST_LOG` chooses which; `info` is the default.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the pricing file, push it to the proxies, serve metrics and status.
    Run(Box<settings::Flags>),
    /// Check a pricing file: every error at once, with its line.
    Check(check::Args),
    /// Explain which rule decides a request, and why.
    Explain(explain::Args),
    /// Read the ledger, and resolve open payments.
    Ledger(ledger::command::Args),
    /// Run a development facilitator. It moves no money.
    Facilitator(farebox_dev_facilitator::Args),
}

/// Runs the command of the process arguments.
pub fn main() -> ExitCode {
    let Cli { command, log_format } = Cli::parse();
    let outcome = match command {
        Command::Run(flags) => {
            log_to_stderr(log_format);
            if flags.kubeconfig.is_some() {
                tracing::warn!("--kubeconfig has no effect: rules come from the pricing file");
            }
            match settings::Settings::load(*flags) {
                Ok(settings) => block_on(run::run(settings)),
                Err(error) => Err(error.into()),
            }
        }
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Ledger(args) => block_on(ledger::command::run(args)),
        Command::Facilitator(args) => {
            log_to_stderr(log_format);
            block_on(farebox_dev_facilitator::run(args))
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("farebox: {error:#}");
        ExitCode::FAILURE
    })
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// One line per event on stderr.
fn log_to_stderr(format: LogFormat) {
    use std::io::IsTerminal;

    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;

    let chosen = std::env::var("RUST_LOG").ok().filter(|said| !said.is_empty());
    let filter = chosen.and_then(|said| said.parse().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => lines.finish().with(filter).init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().with(filter).init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_the_same_kind_are_told_apart() {
        let words = "farebox run --listen :1 --discovery-listen :2 --discovery-certificate c --discovery-key k \
                     --discovery-client-ca a --facilitator http://127.0.0.1:3";
        let Cli { command, log_format } = Cli::try_parse_from(words.split_whitespace()).unwrap();
        let Command::Run(flags) = command else { panic!("not the command that was asked for") };
        assert_eq!(log_format, LogFormat::Text);
        assert_eq!(flags.listen.as_deref(), Some(":1"));
        assert_eq!(flags.discovery.listen.as_deref(), Some(":2"));
        assert_eq!(flags.discovery.certificate, Some("c".into()));
        assert_eq!(flags.discovery.key, Some("k".into()));
        assert_eq!(flags.discovery.client_ca, Some("a".into()));
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_the_flag_that_was_meant() {
        let error = Cli::try_parse_from(["farebox", "run", "--pricng", "p.yaml"]).unwrap_err().to_string();
        assert!(error.contains("--pricing"), "{error}");
        let json = Cli::try_parse_from(["farebox", "run", "--log-format", "json"]).unwrap();
        assert_eq!(json.log_format, LogFormat::Json);
    }
}
