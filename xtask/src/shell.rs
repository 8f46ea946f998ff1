//! Running other programs, with errors that say which one and why.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// One line of progress, on standard error so that results on standard output stay clean.
pub fn say(line: impl std::fmt::Display) {
    eprintln!("· {line}");
}

/// Runs a program with its output shown, and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let line = render(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("`{}` does not run", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a program and returns its standard output, trimmed; fails with its standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let line = render(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{}` does not run", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether a program is there and answers.
pub fn answers(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn render(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}
