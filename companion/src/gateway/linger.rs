//! Closing a connection so that its last answer arrives.
//!
//! A client may still be sending when it is answered, and a proxy in front always is where it sends on a body that a
//! refusal does not wait for. A socket that is closed over bytes nobody read resets the connection, and what the
//! client has not read of the answer is thrown away. So the end of the answer is told, and what still comes is read
//! until the client has had it all and closes its side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a client may take to notice that it was answered.
const LINGER: Duration = Duration::from_secs(5);

/// A connection that lingers when it is dropped.
#[derive(Debug)]
pub(super) struct Lingering {
    /// `None` once dropped.
    stream: Option<TcpStream>,
    /// The client has closed its side: nothing can be left unread.
    is_over: bool,
}

// === impl Lingering ===

impl Lingering {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), is_over: false }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let (Some(stream), false, Ok(runtime)) = (self.stream.take(), self.is_over, Handle::try_current())
        {
            // A drain does not wait for it: all of its answer is in the system's hands.
            runtime.spawn(timeout(LINGER, linger(stream)));
        }
    }
}

async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = self.stream()?.poll_read(context, buffer);
        self.is_over |= match &read {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && room > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        read
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(TcpStream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}
