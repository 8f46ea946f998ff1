//! The upstream of demos and tests, with one answer of every kind.
//!
//! The first segment of the path that names an [`Answer`], at any position, decides the answer, so that
//! a pricing file can use any prefix (`/premium/events/3`). Other paths get the plain JSON answer, which
//! describes the request.

mod answer;
mod hint;
mod hits;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use answer::{Answer, pattern};
pub use hits::Hits;

use hint::{Hint, Hinting};

/// A running origin. It has a thread of its own, so a busy test does not slow it; dropping it stops it.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    hits: Arc<Hits>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Origin ===

impl Origin {
    /// Starts on an address; port 0 takes a free one.
    pub fn start(listen: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind(listen)
            .with_context(|| format!("the origin cannot listen on {listen}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hits = Arc::new(Hits::default());
        let (stop, stopped) = oneshot::channel();
        let counting = Arc::clone(&hits);
        let thread = std::thread::Builder::new().name("origin".into()).spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a bound listener is usable");
                tokio::select! {
                    () = serve(listener, counting) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, hits, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often each path was asked for.
    pub fn hits(&self) -> &Hits {
        &self.hits
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, hits: Arc<Hits>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors or a peer that is already gone: neither ends the origin.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let hits = Arc::clone(&hits);
        tokio::spawn(async move {
            let hint = Hint::default();
            let stream = Hinting::new(stream, hint.clone());
            let service = service_fn(move |request| answer::answer(request, Arc::clone(&hits), hint.clone()));
            // An error is what `close` and `cut` are for, or a client that went away.
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.with_upgrades().await;
        });
    }
}

#[cfg(test)]
mod tests;
