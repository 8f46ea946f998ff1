//! The temporary folder of what is started.

use std::path::Path;

use anyhow::Result;

use super::guard;

/// The temporary folder, removed when dropped, by a signal too.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

// === impl Folder ===

impl Folder {
    /// Makes one.
    pub fn create() -> Result<Self> {
        guard::install();
        let folder = tempfile::Builder::new().prefix("farebox-stack-").tempdir()?;
        guard::watch_folder(folder.path());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        guard::forget_folder(self.0.path());
    }
}
