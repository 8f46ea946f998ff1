//! No program of a stack outlives the process that started it: a signal that ends this process first
//! ends every program and removes the temporary folders. Dropping a stack does the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, test_kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use super::process;

/// How long the programs may take to end by themselves.
const GRACE: Duration = Duration::from_secs(6);

#[derive(Debug)]
struct Watched {
    processes: BTreeSet<u32>,
    folders: BTreeSet<PathBuf>,
}

static WATCHED: Mutex<Watched> = Mutex::new(Watched { processes: BTreeSet::new(), folders: BTreeSet::new() });

/// Whether a signal is the expected end of this process.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Makes a signal the expected end of this process, which is then no failure.
pub(super) fn await_signal() {
    AWAITED.store(true, Ordering::Relaxed);
}

/// Starts to listen for SIGINT and SIGTERM. Repeated calls do nothing.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let listening = std::thread::Builder::new().name("signal guard".into()).spawn(listen);
        if let Err(error) = listening {
            eprintln!("warning: signals will not stop what is started here: {error}");
        }
    });
}

pub(super) fn watch_process(pid: u32) {
    watched().processes.insert(pid);
}

pub(super) fn forget_process(pid: u32) {
    watched().processes.remove(&pid);
}

pub(super) fn watch_folder(folder: &Path) {
    watched().folders.insert(folder.to_owned());
}

pub(super) fn forget_folder(folder: &Path) {
    watched().folders.remove(folder);
}

fn watched() -> MutexGuard<'static, Watched> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            Ok::<i32, std::io::Error>(tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            })
        })
    });
    match code {
        Ok(code) => {
            eprintln!("stopping");
            end_everything();
            std::process::exit(if AWAITED.load(Ordering::Relaxed) { 0 } else { code });
        }
        Err(error) => eprintln!("warning: signals will not stop what is started here: {error}"),
    }
}

fn end_everything() {
    // The lock is held to the end, so that no other thread starts a program meanwhile.
    let watched = watched();
    for pid in &watched.processes {
        process::signal(*pid, Signal::TERM);
    }
    let deadline = Instant::now() + GRACE;
    while watched.processes.iter().any(|pid| lives(*pid)) {
        if Instant::now() >= deadline {
            for pid in &watched.processes {
                process::signal(*pid, Signal::KILL);
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for folder in &watched.folders {
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn lives(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(Pid::from_raw).is_some_and(|pid| test_kill_process_group(pid).is_ok())
}
