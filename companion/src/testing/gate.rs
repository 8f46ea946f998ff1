//! A way to a server, which can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on to a server while it is open.
#[derive(Debug)]
pub(crate) struct Gate {
    to: String,
    address: SocketAddr,
    passing: JoinHandle<()>,
    losing: Arc<AtomicU8>,
}

/// What becomes of the next commit a connection sends. The connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Lost {
    Nothing,
    /// It does not arrive.
    Commit,
    /// It arrives, and its answer does not.
    Answer,
}

/// A server has committed after so long.
const COMMITTED: Duration = Duration::from_millis(200);

// === impl Gate ===

impl Gate {
    /// Before the server of a database URL. Returns the URL that leads through it.
    pub(crate) async fn before(url: &str) -> (Self, String) {
        let (user, rest) = url.rsplit_once('@').unwrap();
        let (to, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let losing = Arc::new(AtomicU8::new(Lost::Nothing as u8));
        let passing = tokio::spawn(pass(listener, to.to_owned(), Arc::clone(&losing)));
        (Self { to: to.to_owned(), address, passing, losing }, format!("{user}@{address}/{database}"))
    }

    /// Breaks every connection and takes no more.
    pub(crate) async fn cut(&mut self) {
        self.passing.abort();
        let _ = (&mut self.passing).await;
    }

    pub(crate) async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.passing = tokio::spawn(pass(listener, self.to.clone(), Arc::clone(&self.losing)));
    }

    /// Has the next commit go wrong like this.
    pub(crate) fn lose(&self, lost: Lost) {
        self.losing.store(lost as u8, Ordering::SeqCst);
    }
}

async fn pass(listener: TcpListener, to: String, losing: Arc<AtomicU8>) {
    // Ended with this future.
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let (to, losing) = (to.clone(), Arc::clone(&losing));
        connections.spawn(async move {
            let mut server = TcpStream::connect(to).await?;
            let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            loop {
                tokio::select! {
                    read = client.read(&mut asked) => {
                        let bytes = &asked[..read?];
                        if bytes.is_empty() {
                            break;
                        }
                        let is_commit = bytes.windows(6).any(|word| word == b"COMMIT");
                        let lost = if is_commit { losing.swap(0, Ordering::SeqCst) } else { 0 };
                        if lost == Lost::Commit as u8 {
                            break;
                        }
                        server.write_all(bytes).await?;
                        if lost == Lost::Answer as u8 {
                            tokio::time::sleep(COMMITTED).await;
                            break;
                        }
                    }
                    read = server.read(&mut answered) => {
                        let bytes = &answered[..read?];
                        if bytes.is_empty() {
                            break;
                        }
                        client.write_all(bytes).await?;
                    }
                }
            }
            std::io::Result::Ok(())
        });
    }
}
