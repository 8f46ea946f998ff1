//! The command line: one program, several commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{check, explain, facilitator, ledger, run, settings};

/// x402 payments inside the proxy that already carries the traffic.
#[derive(Debug, Parser)]
#[command(name = "farebox", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the pricing file, push it to the proxies, serve metrics and status.
    Run(Box<settings::Flags>),
    /// Check a pricing file: every error at once, with its line.
    Check(check::Args),
    /// Explain which rule decides a request, and why.
    Explain(explain::Args),
    /// Look into the ledger of the relay.
    Ledger(ledger::command::Args),
    /// Run a development facilitator. It moves no money.
    Facilitator(facilitator::Args),
}

/// Runs the command of the process arguments.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(flags) => {
            log_to_stderr();
            match settings::Settings::load(*flags) {
                Ok(settings) => block_on(run::run(settings)),
                Err(error) => Err(error.into()),
            }
        }
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Ledger(args) => block_on(ledger::command::run(args)),
        Command::Facilitator(args) => {
            log_to_stderr();
            block_on(facilitator::run(args))
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

/// One line per event on stderr; `RUST_LOG` chooses, `info` is the default.
fn log_to_stderr() {
    use std::io::IsTerminal;

    use tracing_subscriber::EnvFilter;

    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
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
        let Command::Run(flags) = Cli::try_parse_from(words.split_whitespace()).unwrap().command else {
            panic!("not the command that was asked for");
        };
        assert_eq!(flags.listen.as_deref(), Some(":1"));
        assert_eq!(flags.discovery.listen.as_deref(), Some(":2"));
        assert_eq!(flags.discovery.certificate, Some("c".into()));
        assert_eq!(flags.discovery.key, Some("k".into()));
        assert_eq!(flags.discovery.client_ca, Some("a".into()));
    }
}
