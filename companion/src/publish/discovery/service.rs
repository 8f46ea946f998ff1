//! The service: streams of the state-of-the-world variant, each with a [`Subscription`]. There is only one resource, so
//! Envoy's incremental variant would send the same bytes.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::{
    ExtensionConfigDiscoveryService, ExtensionConfigDiscoveryServiceServer,
};
use futures_util::{Stream, stream};
use prost::Name;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info};

use super::subscription::{Subscription, Verdict};
use super::{Current, Resource};
use crate::clock::unix_seconds;
use crate::handle::Handle;
use crate::port::Peer;
use crate::publish::PublishState;

/// Most streams of all proxies together.
const MAX_STREAMS: usize = 1000;
/// Longest request, bytes. The node in a request lists every extension of the proxy, which is 61
/// kB.
const MAX_REQUEST: usize = 1024 * 1024;
/// The answer to requests of another variant.
const ONLY: &str = "rules are served as the state of the world: use api_type GRPC";
/// How long a new stream may take for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub(super) struct Service {
    current: Current,
    state: Handle<PublishState>,
    streams: Arc<Semaphore>,
}

/// A stream of responses, with its state.
struct Conversation {
    requests: Streaming<DiscoveryRequest>,
    peer: Option<IpAddr>,
    current: Current,
    subscription: Subscription,
    state: Handle<PublishState>,
    /// Set from the first request on.
    presence: Option<Presence>,
    _permit: OwnedSemaphorePermit,
}

/// The stream's entry in the state of its proxy; it ends with the stream.
struct Presence {
    name: String,
    state: Handle<PublishState>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service of the current resource.
pub(super) fn new(
    current: Current,
    state: Handle<PublishState>,
) -> ExtensionConfigDiscoveryServiceServer<Service> {
    let service = Service { current, state, streams: Arc::new(Semaphore::new(MAX_STREAMS)) };
    ExtensionConfigDiscoveryServiceServer::new(service).max_decoding_message_size(MAX_REQUEST)
}

// === impl Service ===

#[tonic::async_trait]
impl ExtensionConfigDiscoveryService for Service {
    type StreamExtensionConfigsStream = Responses<DiscoveryResponse>;
    type DeltaExtensionConfigsStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_extension_configs(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamExtensionConfigsStream>, Status> {
        let permit = self.streams.clone().try_acquire_owned();
        let peer = request.extensions().get().and_then(|Peer(address)| *address);
        let peer = peer.map(|address| address.ip().to_canonical());
        let conversation = Conversation {
            requests: request.into_inner(),
            peer,
            current: self.current.clone(),
            subscription: Subscription::default(),
            state: self.state.clone(),
            presence: None,
            _permit: permit
                .map_err(|_| Status::resource_exhausted(format!("{MAX_STREAMS} streams are open already")))?,
        };
        // The reader drives the conversation, so the conversation ends with its reader.
        let responses = stream::unfold(Some(conversation), async |conversation| {
            let mut conversation = conversation?;
            match conversation.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(conversation))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn delta_extension_configs(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaExtensionConfigsStream>, Status> {
        Err(Status::unimplemented(ONLY))
    }

    async fn fetch_extension_configs(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented(ONLY))
    }
}

// === impl Conversation ===

impl Conversation {
    /// The next response; `None` once the proxy is done.
    async fn next(&mut self) -> Result<Option<DiscoveryResponse>, Status> {
        if self.presence.is_none() {
            let first = tokio::time::timeout(FIRST_REQUEST, self.requests.message()).await;
            let first = first.map_err(|_| Status::deadline_exceeded("nothing was asked for"))?;
            let Some(request) = first? else { return Ok(None) };
            self.hear(&request)?;
        }
        loop {
            let resource = self.current.borrow_and_update().clone();
            if let Some(resource) = resource
                && let Some(nonce) = self.subscription.due(&resource.version)
            {
                if let Some(presence) = &self.presence {
                    self.state.lock().discovery.sent(&presence.name, &resource.version);
                }
                return Ok(Some(response(&resource, nonce)));
            }
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.hear(&request)?,
                    None => return Ok(None),
                },
                changed = self.current.changed() => {
                    changed.map_err(|_| Status::unavailable("the companion is stopping"))?;
                }
            }
        }
    }

    fn hear(&mut self, request: &DiscoveryRequest) -> Result<(), Status> {
        let type_url = &request.type_url;
        let known = TypedExtensionConfig::type_url();
        // The service has only one type, so a request may leave it out.
        if !type_url.is_empty() && *type_url != known {
            return Err(Status::invalid_argument(format!("only {known} is served, not `{type_url}`")));
        }
        let is_first = self.presence.is_none();
        let presence = self.presence.get_or_insert_with(|| {
            let id = request.node.as_ref().map_or("", |node| node.id.as_str());
            Presence::begin(id, self.peer, &self.state)
        });
        let name = &presence.name;
        let verdict = self.subscription.hear(request);
        let mut state = self.state.lock();
        // A proxy that still has an earlier version was not restarted, so it would refuse this
        // version again.
        if is_first
            && !request.version_info.is_empty()
            && let Some(version) = state.discovery.refused_by(name)
        {
            self.subscription.has_refused(version);
        }
        let Some(verdict) = verdict else { return Ok(()) };
        match &verdict {
            Verdict::Acknowledged(version) => info!(proxy = name, version, "push acknowledged"),
            Verdict::Refused(version, message) => error!(
                proxy = name,
                version,
                "push refused, the proxy keeps what it has; its own log has the reason: {message:.500}"
            ),
        }
        state.discovery.answered(name, verdict, unix_seconds());
        Ok(())
    }
}

/// The response with the resource and a nonce.
fn response(resource: &Resource, nonce: String) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: resource.version.clone(),
        resources: vec![resource.message.clone()],
        type_url: TypedExtensionConfig::type_url(),
        nonce,
        ..DiscoveryResponse::default()
    }
}

// === impl Presence ===

impl Presence {
    fn begin(id: &str, peer: Option<IpAddr>, state: &Handle<PublishState>) -> Self {
        let name = state.lock().discovery.opened(id, unix_seconds());
        info!(proxy = name, ?peer, "connected for rules");
        Self { name, state: state.clone() }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        info!(proxy = self.name, "no longer connected for rules");
        self.state.lock().discovery.closed(&self.name, unix_seconds());
    }
}
