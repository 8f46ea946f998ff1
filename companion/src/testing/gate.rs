//! A way to a server, which can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on to a server while it is open.
#[derive(Debug)]
pub(crate) struct Gate {
    to: String,
    address: SocketAddr,
    passing: JoinHandle<()>,
}

// === impl Gate ===

impl Gate {
    /// Before the server of a database URL. Returns the URL that leads through it.
    pub(crate) async fn before(url: &str) -> (Self, String) {
        let (user, rest) = url.rsplit_once('@').unwrap();
        let (to, database) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passing = tokio::spawn(pass(listener, to.to_owned()));
        (Self { to: to.to_owned(), address, passing }, format!("{user}@{address}/{database}"))
    }

    /// Breaks every connection and takes no more.
    pub(crate) async fn cut(&mut self) {
        self.passing.abort();
        let _ = (&mut self.passing).await;
    }

    pub(crate) async fn reopen(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.passing = tokio::spawn(pass(listener, self.to.clone()));
    }
}

async fn pass(listener: TcpListener, to: String) {
    // Ended with this future.
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let to = to.clone();
        connections.spawn(async move {
            let mut server = TcpStream::connect(to).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
    }
}
