//! Load by wrk: one thread, kept-alive connections, a bounded time, every answer's status checked.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use farebox_testkit::shell;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

/// Asks for the paths in turn, each with its payment if there is one, and prints what it measured as the last
/// line.
const SCRIPT: &str = r#"
local requests, next = {}, 1

function init(args)
  for line in io.lines(args[1]) do
    local path, payment = line:match("^(%S+) (%S+)$")
    local headers = payment and { Host = wrk.headers["Host"], ["Payment-Signature"] = payment }
    requests[#requests + 1] = wrk.format("GET", path or line, headers)
  end
end

function request()
  local this = requests[next]
  next = next % #requests + 1
  return this
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"refused":%d,"lost":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// One kind of load.
pub(super) struct Load {
    connections: u32,
    /// Status every request must be answered with.
    status: u16,
    script: NamedTempFile,
    requests: NamedTempFile,
}

/// One turn under load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Requests answered.
    pub(super) requests: u64,
    /// How long the turn was.
    pub(super) microseconds: u64,
    /// Answers with a status of 400 or more.
    refused: u64,
    /// Requests without an answer.
    lost: u64,
    /// Half of the answers took at most this, microseconds.
    pub(super) p50: u64,
    /// 99 of 100 answers took at most this, microseconds.
    pub(super) p99: u64,
    /// What the proxy used of the processor meanwhile.
    #[serde(default)]
    pub(super) processor_microseconds: u64,
}

pub(super) fn check_installed() -> Result<()> {
    // wrk exits with 1 after telling its version.
    ensure!(
        Command::new("wrk").arg("--version").output().is_ok(),
        "the load generator wrk was not found; install it (`apt-get install wrk`) and try again"
    );
    Ok(())
}

// === impl Load ===

impl Load {
    pub(super) fn new(connections: u32, status: u16, paths: &[String]) -> Result<Self> {
        let file = |text: &str| -> Result<NamedTempFile> {
            let mut file = NamedTempFile::new()?;
            file.write_all(text.as_bytes())?;
            Ok(file)
        };
        let requests = file(&paths.join("\n"))?;
        Ok(Self { connections, status, script: file(SCRIPT)?, requests })
    }

    /// Requests for one path, each with the next of these `PAYMENT-SIGNATURE` headers.
    pub(super) fn with_payments(
        connections: u32,
        status: u16,
        path: &str,
        payments: &[String],
    ) -> Result<Self> {
        let lines: Vec<String> = payments.iter().map(|payment| format!("{path} {payment}")).collect();
        Self::new(connections, status, &lines)
    }

    pub(super) fn run(&self, address: SocketAddr, turn: Duration) -> Result<Sample> {
        // wrk takes whole seconds, so a shorter turn is ended by its interrupt, after which it reports too.
        let mut command = Command::new("timeout");
        command.args(["--preserve-status", "--signal=INT"]).arg(format!("{}s", turn.as_secs_f64()));
        command.args(["wrk", "--threads", "1", "--duration", "60", "--timeout", "10"]);
        command.arg("--connections").arg(self.connections.to_string());
        command.arg("--script").arg(self.script.path()).arg(format!("http://{address}"));
        command.arg("--").arg(self.requests.path());
        let output = shell::capture(&mut command)?;
        let last = output.lines().last().unwrap_or_default();
        let sample: Sample = serde_json::from_str(last).with_context(|| format!("wrk said: {output}"))?;
        sample.check(self.status)?;
        Ok(sample)
    }
}

// === impl Sample ===

impl Sample {
    pub(super) fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.microseconds.max(1) as f64
    }

    /// Processor time the proxy spent on a request, microseconds. Other programs on the machine take away
    /// rate, but hardly change this.
    pub(super) fn cost(&self) -> f64 {
        self.processor_microseconds as f64 / self.requests.max(1) as f64
    }

    /// A fast wrong answer is no result.
    fn check(&self, status: u16) -> Result<()> {
        let expected = if status >= 400 { self.requests } else { 0 };
        if self.requests == 0 || self.lost > 0 || self.refused != expected {
            bail!("not every request was answered {status}: {self:?}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Sample = Sample {
        requests: 30,
        microseconds: 1_500_000,
        refused: 30,
        lost: 0,
        p50: 90,
        p99: 200,
        processor_microseconds: 60,
    };

    #[test]
    fn a_rate_is_per_second_and_a_cost_per_request() {
        assert_eq!(SAMPLE.per_second(), 20.0);
        assert_eq!(SAMPLE.cost(), 2.0);
    }

    #[test]
    fn a_turn_with_a_wrong_answer_is_no_result() {
        assert!(SAMPLE.check(402).is_ok());
        assert!(SAMPLE.check(200).is_err());
        assert!(Sample { refused: 29, ..SAMPLE }.check(402).is_err());
        assert!(Sample { lost: 1, ..SAMPLE }.check(402).is_err());
        assert!(Sample { refused: 0, ..SAMPLE }.check(200).is_ok());
        assert!(Sample { requests: 0, refused: 0, ..SAMPLE }.check(200).is_err());
    }
}
