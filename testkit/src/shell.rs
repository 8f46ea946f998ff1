//! Running other programs, with errors that name the program and the reason.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::paths;

/// How often a program with a time limit is checked.
const LOOK: Duration = Duration::from_millis(20);
/// How often the progress of a background program is shown.
const TELL: Duration = Duration::from_secs(20);
/// Prefixes of the variables in which cargo describes the package that it runs.
const OF_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];
/// Number of last bytes of an output that an error shows.
const TAIL: u64 = 4_000;

/// One line of progress, on standard error so that results on standard output stay clean.
pub fn say(line: impl std::fmt::Display) {
    eprintln!("· {line}");
}

/// Returns a command that starts cargo, or a program that starts cargo, at the root of the workspace. The command removes the
/// variables in which cargo describes xtask, because build scripts read them: crates such as ring would be compiled once for
/// xtask and once for a shell.
pub fn builder(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OF_PACKAGE.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    command.current_dir(paths::workspace());
    command
}

/// Runs a program with its output shown, and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let line = render(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| does_not_run(command))?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// Runs a program beside other work. Its output is kept, and only the last line is shown at intervals. Fails
/// with the end of its output unless it succeeds.
pub fn run_beside(command: &mut Command, name: &str) -> Result<()> {
    let line = render(command);
    let (mut child, output) = spawn(command)?;
    let started = Instant::now();
    let mut told = started;
    let status = watch(&mut child, |now| {
        if now.duration_since(told) >= TELL {
            told = now;
            let last = output.tail();
            let last = last.lines().next_back().map_or("nothing printed yet", str::trim);
            say(format_args!("{name}: {} s: {last}", started.elapsed().as_secs()));
        }
        Ok(())
    })?;
    if !status.success() {
        bail!("`{line}` failed: {status}\n{}", output.tail().trim_end());
    }
    Ok(())
}

/// Runs a program and returns its standard output, trimmed; fails with its standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let line = render(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| does_not_run(command))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a program and returns its whole output, trimmed. Fails with the end of the output, or when the time is
/// over.
pub fn ask(command: &mut Command, limit: Duration) -> Result<String> {
    let line = render(command);
    let (mut child, output) = spawn(command)?;
    let deadline = Instant::now() + limit;
    let status = watch(&mut child, |now| {
        if now >= deadline {
            bail!("`{line}` gave no answer within {} s", limit.as_secs());
        }
        Ok(())
    })?;
    if !status.success() {
        bail!("`{line}` failed: {status}\n{}", output.tail().trim_end());
    }
    Ok(output.from(0).trim().to_owned())
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

fn does_not_run(command: &Command) -> String {
    format!("`{}` does not run", command.get_program().to_string_lossy())
}

// --- programs whose output is kept ---

/// The output and errors of a program, in a file, because a pipe can be full.
struct Output(File);

impl Output {
    fn tail(&self) -> String {
        self.from(self.length().saturating_sub(TAIL))
    }

    fn length(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }

    fn from(&self, start: u64) -> String {
        let mut bytes = vec![0; usize::try_from(self.length().saturating_sub(start)).unwrap_or(0)];
        // Reads at its own position, because the file's position belongs to the program that writes.
        let read = self.0.read_exact_at(&mut bytes, start);
        read.map_or_else(|error| error.to_string(), |()| String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn spawn(command: &mut Command) -> Result<(Child, Output)> {
    let file = tempfile::tempfile().context("no temporary file")?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file.try_clone()?);
    let child = command.spawn().with_context(|| does_not_run(command))?;
    Ok((child, Output(file)))
}

/// Waits for a program's end, and ends it once `look` fails.
fn watch(child: &mut Child, mut look: impl FnMut(Instant) -> Result<()>) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let Err(error) = look(Instant::now()) {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_answer_is_what_was_printed_on_both_ways() {
        assert_eq!(ask(&mut sh("echo one; echo two >&2"), Duration::from_secs(60)).unwrap(), "one\ntwo");
    }

    #[test]
    fn a_program_that_gives_no_answer_is_ended_in_time() {
        let started = Instant::now();
        let error = ask(&mut sh("exec sleep 600"), Duration::ZERO).unwrap_err().to_string();
        assert_eq!(error, "`sh -c exec sleep 600` gave no answer within 0 s");
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_program_beside_other_work_fails_with_the_end_of_its_output() {
        assert!(run_beside(&mut sh("echo fine"), "tool").is_ok());
        let error =
            run_beside(&mut sh("seq 10000; echo broken >&2; exit 3"), "tool").unwrap_err().to_string();
        assert!(error.starts_with("`sh -c seq 10000; echo broken >&2; exit 3` failed: exit status: 3\n"));
        assert!(error.ends_with("10000\nbroken"), "{error}");
        assert!(error.len() < 5_000);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = ask(&mut Command::new("no-such-program"), Duration::ZERO).unwrap_err().to_string();
        assert_eq!(error, "`no-such-program` does not run");
    }
}
