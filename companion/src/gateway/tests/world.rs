//! The setup of the tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Extract};
use axum::response::Response;
use bytes::Bytes;
use farebox_core::metrics::{MetricSeries, TupleCounter};
use farebox_core::protocol::encode_base64;
use farebox_core::rules::{Facilitator, PushedRules, RuleSet};
use farebox_core::terms::Settings as Filter;
use farebox_pricing::{Snapshot, load};
use farebox_testkit::facilitator::{DevFacilitator, payment_call, upfront_call};
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::unix_seconds;
use crate::counts::Keys;
use crate::facilitator::{Credentials, FacilitatorClient};
use crate::gateway::exchange_shell::handle;
use crate::gateway::{Deployments, Gateway, Meters};
use crate::ledger::Ledger;
use crate::port::Descriptors;
use crate::relay::{Deadlines, Relay};
use crate::rules::Active;
use crate::serve::Shared;
use crate::settings::{Facilitators, GatewaySettings};
use crate::testing::tcp;

pub(super) const SHOP: &str = "0x1111111111111111111111111111111111111111";

/// The pieces of a body.
type Events = mpsc::Receiver<Result<Bytes, std::io::Error>>;

/// A running gateway and everything around it.
pub(super) struct World {
    pub(super) dev: DevFacilitator,
    pub(super) address: SocketAddr,
    pub(super) deployments: Arc<Deployments>,
    pub(super) meters: Arc<Meters>,
    pub(super) upstream: Upstream,
    pub(super) ledger: Ledger,
    pub(super) client: reqwest::Client,
    pub(super) stop: Option<watch::Sender<()>>,
    pub(super) serving: JoinHandle<()>,
    pub(super) state: Shared,
    gateway: Weak<crate::gateway::Shared>,
    filter: Filter,
    generation: u64,
    _over: mpsc::Receiver<()>,
    _folder: tempfile::TempDir,
}

/// An answer.
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// An upstream that records its requests.
#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
    /// The pieces for `/events`; closing the channel ends the response.
    events: Arc<Mutex<Option<Events>>>,
    pub(super) send: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

/// One request as the upstream got it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: usize,
}

/// Settings for tests, to be changed.
pub(super) fn settings() -> GatewaySettings {
    GatewaySettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        upstream: None,
        http2: false,
        preserve_host: true,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        grace: Duration::from_secs(5),
        is_behind: false,
    }
}

/// The header value of a payment with the price of every route in these tests.
pub(super) fn payment(nonce: u8) -> String {
    header(&payment_call(1000, nonce, SHOP))
}

/// The same for an `upfront` route.
pub(super) fn upfront(nonce: u8) -> String {
    header(&upfront_call(1000, nonce, SHOP))
}

fn header(call: &Value) -> String {
    encode_base64(call["paymentPayload"].to_string().as_bytes())
}

// === impl World ===

impl World {
    pub(super) async fn start() -> Self {
        Self::with(settings(), Filter::default()).await
    }

    pub(super) async fn with(settings: GatewaySettings, filter: Filter) -> Self {
        let dev = DevFacilitator::start().await;
        let upstream = Upstream::start().await;
        let folder = tempfile::tempdir().unwrap();
        let ledger =
            Ledger::open(&Ledger::file_url(&folder.path().join("ledger.db")), "c1", Default::default())
                .await
                .unwrap();
        let state = Shared::new("pricing.yaml".into());
        let deadlines = Deadlines { verify: Duration::from_secs(5), settle: Duration::from_secs(5) };
        let client = FacilitatorClient::new(Credentials::default()).unwrap();
        let facilitators = Facilitators::default();
        let (relay, over) =
            Relay::new(ledger.clone(), client, state.for_relay(), deadlines, facilitators, 64);
        let gateway = Gateway::bind(settings, watch::channel(relay.router()).1, "c1", Descriptors::raise())
            .await
            .unwrap();
        let (stop, finished) = watch::channel(());
        let (address, deployments) = (tcp(&gateway.address().unwrap()), gateway.deployments());
        let (shared, meters) = (Arc::downgrade(&gateway.shared), gateway.meters());
        let mut world = Self {
            dev,
            address,
            deployments,
            meters,
            upstream,
            ledger,
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .unwrap(),
            stop: Some(stop),
            serving: tokio::spawn(gateway.serve(finished)),
            state,
            gateway: shared,
            filter,
            generation: 0,
            _over: over,
            _folder: folder,
        };
        let text = world.pricing();
        world.load(&text);
        world
    }

    /// The rules most tests use.
    pub(super) fn pricing(&self) -> String {
        let (upstream, dead) = (self.upstream.address, "127.0.0.1:1");
        format!(
            "wallet: \"{SHOP}\"\nchain: base-sepolia\nfacilitatorURL: {}\nroutes:\n\
             - {{pattern: /paid/*, price: \"0.001\", offerNamespace: ns, offerName: a, stripPrefix: /paid, \
             upstreamURL: \"http://{upstream}\", upstreamAuth: Bearer hush}}\n\
             - {{pattern: /upfront/*, price: \"0.001\", offerNamespace: ns, offerName: b, paymentFlow: upfront, \
             upstreamURL: \"http://{upstream}/base\"}}\n\
             - {{pattern: /free/*, gate: free, upstreamURL: \"http://{upstream}\"}}\n\
             - {{pattern: /lost/*, price: \"0.001\"}}\n\
             - {{pattern: /dead/*, price: \"0.001\", upstreamURL: \"http://{dead}\"}}\n\
             - {{pattern: /deadfree/*, gate: free, upstreamURL: \"http://{dead}\"}}\n",
            self.dev.url()
        )
    }

    /// Puts rules in force, as the loader does.
    pub(super) fn load(&mut self, text: &str) {
        self.generation += 1;
        let (pushed, snapshot) = self.push(text, self.generation);
        let active = Active {
            generation: self.generation,
            hash: pushed.hash.clone(),
            snapshot: snapshot.clone(),
            applied_at: unix_seconds(),
        };
        let keys = Keys::from(&*snapshot);
        self.state.counted.lock().apply(keys.births(self.generation, &BTreeMap::new()), keys.offers);
        self.state.lock().rules.publish(active, &pushed.tuples);
        self.deployments.apply(Arc::new(RuleSet::compile(pushed).unwrap()), &snapshot);
    }

    /// Makes rules in the published form.
    pub(super) fn push(&self, text: &str, generation: u64) -> (PushedRules, Arc<Snapshot>) {
        let loaded = load(text);
        let snapshot = Arc::new(loaded.snapshot.unwrap_or_else(|| panic!("{:?}", loaded.findings)));
        let facilitator = Facilitator {
            cluster: "farebox".into(),
            authority: "farebox".into(),
            path_prefix: String::new(),
            verify_timeout_ms: 7_000,
            settle_timeout_ms: 7_000,
            ready: true,
            relay: true,
        };
        let (births, v1) = Default::default();
        (snapshot.push(generation, &self.filter, &facilitator, &births, &v1), snapshot)
    }

    /// Leaves so many places for unpaid requests.
    pub(super) fn leave_unpaid(&self, places: usize) {
        let unpaid = &self.gateway.upgrade().unwrap().unpaid;
        unpaid.forget_permits(unpaid.available_permits() - places);
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        Got::of(self.client.get(self.url(path)).send().await.unwrap()).await
    }

    pub(super) async fn pay(&self, path: &str, payment: &str) -> Got {
        Got::of(self.send_paid(path, payment).await.unwrap()).await
    }

    /// Pays over a connection that seems to come from another address.
    pub(super) async fn pay_from(&self, peer: SocketAddr, path: &str, payment: &str) -> Got {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let sent = self.client.get(url).header("payment-signature", payment).send();
        let served = async {
            let (stream, _) = listener.accept().await.unwrap();
            let gateway = self.gateway.upgrade().unwrap();
            let service = service_fn(|request| {
                let gateway = gateway.clone();
                async move { Ok::<_, std::convert::Infallible>(handle(gateway, request, peer).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        };
        tokio::select! {
            got = sent => Got::of(got.unwrap()).await,
            () = served => panic!("the connection was closed"),
        }
    }

    pub(super) async fn send_paid(
        &self,
        path: &str,
        payment: &str,
    ) -> Result<reqwest::Response, reqwest::Error> {
        self.client.get(self.url(path)).header("payment-signature", payment).send().await
    }

    /// The value of a counter in the gateway, over all offers.
    pub(super) fn counted(&self, counter: TupleCounter) -> u64 {
        let of = |series: &MetricSeries| matches!(series, MetricSeries::Tuple(_, of) if *of == counter);
        self.counters().iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// Everything the gateway counted.
    pub(super) fn counters(&self) -> BTreeMap<MetricSeries, u64> {
        self.meters.counted()
    }

    /// Charges in the ledger.
    pub(super) async fn charged(&self) -> u64 {
        let counters = self.ledger.counters().await.unwrap();
        let charges = counters.iter().filter(|(series, _)| matches!(series, MetricSeries::Charged(..)));
        charges.map(|(_, count)| count).sum()
    }
}

// === impl Got ===

impl Got {
    pub(super) async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}: {}", self.status, self.body))
    }

    pub(super) fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

// === impl Upstream ===

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (send, events) = mpsc::channel(1);
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            events: Arc::new(Mutex::new(Some(events))),
            send,
        };
        let app = Router::new().fallback(answer).with_state(upstream.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        upstream
    }

    pub(super) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }

    fn note(&self, asked: Asked) {
        self.seen.lock().unwrap().push(asked);
    }
}

async fn answer(Extract(upstream): Extract<Upstream>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let note = |body| upstream.note(Asked { line: line.clone(), headers: parts.headers.clone(), body });
    let path = parts.uri.path();
    let plain = |status: u16, body: &'static str| {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    if path.ends_with("/hang") {
        note(0);
        std::future::pending::<()>().await;
    }
    if path.ends_with("/echo") {
        note(0);
        return Response::new(body);
    }
    if path.ends_with("/events") {
        note(0);
        let events = upstream.events.lock().unwrap().take().unwrap();
        let body =
            stream::unfold(events, |mut events| async { events.recv().await.map(|event| (event, events)) });
        let mut response = Response::new(Body::from_stream(body));
        response.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        return response;
    }
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    note(body.len());
    if path.ends_with("/500") {
        return plain(500, "broken");
    }
    if path.ends_with("/redirect") {
        let mut response = plain(302, "");
        response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        return response;
    }
    if path.ends_with("/304") {
        return plain(304, "");
    }
    let mut response = plain(200, "served");
    for (name, value) in [
        ("cache-control", "public, max-age=9"),
        ("payment-response", "forged"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-kept", "1"),
    ] {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
