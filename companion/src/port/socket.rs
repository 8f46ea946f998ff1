//! Sockets: TCP, or Unix. To a Unix socket only processes of this machine can connect, as far as its folder and
//! mode permit.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::Peer;
use crate::settings::Listen;

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    /// Removed with its file.
    Unix(UnixListener, SocketFile),
}

/// The file of a socket.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

/// A connection as it was accepted.
#[derive(Debug)]
pub(super) enum Raw {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The user and the group of the companion may connect.
const MODE: u32 = 0o660;
/// Silence before keep-alive probes. A dead client machine is detected within about two minutes.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(20);

// === impl Socket ===

impl Socket {
    pub(super) async fn bind(listen: &Listen) -> io::Result<Self> {
        let path = match listen {
            Listen::Tcp(address) => return Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Listen::Unix(path) => path.clone(),
        };
        // The file of a killed companion: no process listens on it any more.
        if let Err(error) = UnixStream::connect(&path).await
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            std::fs::remove_file(&path)?;
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(MODE))?;
        Ok(Self::Unix(listener, SocketFile(path)))
    }

    pub(super) fn address(&self) -> io::Result<Listen> {
        Ok(match self {
            Self::Tcp(listener) => Listen::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => Listen::Unix(file.0.clone()),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<(Raw, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Raw::Tcp(stream), Peer(Some(address))))
            }
            Self::Unix(listener, _) => Ok((Raw::Unix(listener.accept().await?.0), Peer(None))),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

// === impl Raw ===

impl Raw {
    /// Sets options: answers are sent at once, and a client that disappears is detected.
    pub(super) fn prepare(&self) {
        let Self::Tcp(stream) = self else { return };
        let _ = stream.set_nodelay(true);
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(3);
        let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    }
}

/// Calls a method on the inner socket of either kind.
macro_rules! on {
    ($raw:expr, $stream:ident => $call:expr) => {
        match $raw {
            Raw::Tcp($stream) => $call,
            Raw::Unix($stream) => $call,
        }
    };
}

/// The operations of a shared socket: its connection reads and writes, and the port's table checks for unread
/// bytes.
impl Raw {
    /// Whether there are unread bytes.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        on!(self, stream => SockRef::from(stream).peek(&mut byte)).is_ok_and(|bytes| bytes > 0)
    }

    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(on!(self, stream => stream.poll_read_ready(context)))?;
            match on!(self, stream => stream.try_read(buffer.initialize_unfilled())) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|bytes| buffer.advance(bytes))),
            }
        }
    }

    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(on!(self, stream => stream.poll_write_ready(context)))?;
            match on!(self, stream => stream.try_write_vectored(parts)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                wrote => return Poll::Ready(wrote),
            }
        }
    }

    /// Closes the sending direction.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        on!(self, stream => SockRef::from(stream).shutdown(Shutdown::Write))
    }

    /// Reads and discards until the other side closes.
    pub(super) async fn drain(&self) {
        let mut nothing = [0; 4_096];
        loop {
            let mut buffer = ReadBuf::new(&mut nothing);
            let read = std::future::poll_fn(|context| self.poll_read(context, &mut buffer)).await;
            if read.is_err() || buffer.filled().is_empty() {
                return;
            }
        }
    }
}
