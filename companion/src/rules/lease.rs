//! Asking the kernel whether a file is open for writing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A lease of the kernel on an open file. While it is held, programs that open the file for writing wait.
pub(super) struct Lease<'a> {
    file: BorrowedFd<'a>,
    is_open_for_writing: Option<bool>,
}

// === impl Lease ===

impl<'a> Lease<'a> {
    /// Asks for a lease on a file that is open for reading.
    pub(super) fn take(file: &'a File) -> Self {
        let file = file.as_fd();
        // A program that opens the file for writing meanwhile is announced by this signal, which has no effect.
        let _ = fcntl(file, F_SETSIG, libc::SIGURG);
        let is_open_for_writing = match fcntl(file, libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(()) => Some(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(true),
            Err(_) => None,
        };
        Self { file, is_open_for_writing }
    }

    /// Whether a program has the file open for writing, or mapped into its memory; if not, the lease is held. `None` if the
    /// kernel does not tell: it tells only the owner of the file and programs with CAP_LEASE, and not on every file system.
    pub(super) const fn is_open_for_writing(&self) -> Option<bool> {
        self.is_open_for_writing
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.is_open_for_writing == Some(false) {
            let _ = fcntl(self.file, libc::F_SETLEASE, libc::F_UNLCK);
        }
    }
}

/// `F_SETSIG` of `linux/fcntl.h`.
const F_SETSIG: libc::c_int = 10;

#[allow(unsafe_code, reason = "no library wraps these commands of the system call")]
fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, argument: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open, and both commands take an integer.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, argument) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_who_writes_and_whoever_opens_the_file_waits_for_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert_eq!(Lease::take(&reader).is_open_for_writing(), Some(true));
        drop(writer);
        let lease = Lease::take(&reader);
        assert_eq!(lease.is_open_for_writing(), Some(false));
        let opening = std::thread::spawn(move || File::options().append(true).open(path).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(!opening.is_finished());
        drop(lease);
        let _writer = opening.join().unwrap();
        assert_eq!(Lease::take(&reader).is_open_for_writing(), Some(true));
    }

    #[test]
    fn what_can_have_no_lease_tells_nothing() {
        let file = File::open("/").unwrap();
        assert_eq!(Lease::take(&file).is_open_for_writing(), None);
    }
}
