//! The channel between companion and proxy, plain or with the test's own certificates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farebox_testkit::stack::{GrpcDiscovery, Options, Port, ProxyCertificate};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::common::certificates;

/// Address and form of the rules over gRPC.
pub(crate) struct Channel {
    port: Port,
    certificates: Option<tempfile::TempDir>,
    wire: Option<Wire>,
}

/// A wire between proxy and companion, which can be cut.
struct Wire {
    address: SocketAddr,
    cut: watch::Sender<()>,
    connections: Arc<AtomicUsize>,
}

// === impl Channel ===

impl Channel {
    /// In plain text.
    pub(crate) fn plain() -> Self {
        Self { port: Port::take().unwrap(), certificates: None, wire: None }
    }

    /// In plain text over a wire that can be cut.
    pub(crate) async fn wired() -> Self {
        let channel = Self::plain();
        Self { wire: Some(Wire::to(channel.address()).await), ..channel }
    }

    /// Cuts every connection of the proxy. It may make new ones.
    pub(crate) fn cut(&self) {
        self.wire.as_ref().expect("the channel has a wire").cut.send_replace(());
    }

    /// How many connections the proxy has made.
    pub(crate) fn connections(&self) -> usize {
        self.wire.as_ref().expect("the channel has a wire").connections.load(Ordering::SeqCst)
    }

    /// With TLS in which each side checks the other.
    pub(crate) fn encrypted() -> Self {
        Self { certificates: Some(certificates()), ..Self::plain() }
    }

    fn address(&self) -> SocketAddr {
        self.port.address()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.certificates.as_ref().map(|folder| folder.path().join(name))
    }

    /// A stack with these prices whose Envoy gets them over this channel.
    pub(crate) fn options(&self, pricing: &str) -> Options {
        let mut discovery = json!({ "listen": self.address() });
        if let Some(certificate) = self.file("companion.pem") {
            discovery["tls"] = json!({
                "certificate": certificate,
                "key": self.file("companion.key"),
                "clientCa": self.file("ca.pem"),
            });
        }
        let source = GrpcDiscovery {
            companion: self.wire.as_ref().map_or_else(|| self.address(), |wire| wire.address),
            tls: self
                .file("proxy.pem")
                .zip(self.file("proxy.key"))
                .zip(self.file("ca.pem"))
                .map(|((certificate, key), authority)| ProxyCertificate { certificate, key, authority }),
        };
        Options {
            settings: json!({ "envoy": { "discovery": discovery } }),
            tweak: Box::new(move |bootstrap: &mut Value| source.install(bootstrap).unwrap()),
            ..Options::priced(pricing)
        }
    }
}

// === impl Wire ===

impl Wire {
    async fn to(companion: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, cuts) = watch::channel(());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    // If the companion is unreachable, the connection ends.
                    let Ok(mut far) = TcpStream::connect(companion).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, connections }
    }
}
