//! One line per step: what was expected and what was seen.

use std::process::ExitCode;

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    held: usize,
    failed: usize,
}

// === impl Report ===

impl Report {
    /// Tells a step. It holds if what was seen reads exactly as what was expected.
    pub(super) fn tell(&mut self, step: &str, expected: &str, seen: anyhow::Result<String>) {
        let seen = seen.unwrap_or_else(|error| format!("error: {error:#}"));
        let holds = seen == expected;
        *(if holds { &mut self.held } else { &mut self.failed }) += 1;
        println!("{step} · {expected} · {seen} · {}", if holds { "ok" } else { "FAILED" });
    }

    /// The sum, as text and exit code.
    pub(super) fn end(&self) -> ExitCode {
        println!("{} steps held, {} failed", self.held, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Whether every step held so far.
    pub(super) const fn holds(&self) -> bool {
        self.failed == 0
    }
}
