//! Bodies that pass through frame by frame, and are never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farebox_core::exchange::forged_names;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::headers;

/// Why a body is incomplete.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Its connection broke.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// No bytes moved for too long.
    #[error("no data for {0:?}")]
    Idle(Duration),
}

/// A request's body on its way to the upstream.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Incoming,
    idle: Idle,
    upload: Arc<Upload>,
}

/// The state of a request's body while the gateway waits for the answer.
#[derive(Debug)]
pub(super) struct Upload {
    failed: AtomicBool,
    /// Whether the gateway waits for its next bytes.
    is_awaited: AtomicBool,
    /// How long the answer may take after the end of the body.
    limit: Duration,
    deadline: Mutex<Instant>,
}

/// A response's body on its way to the client.
#[derive(Debug)]
pub(super) enum ResponseBody {
    /// Farebox's own.
    Own(Full<Bytes>),
    /// The upstream's.
    Upstream(Box<Download>),
}

/// An upstream's body.
#[derive(Debug)]
pub(super) struct Download {
    inner: Incoming,
    idle: Idle,
    upload: Arc<Upload>,
    /// Whether header names that only Farebox may set are removed from trailers, too.
    guarded: bool,
    end: Option<End>,
}

/// A callback that gets the end of a delivery once.
pub(super) struct End(Option<Box<dyn FnOnce(Ended) + Send + Sync>>);

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The body ended, or the client left or stopped the upstream.
    Over,
    /// The upstream broke off.
    Broken,
}

/// A timer for bodies in which no bytes move.
#[derive(Debug)]
struct Idle {
    limit: Duration,
    /// Set only while the gateway waits for a body.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Time added to the deadline for each byte of an upload: an upload below 1 kB a second for longer than the limit is
/// too slow.
const PER_BYTE: Duration = Duration::from_millis(1);

// === impl Upload ===

impl Upload {
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        let deadline = Mutex::new(Instant::now() + limit);
        Arc::new(Self { failed: AtomicBool::new(false), is_awaited: AtomicBool::new(false), limit, deadline })
    }

    /// Whether the client broke its request off.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether the gateway waits for the client.
    pub(super) fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Acquire)
    }

    /// The deadline of the answer.
    pub(super) fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Extends the deadline by the time for these bytes, up to the whole limit. The end of the body gives the whole
    /// limit. Single bytes with pauses extend it very little.
    fn moved(&self, bytes: usize, is_end: bool) {
        let mut deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Instant::now() + self.limit;
        let bought = PER_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        *deadline = if is_end { whole } else { whole.min(*deadline + bought) };
    }
}

// === impl RequestBody ===

impl RequestBody {
    pub(super) fn new(inner: Incoming, idle: Duration, upload: Arc<Upload>) -> Self {
        Self { inner, idle: Idle::new(idle), upload }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { inner, idle, upload } = &mut *self;
        let polled = idle.poll_frame(inner, cx);
        upload.is_awaited.store(polled.is_pending(), Ordering::Release);
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                upload.moved(frame.data_ref().map_or(0, Bytes::len), inner.is_end_stream());
            }
            Some(Err(_)) => upload.failed.store(true, Ordering::Release),
            None => upload.moved(0, true),
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| map_trailers(frame, true))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    pub(super) fn own(body: impl Into<Bytes>) -> Self {
        Self::Own(Full::new(body.into()))
    }

    pub(super) fn upstream(
        inner: Incoming,
        idle: Duration,
        upload: Arc<Upload>,
        guarded: bool,
        end: Option<End>,
    ) -> Self {
        Self::Upstream(Box::new(Download { inner, idle: Idle::new(idle), upload, guarded, end }))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Upstream(download) => download.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Upstream(download) => download.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Upstream(download) => download.inner.size_hint(),
        }
    }
}

// === impl Download ===

impl Download {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.idle.poll_frame(&mut self.inner, cx));
        let ended = match &frame {
            Some(Ok(_)) => None,
            // A broken answer can be fetched again. A client can cause a silence, or break the answer by breaking
            // its upload, so neither counts as broken by the upstream.
            Some(Err(BodyError::Broken(_))) if !self.upload.has_failed() => Some(Ended::Broken),
            Some(Err(_)) | None => Some(Ended::Over),
        };
        if let Some(ended) = ended
            && let Some(end) = self.end.take()
        {
            end.tell(ended);
        }
        let guarded = self.guarded;
        Poll::Ready(frame.map(|frame| frame.map(|frame| map_trailers(frame, guarded))))
    }
}

// === impl End ===

impl End {
    pub(super) fn new(tell: impl FnOnce(Ended) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    fn tell(mut self, ended: Ended) {
        if let Some(tell) = self.0.take() {
            tell(ended);
        }
    }
}

/// A body is dropped after its end, or when its client has left.
impl Drop for End {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Ended::Over);
        }
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("End")
    }
}

// === impl Idle ===

impl Idle {
    const fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).map(|()| Some(Err(BodyError::Idle(limit))))
    }
}

fn map_trailers(frame: Frame<Bytes>, guarded: bool) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) if guarded => Frame::trailers(without_forged(trailers)),
        Ok(trailers) => Frame::trailers(trailers),
        Err(frame) => frame,
    }
}

fn without_forged(mut trailers: HeaderMap) -> HeaderMap {
    let forged = forged_names(&headers::response_lines(&trailers));
    for name in forged {
        trailers.remove(name.as_str());
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_nothing_that_only_farebox_says() {
        let mut trailers = HeaderMap::new();
        for name in ["x-payment-payer", "payment-response", "x_payment", "grpc-status"] {
            trailers.insert(name, "1".parse().unwrap());
        }
        let kept =
            |guarded| map_trailers(Frame::trailers(trailers.clone()), guarded).into_trailers().unwrap();
        assert_eq!(kept(true).keys().collect::<Vec<_>>(), ["grpc-status"]);
        assert_eq!(kept(false), trailers);
    }
}
