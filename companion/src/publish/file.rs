//! Replacing a file in one step.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::paths::folder_of;

/// Mode of a new file: Envoy may run as another user, and the file has no secret.
const DEFAULT_MODE: u32 = 0o644;

/// Writes a temporary file beside `path`, flushes it to the disk and renames it to `path`. A reader sees the
/// old or the new content, and a watcher sees the rename. The mode of an existing file is kept.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    let mode = std::fs::metadata(path).map_or(DEFAULT_MODE, |metadata| metadata.permissions().mode());
    let mut temporary = tempfile::Builder::new().prefix(".farebox-").tempfile_in(folder)?;
    temporary.write_all(content)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode & 0o777))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}
