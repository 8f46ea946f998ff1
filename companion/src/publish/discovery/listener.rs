//! Connections for the service: accepted, limited in number, and behind TLS where that is set.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::{self, FuturesUnordered, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::tls::Tls;

/// Connections at a time. Further ones are closed.
const MAX_CONNECTIONS: usize = 1000;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system refused a connection, for want of files mostly.
const RETRY: Duration = Duration::from_millis(200);

/// A connection that is ready for HTTP/2.
pub(super) struct Connection {
    bytes: Box<dyn Bytes>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

/// Who is at the other end, as every request of the connection tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) Option<IpAddr>);

/// Plain or encrypted.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Accepts connections for ever. Handshakes run beside each other and beside the next accept.
pub(super) fn connections(
    listener: TcpListener,
    tls: Option<Tls>,
) -> impl Stream<Item = io::Result<Connection>> {
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let handshakes = FuturesUnordered::new();
    stream::unfold((listener, tls, limit, handshakes), async |(listener, mut tls, limit, mut handshakes)| {
        loop {
            let accepted = tokio::select! {
                Some(ready) = handshakes.next() => {
                    let Some(connection) = ready else { continue };
                    return Some((Ok(connection), (listener, tls, limit, handshakes)));
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Err(cause) => {
                    warn!("a connection for rules was not accepted: {cause}");
                    tokio::time::sleep(RETRY).await;
                }
                Ok((tcp, peer)) => match limit.clone().try_acquire_owned() {
                    Err(_) => {
                        warn!(%peer, "closed: {MAX_CONNECTIONS} connections for rules are open already")
                    }
                    Ok(permit) => {
                        let config = tls.as_mut().map(Tls::current);
                        handshakes.push(ready(tcp, config, permit));
                    }
                },
            }
        }
    })
}

/// Makes a connection ready; `None` if that fails.
async fn ready(
    tcp: TcpStream,
    config: Option<Arc<rustls::ServerConfig>>,
    permit: OwnedSemaphorePermit,
) -> Option<Connection> {
    let peer = Peer(tcp.peer_addr().ok().map(|address| address.ip().to_canonical()));
    let _ = tcp.set_nodelay(true);
    let Some(config) = config else {
        return Some(Connection { bytes: Box::new(tcp), peer, _permit: permit });
    };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(tcp);
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(bytes)) => return Some(Connection { bytes: Box::new(bytes), peer, _permit: permit }),
        Ok(Err(cause)) => warn!(?peer, "a TLS handshake for rules failed: {cause}"),
        Err(_) => debug!(?peer, "a TLS handshake for rules took too long"),
    }
    None
}

// === impl Connection ===

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}
