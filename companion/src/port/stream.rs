//! A connection with deadlines, closed so that its last answer arrives.
//!
//! A client may still send its body when the answer is ready, for example if a refusal does not wait for the body.
//! If a socket with unread bytes is closed, the system resets the connection, and the client loses the unread part
//! of the answer. So after the answer only the sending direction is closed, and the rest of the client's bytes is
//! read until the client closes its side.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, timeout};

use super::Limits;
use super::connections::Slot;

/// How long a client may take to close its side after the answer.
const LINGER: Duration = Duration::from_secs(5);

/// A connection that ends by itself when its client does nothing.
#[derive(Debug)]
pub(super) struct Guarded {
    slot: Arc<Slot>,
    limits: Limits,
    /// Runs while the client must send something.
    silence: Option<Pin<Box<Sleep>>>,
    /// Runs while the client does not read.
    stall: Option<Pin<Box<Sleep>>>,
    /// Bytes were written that the client has to read.
    has_written: bool,
    /// The client has closed its side, or was dropped, so no unread bytes matter.
    is_over: bool,
}

// === impl Guarded ===

impl Guarded {
    pub(super) const fn new(slot: Arc<Slot>, limits: Limits) -> Self {
        Self { slot, limits, silence: None, stall: None, has_written: false, is_over: false }
    }

    /// Fails if the connection was closed for another.
    fn check(&mut self, context: &Context<'_>) -> io::Result<()> {
        if self.slot.line().is_closed(context) {
            return Err(self.give_up(io::ErrorKind::ConnectionAborted));
        }
        Ok(())
    }

    fn give_up(&mut self, kind: io::ErrorKind) -> io::Error {
        self.is_over = true;
        kind.into()
    }

    /// Waits for bytes of the client until the deadline.
    fn await_word<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.slot.is_empty();
        loop {
            let Some(patience) = self.slot.patience(&self.limits) else {
                self.silence = None;
                return Poll::Pending;
            };
            if patience.is_zero() {
                return Poll::Ready(Err(self.give_up(io::ErrorKind::TimedOut)));
            }
            let end = Instant::now() + patience;
            let timer = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
            if timer.is_elapsed() || timer.deadline() > end {
                timer.as_mut().reset(end);
            }
            // The deadline may have moved since, so check it again.
            ready!(timer.as_mut().poll(context));
        }
    }

    /// Waits for the client to read until the deadline.
    fn wrote<T>(&mut self, wrote: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.has_written = true;
            self.slot.moved();
            if self.stall.take().is_some() {
                self.slot.stalled(false);
            }
            return wrote;
        }
        let limit = self.limits.write;
        if self.stall.is_none() {
            self.slot.stalled(true);
        }
        let timer = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(self.give_up(io::ErrorKind::TimedOut)))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let is_over = self.is_over || !self.has_written;
        if let (false, Ok(runtime)) = (is_over, Handle::try_current()) {
            let slot = self.slot.clone();
            slot.lingers();
            // The shutdown does not wait for this task, because the system already has the whole answer.
            runtime.spawn(async move {
                let closed = std::future::poll_fn(|context| match slot.line().is_closed(context) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                });
                if slot.raw().shut_down().is_ok() {
                    tokio::select! {
                        _ = timeout(LINGER, slot.raw().drain()) => {}
                        () = closed => {}
                    }
                }
            });
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        match self.slot.raw().poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                self.is_over |= buffer.filled().len() == before && room > 0;
                self.slot.heard();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.is_over = true;
                Poll::Ready(Err(error))
            }
            Poll::Pending => self.await_word(context),
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let wrote = self.slot.raw().poll_write(context, bytes);
        self.wrote(wrote, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.slot.raw().shut_down())
    }
}
