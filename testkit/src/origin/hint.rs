//! An interim answer before the final one, which the HTTP library cannot send.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const EARLY_HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";

/// Makes the connection send a 103 before its next answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Hint(Arc<AtomicBool>);

/// A connection that first writes the 103 of a [`Hint`].
#[derive(Debug)]
pub(super) struct Hinting {
    stream: TcpStream,
    hint: Hint,
    written: usize,
}

// === impl Hint ===

impl Hint {
    pub(super) fn give(&self) {
        self.0.store(true, Ordering::Release);
    }
}

// === impl Hinting ===

impl Hinting {
    pub(super) const fn new(stream: TcpStream, hint: Hint) -> Self {
        Self { stream, hint, written: 0 }
    }
}

impl AsyncRead for Hinting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Hinting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        while self.hint.0.load(Ordering::Acquire) {
            let rest = &EARLY_HINTS[self.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            self.written += count;
            if count == 0 || self.written == EARLY_HINTS.len() {
                self.written = 0;
                self.hint.0.store(false, Ordering::Release);
            }
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
