//! A PostgreSQL server of our own, for ledgers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};

use super::{Folder, Port, Process, process};
use crate::{shell, tools};

/// A running server with one user, who has a password and all rights. Dropping it stops the server and
/// removes its data.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    program: PathBuf,
    durability: Durability,
    port: Port,
    folder: Folder,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The disk, as everywhere where it counts.
    Full,
    /// Nothing: for tests, whose machine does not lose its power.
    Careless,
}

const USER: &str = "farebox";
const PASSWORD: &str = "only-for-tests";
/// PostgreSQL refuses to run as root. This user has nothing, and is on every system.
const NOBODY: u32 = 65_534;
/// A cold machine under load starts it in seconds.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Lines of its log shown with a failure.
const TAIL: usize = 30;

// === impl Postgres ===

impl Postgres {
    /// Starts one with an empty database and waits until it takes connections.
    pub fn start(durability: Durability) -> Result<Self> {
        let installed = tools::postgres()?;
        let folder = Folder::create()?;
        let program = if geteuid().is_root() {
            // This user cannot read root's home, where the cache is.
            chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
            let program = folder.path().join("program");
            copy(&installed, &program)?;
            program
        } else {
            installed
        };
        let mut server = Self { process: None, program, durability, port: Port::take()?, folder };
        server.create_data()?;
        server.start_again()?;
        Ok(server)
    }

    /// The URL of its database `postgres`, with the password.
    pub fn url(&self) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/postgres", self.port.address())
    }

    /// Ends it, cutting every connection.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // After SIGTERM the server would wait for its clients.
            process::signal(process.pid(), Signal::INT);
            process.stop();
        }
    }

    /// Starts it after [`Self::stop`], with the same data at the same address.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-k", ""]);
        command.args(["-p", &self.port.address().port().to_string(), "-c", "max_connections=200"]);
        if self.durability == Durability::Careless {
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        let process = Process::spawn("postgres", command, &self.folder.path().join("postgres.log"))?;
        let deadline = Instant::now() + READY;
        while !self.is_ready(process.pid()) {
            if process.ended().is_some() || Instant::now() >= deadline {
                bail!("PostgreSQL does not start:\n{}", process.tail(TAIL));
            }
            std::thread::sleep(LOOK);
        }
        self.process = Some(process);
        Ok(())
    }

    /// The lock file of the server has its process id, and says whether it takes connections.
    fn is_ready(&self, pid: u32) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines().map(str::trim);
        lines.next() == Some(pid.to_string().as_str()) && lines.next_back() == Some("ready")
    }

    fn create_data(&self) -> Result<()> {
        let password = self.folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o644))?;
        let mut command = self.command("initdb");
        command.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password);
        command.args(["--username", USER, "--auth", "scram-sha-256"]);
        command.args(["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]);
        shell::capture(&mut command).context("PostgreSQL cannot create its data").map(drop)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// One of its programs, as a user it accepts.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program.join(tools::POSTGRES_PROGRAMS).join(name));
        // The program looks up its own path from its working directory.
        command.current_dir(self.folder.path());
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("{}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("{}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_server_takes_connections_until_it_is_stopped_and_again_after_it_is_started() {
        let mut server = Postgres::start(Durability::Careless).unwrap();
        let address = server.port.address();
        TcpStream::connect(address).unwrap();
        server.stop();
        assert!(TcpStream::connect(address).is_err());
        server.start_again().unwrap();
        TcpStream::connect(address).unwrap();
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
        assert!(!folder.exists());
    }
}
