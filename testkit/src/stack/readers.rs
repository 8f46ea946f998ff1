//! Upstreams that read paths differently: Express, nginx and Python's http.server, with their defaults.
//!
//! Each is configured as an operator would do it: by routes, locations or files.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::{Folder, Port, Process};
use crate::{node, paths, tools};

/// A program that reads paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// npm `express`: routes without letter case and without a last slash, then files.
    Express,
    /// Locations over decoded paths, whose slashes are merged and whose dots are resolved.
    Nginx,
    /// The server of Python's library, which finds files by decoded and normalised paths.
    Python,
}

/// All of them, running.
#[derive(Debug)]
pub struct Readers {
    running: Vec<(Reader, Process, Port)>,
    _folder: Folder,
}

/// A path, or with a slash at the end everything below it, and its content.
pub type Place = (&'static str, &'static str);

/// Node may be slow to start.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// Lines of its log shown with a failure.
const TAIL: usize = 30;

// === impl Reader ===

impl Reader {
    const ALL: [Self; 3] = [Self::Express, Self::Nginx, Self::Python];

    const fn name(self) -> &'static str {
        match self {
            Self::Express => "express",
            Self::Nginx => "nginx",
            Self::Python => "python",
        }
    }

    fn command(self, folder: &Path, port: u16, places: &[Place]) -> Result<Command> {
        let files = folder.join("files");
        let order = json!({ "port": port, "files": files, "places": places }).to_string();
        Ok(match self {
            Self::Express => {
                let mut command = Command::new("node");
                command.arg(node::script("express")?).arg(order);
                command
            }
            Self::Nginx => {
                std::fs::write(folder.join("nginx.conf"), nginx_settings(port, &files, places))?;
                let mut command = tools::nginx()?.command();
                command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "stderr"]);
                command
            }
            Self::Python => {
                let mut command = Command::new("python3");
                command.arg(paths::workspace().join("testkit/python/files.py")).arg(order);
                command
            }
        })
    }
}

// === impl Readers ===

impl Readers {
    /// Starts all of them with the same places. The first place that contains a path counts.
    pub fn start(places: &[Place]) -> Result<Self> {
        let folder = Folder::create()?;
        let files = folder.path().join("files");
        for (place, what) in places {
            // One file in each folder, for servers of files.
            let file = files.join(place.trim_start_matches('/'));
            let file = if place.ends_with('/') { file.join("a") } else { file };
            std::fs::create_dir_all(file.parent().unwrap_or(&files))?;
            std::fs::write(file, what)?;
        }
        let mut running = Vec::new();
        for reader in Reader::ALL {
            let port = Port::take()?;
            let command = reader.command(folder.path(), port.address().port(), places)?;
            let log = folder.path().join(format!("{}.log", reader.name()));
            running.push((reader, Process::spawn(reader.name(), command, &log)?, port));
        }
        let deadline = Instant::now() + READY;
        for (reader, process, port) in &running {
            while TcpStream::connect(port.address()).is_err() {
                if process.ended().is_some() || Instant::now() >= deadline {
                    bail!("{} does not start:\n{}", reader.name(), process.tail(TAIL));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(Self { running, _folder: folder })
    }

    /// Where each of them listens.
    pub fn addresses(&self) -> Vec<(Reader, SocketAddr)> {
        self.running.iter().map(|(reader, _, port)| (*reader, port.address())).collect()
    }
}

/// A configuration that works in its folder, without root, with one process.
fn nginx_settings(port: u16, files: &Path, places: &[Place]) -> String {
    let mut locations = String::new();
    for (place, what) in places {
        let answer = format!("{{ default_type text/plain; return 200 \"{what}\"; }}\n");
        let _ = match place.strip_suffix('/') {
            Some(folder) => write!(locations, "location = {folder} {answer}location {place} {answer}"),
            None => write!(locations, "location = {place} {answer}"),
        };
    }
    format!(
        "daemon off; master_process off; pid nginx.pid;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
         access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         server {{ listen 127.0.0.1:{port}; root {files};\n{locations}}}\n}}\n",
        files = files.display(),
    )
}
