//! A body whose end marks the end of its request.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::connections::UnderWay;

/// The body of an answer. Its request counts as under way until the body is dropped.
#[derive(Debug)]
pub(super) struct Watched<B> {
    inner: Pin<Box<B>>,
    _under_way: UnderWay,
    _permit: OwnedSemaphorePermit,
}

// === impl Watched ===

impl<B> Watched<B> {
    pub(super) fn new(inner: B, under_way: UnderWay, permit: OwnedSemaphorePermit) -> Self {
        Self { inner: Box::pin(inner), _under_way: under_way, _permit: permit }
    }
}

impl<B: Body<Data = Bytes>> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.inner.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
