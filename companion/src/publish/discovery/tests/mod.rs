//! A client of the published types against the server, in this process.

mod streams;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node as Identity;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_client::ExtensionConfigDiscoveryServiceClient;
use envoy_types::pb::google::rpc::Status as Detail;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::clock::unix_seconds;
use crate::settings::TlsSettings;
use crate::testing::tcp;

type Client = ExtensionConfigDiscoveryServiceClient<Channel>;

const TYPE: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
/// How long a test waits to see that nothing happens.
const QUIET: Duration = Duration::from_millis(200);
/// How long a test waits for an expected event.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server and the publisher's end of it.
struct Stage {
    address: SocketAddr,
    state: Handle<PublishState>,
    resource: watch::Sender<Option<Arc<Resource>>>,
    server: JoinHandle<()>,
    _stop: watch::Sender<()>,
}

impl Stage {
    async fn start() -> Self {
        Self::with(None).await.unwrap()
    }

    async fn with(tls: Option<TlsSettings>) -> anyhow::Result<Self> {
        let state = Handle::<PublishState>::default();
        let settings = DiscoverySettings { listen: Listen::Tcp(([127, 0, 0, 1], 0).into()), tls };
        let server = Server::bind(&settings, state.clone(), Descriptors::raise()).await?;
        let address = tcp(&server.address()?);
        let (resource, current) = watch::channel(None);
        let (stop, finished) = watch::channel(());
        let server = tokio::spawn(server.run(current, finished));
        Ok(Self { address, state, resource, server, _stop: stop })
    }

    fn publish(&self, version: &str) {
        let message = Any { type_url: TYPE.to_owned(), value: version.as_bytes().to_vec() };
        self.resource.send_replace(Some(Arc::new(Resource { version: version.to_owned(), message })));
    }

    async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        Client::new(endpoint.connect().await.unwrap())
    }

    /// The state of a proxy.
    fn node(&self, name: &str) -> Node {
        let state = self.state.lock();
        let found = state.discovery.nodes(unix_seconds()).find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("{name} is not known")).1.clone()
    }

    async fn until(&self, what: &str, mut holds: impl FnMut(&Node) -> bool) {
        crate::testing::eventually(what, || holds(&self.node("proxy"))).await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One open stream.
struct Talk {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: tonic::Streaming<DiscoveryResponse>,
}

impl Talk {
    async fn say(&self, request: DiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> DiscoveryResponse {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("a response in time").expect("no error").expect("no end")
    }

    async fn status(&mut self) -> tonic::Status {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await;
        next.expect("an end in time").expect_err("an error")
    }

    async fn hears_nothing(&mut self) {
        let next = tokio::time::timeout(QUIET, self.responses.message()).await;
        assert!(next.is_err(), "something was sent");
    }
}

/// The client's end of a stream of requests.
fn requests() -> (mpsc::Sender<DiscoveryRequest>, impl futures_util::Stream<Item = DiscoveryRequest> + Send) {
    let (sender, receiver) = mpsc::channel(8);
    let receiver =
        futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<DiscoveryRequest>| {
            let request = receiver.recv().await?;
            Some((request, receiver))
        });
    (sender, receiver)
}

fn identity(id: &str) -> Option<Identity> {
    Some(Identity { id: id.to_owned(), cluster: "farebox".to_owned(), ..Identity::default() })
}

/// Envoy's message about an unusable configuration.
fn refusal() -> Option<Detail> {
    Some(Detail { code: 13, message: "Unable to create Wasm plugin farebox".to_owned(), ..Detail::default() })
}
