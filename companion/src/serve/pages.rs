//! Makes one page at a time. Readers that ask meanwhile share the next page.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::exposition::Format;

/// The last page, as long as readers may need it.
#[derive(Debug, Default)]
pub(super) struct Pages {
    last: Mutex<Option<Page>>,
    readers: AtomicUsize,
}

#[derive(Debug)]
struct Page {
    begun: Instant,
    format: Format,
    text: Bytes,
}

/// A reader that waits.
struct Reader<'a>(&'a AtomicUsize);

// === impl Pages ===

impl Pages {
    /// Returns a page that was begun after this call. A page for ten thousand offers has 50 MB, and is made once
    /// for all waiting readers.
    pub(super) async fn get<E>(
        &self,
        format: Format,
        make: impl AsyncFnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let asked = Instant::now();
        let _reader = Reader::new(&self.readers);
        let mut last = self.last.lock().await;
        if let Some(page) = last.as_ref().filter(|page| page.begun >= asked && page.format == format) {
            return Ok(page.text.clone());
        }
        let begun = Instant::now();
        let text = make().await?;
        let is_wanted = self.readers.load(Ordering::Relaxed) > 1;
        *last = is_wanted.then(|| Page { begun, format, text: text.clone() });
        Ok(text)
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn new(readers: &'a AtomicUsize) -> Self {
        readers.fetch_add(1, Ordering::Relaxed);
        Self(readers)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn twenty_readers_at_once_cost_two_pages_and_none_gets_an_old_one() {
        let (pages, made) = (Arc::new(Pages::default()), Arc::new(AtomicUsize::new(0)));
        let read = || {
            let (pages, made) = (pages.clone(), made.clone());
            async move {
                let make = async || {
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, Infallible>(Bytes::from(number.to_string()))
                };
                pages.get(Format::Prometheus, make).await.unwrap()
            }
        };
        let first = tokio::spawn(read());
        tokio::time::sleep(Duration::from_millis(10)).await;
        let others = futures_util::future::join_all((0..19).map(|_| read())).await;
        assert_eq!(first.await.unwrap(), "0");
        assert!(others.iter().all(|page| page == "1"), "{others:?}");
        assert_eq!(read().await, "2");
        // No reader is left that could need the page.
        assert!(pages.last.lock().await.is_none());
    }
}
