//! Where a ledger is: its URL, and what can be said about it without opening it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection};
use tokio::time::timeout;

/// How often it is looked whether a lock is free.
const POLL: Duration = Duration::from_millis(20);

/// A SQLite file that is missing is made, unless the URL says otherwise.
pub(super) fn creating(url: &str) -> String {
    let says_how = !url.starts_with("sqlite:") || url.contains('?');
    if says_how { url.to_owned() } else { format!("{url}?mode=rwc") }
}

/// Tries once.
pub(super) async fn connect(url: &str, patience: Duration) -> Result<AnyConnection, String> {
    match timeout(patience, AnyConnection::connect(url)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it does not answer within {patience:?}")),
    }
}

/// The file of a SQLite URL.
pub(super) fn file_of(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(PathBuf::from(path.split('?').next().unwrap_or(path)))
}

/// The turn to migrate a file, while it is held: of two who migrate it at once one fails. A lock of its folder, as
/// closing a file gives up the locks SQLite has on it.
pub(super) async fn turn_to_migrate(file: &Path, patience: Duration) -> std::io::Result<File> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or_else(|| ".".as_ref()))?;
    let end = Instant::now() + patience;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(TryLockError::WouldBlock) if Instant::now() < end => tokio::time::sleep(POLL).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Says what SQLite does not: what is wrong with a path.
pub(super) fn look_at(path: &Path) -> Result<(), String> {
    if path.is_dir() {
        return Err("it is a folder; name a file in it".to_owned());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(format!("there is no folder {}; make it", folder.display()))
        }
        _ => Ok(()),
    }
}

/// `scheme://user:password@host/database?password=…` without password and parameters.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // A password may hold a question mark, but then the host is after it.
    let place = if parameters.contains('@') { rest } else { place };
    match place.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{}", host.split('?').next().unwrap_or(host))
        }
        None => format!("{scheme}://{place}"),
    }
}
