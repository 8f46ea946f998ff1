//! One program of the stack: started, logged, watched, stopped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::guard;

/// How long a program may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(6);
/// How often a program is checked.
const LOOK: Duration = Duration::from_millis(20);

/// A running program. Dropping it stops it.
///
/// It is spawned by a thread that lives exactly as long as the program does: Envoy asks the kernel to be
/// ended when its parent dies, and the kernel takes the spawning THREAD for the parent.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    ended: Arc<OnceLock<ExitStatus>>,
    orders: mpsc::Sender<Order>,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Stop,
    Kill,
}

// === impl Process ===

impl Process {
    /// Starts a program in a process group of its own, so that a Ctrl-C in the terminal reaches us first,
    /// with all its output in `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let (orders, inbox) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let ended = Arc::new(OnceLock::new());
        let end = Arc::clone(&ended);
        let keeper = std::thread::Builder::new().name(format!("keeper of {name}")).spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(started.send(Err(error))),
            };
            let pid = child.id();
            guard::watch_process(pid);
            let _ = started.send(Ok(pid));
            let _ = end.set(keep(&mut child, &inbox));
            guard::forget_process(pid);
        })?;
        let pid = start.recv()?.with_context(|| format!("{name} does not start"))?;
        Ok(Self { name: name.to_owned(), pid, log: log.to_owned(), ended, orders, keeper: Some(keeper) })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Memory of the program that is in RAM.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory it ever had in RAM.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &'static str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).context(what)?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// Processor time it has used so far, in all its threads.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name before the closing bracket may hold anything. User and system time are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(')').context("no process name")?;
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.sum::<Result<_, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// The file with its output.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.ended.get().copied()
    }

    /// The last lines of its output.
    pub fn tail(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Asks it to end, and kills it after [`GRACE`]. Returns when it has ended.
    pub fn stop(&mut self) {
        self.finish(Order::Stop);
    }

    /// Ends it as a crash would. Returns when it has ended.
    pub fn kill(&mut self) {
        self.finish(Order::Kill);
    }

    fn finish(&mut self, order: Order) {
        let _ = self.orders.send(order);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for the end of the program, or for an order to end it.
fn keep(child: &mut Child, inbox: &mpsc::Receiver<Order>) -> ExitStatus {
    let mut kill_at = None;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return status;
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            signal(child.id(), Signal::KILL);
        }
        match inbox.recv_timeout(LOOK) {
            Ok(Order::Stop) if kill_at.is_none() => {
                signal(child.id(), Signal::TERM);
                kill_at = Some(Instant::now() + GRACE);
            }
            Ok(Order::Kill) => kill_at = Some(Instant::now()),
            Ok(Order::Stop) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
    }
}

/// Signals the process group of a program; one that is gone is no error.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell", command, log).unwrap()
    }

    fn wait_for(process: &Process, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !process.tail(50).contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in:\n{}", process.tail(50));
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_program_that_ends_is_noticed_with_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let process = shell("echo one; echo two >&2; exit 3", &dir.path().join("log"));
        wait_for(&process, "two");
        let deadline = Instant::now() + Duration::from_secs(10);
        while process.ended().is_none() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(LOOK);
        }
        assert_eq!(process.ended().unwrap().code(), Some(3));
        assert_eq!(process.tail(1), "two");
    }

    #[test]
    fn stopping_ends_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("sleep 600 & echo child $!; wait", &dir.path().join("log"));
        wait_for(&process, "child");
        let child = process.tail(1).trim_start_matches("child ").to_owned();
        process.stop();
        assert!(process.ended().is_some());
        let deadline = Instant::now() + Duration::from_secs(10);
        // A child that was not reaped yet has no command line any more.
        while std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            assert!(Instant::now() < deadline, "the child lives on");
            std::thread::sleep(LOOK);
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = Process::spawn("envoy", Command::new("/nowhere/envoy"), &dir.path().join("log"));
        assert_eq!(error.unwrap_err().to_string(), "envoy does not start");
    }
}
