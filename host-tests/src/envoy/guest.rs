//! The state of a VM while its guest runs: contexts, pending callouts, and actions deferred to the end of the
//! call.

use super::abi::{Headers, MapType};
use super::host::Host;
use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

pub(crate) type SharedHost = Rc<RefCell<Host>>;
pub(crate) type SharedStream = Rc<RefCell<StreamData>>;

/// Data of one VM's store.
pub(crate) struct Guest {
    pub(crate) host: SharedHost,
    pub(crate) contexts: BTreeMap<u32, ContextData>,
    /// Context of the running call, and the one the guest switched to.
    pub(crate) current: u32,
    pub(crate) effective: u32,
    /// The stream of the running call, from Envoy's call or the guest's switch; 0 for none.
    pub(crate) about: u32,
    /// Resumes and local replies, carried out when the guest's call has returned.
    pub(crate) after: VecDeque<After>,
    pub(crate) calls: BTreeMap<u32, Call>,
    /// Callouts of root contexts for which no stream waits.
    pub(crate) root_calls: Vec<(u32, Call)>,
    /// The callout reply being delivered; absent for one that broke off.
    pub(crate) reply: Option<CallReply>,
    /// True while `_initialize` runs, when Envoy offers log, clock, random and environment only.
    pub(crate) restricted: bool,
    /// What happens at the n-th host call from now.
    pub(crate) interrupt: Option<(u32, Interrupt)>,
    pub(crate) tick: Option<Duration>,
    pub(crate) last_token: u32,
}

/// What happens at a host call before it is carried out.
pub(crate) enum Interrupt {
    /// The guest traps.
    Crash,
    /// Other threads are quicker.
    Others(Box<dyn FnOnce()>),
}

/// A root or a stream context.
pub(crate) enum ContextData {
    Root { configuration: Rc<Vec<u8>> },
    Stream { root: u32, stream: SharedStream },
}

/// A deferred action.
pub(crate) enum After {
    ContinueRequest(SharedStream),
    ContinueResponse(SharedStream),
    Reply(SharedStream, LocalReply),
}

/// A response a guest or the proxy itself makes.
#[derive(Debug, Clone)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// A dispatched callout.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The context that gets the reply.
    pub(crate) context: u32,
    /// The stream of the call, which may have ended by the time of the reply.
    pub(crate) about: u32,
    pub(crate) cluster: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Duration,
    /// Monotonic clock at which Envoy gives up, nanoseconds.
    pub(crate) deadline: u64,
}

/// The reply to a callout as the guest reads it.
pub(crate) struct CallReply {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
}

/// The phase of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The guest is looking at the request head.
    RequestHead,
    /// Paused at the request head.
    RequestHeld,
    /// At the upstream.
    AtUpstream,
    /// The guest is looking at the response head.
    ResponseHead,
    /// Paused at the response head.
    ResponseHeld,
    /// The client has the head; the body is on its way.
    Streaming,
    /// Over.
    Ended,
    /// The VM died and nothing else can wake the stream: only a proxy timeout ends it.
    Hung,
}

/// Which program made the client's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The upstream.
    Upstream,
    /// The guest, by a local reply.
    Guest,
    /// The proxy, because the upstream failed.
    Router,
    /// The proxy, because the VM had died.
    DeadVm,
}

/// The client's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers without `:status`.
    pub headers: Headers,
    /// Body of a local reply; empty for one that streams.
    pub body: Vec<u8>,
    /// Who made it.
    pub origin: Origin,
}

/// One HTTP stream as Envoy keeps it.
#[derive(Debug)]
pub(crate) struct StreamData {
    pub(crate) context: u32,
    pub(crate) phase: Phase,
    pub(crate) request: Headers,
    pub(crate) request_open: bool,
    pub(crate) response: Headers,
    pub(crate) response_open: bool,
    /// Trailers the guest is looking at.
    pub(crate) trailers: Option<(MapType, Headers)>,
    pub(crate) log_phase: bool,
    pub(crate) peer: String,
    pub(crate) tls: bool,
    /// Response code details, as the access log names them.
    pub(crate) details: String,
    pub(crate) origin: Origin,
    pub(crate) reply_held: bool,
    pub(crate) forwarded: Option<Headers>,
    pub(crate) client: Option<Response>,
}

// === impl Guest ===

impl Guest {
    pub(crate) fn new(host: SharedHost) -> Self {
        Self {
            host,
            contexts: BTreeMap::new(),
            current: 0,
            effective: 0,
            about: 0,
            after: VecDeque::new(),
            calls: BTreeMap::new(),
            root_calls: Vec::new(),
            reply: None,
            restricted: true,
            interrupt: None,
            tick: None,
            last_token: 0,
        }
    }

    /// The context host calls refer to.
    pub(crate) fn active(&self) -> u32 {
        if self.contexts.contains_key(&self.effective) { self.effective } else { self.current }
    }

    /// The active context's stream, if it is one.
    pub(crate) fn stream(&self) -> Option<SharedStream> {
        match self.contexts.get(&self.active()) {
            Some(ContextData::Stream { stream, .. }) => Some(stream.clone()),
            _ => None,
        }
    }

    /// The configuration of the active context's root.
    pub(crate) fn configuration(&self) -> Option<Rc<Vec<u8>>> {
        match self.contexts.get(&self.active()) {
            Some(ContextData::Root { configuration }) => Some(configuration.clone()),
            Some(ContextData::Stream { root, .. }) => match self.contexts.get(root) {
                Some(ContextData::Root { configuration }) => Some(configuration.clone()),
                _ => None,
            },
            None => None,
        }
    }

    /// A header map for reading, where Envoy has it in this phase.
    pub(crate) fn map(&self, map: MapType) -> Option<Headers> {
        match map {
            MapType::CallHeaders => self.reply.as_ref().map(|r| r.headers.clone()),
            MapType::CallTrailers => self.reply.as_ref().map(|r| r.trailers.clone()),
            MapType::RequestHeaders
            | MapType::RequestTrailers
            | MapType::ResponseHeaders
            | MapType::ResponseTrailers => {
                let stream = self.stream()?;
                let mut stream = stream.borrow_mut();
                let logging = stream.log_phase;
                stream.open_map(map, logging).map(|m| m.clone())
            }
            MapType::Other => None,
        }
    }

    pub(crate) fn violate(&self, what: impl Into<String>) {
        self.host.borrow_mut().violations.push(what.into());
    }
}

// === impl StreamData ===

impl StreamData {
    pub(crate) fn new(request: Headers, peer: String, tls: bool) -> Self {
        Self {
            context: 0,
            phase: Phase::RequestHead,
            request,
            request_open: true,
            response: Headers::default(),
            response_open: false,
            trailers: None,
            log_phase: false,
            peer,
            tls,
            details: String::new(),
            origin: Origin::Upstream,
            reply_held: false,
            forwarded: None,
            client: None,
        }
    }

    /// The map if it is available; `logging` makes both readable, as in `on_log`.
    pub(crate) fn open_map(&mut self, map: MapType, logging: bool) -> Option<&mut Headers> {
        match map {
            MapType::RequestHeaders if self.request_open || logging => Some(&mut self.request),
            MapType::ResponseHeaders if self.response_open || logging => Some(&mut self.response),
            MapType::RequestTrailers | MapType::ResponseTrailers => {
                self.trailers.as_mut().filter(|(shown, _)| *shown == map).map(|(_, trailers)| trailers)
            }
            _ => None,
        }
    }

    /// A property by its path; `None` where Envoy has none in this phase.
    pub(crate) fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let header = |name: &str| {
            if self.request_open { self.request.get_bytes(name).map(<[u8]>::to_vec) } else { None }
        };
        let answered = !self.response.is_empty();
        match path {
            ["source", "address"] => Some(self.peer.clone().into_bytes()),
            ["connection", "mtls"] => Some(vec![0]),
            ["connection", "tls_version"] => self.tls.then(|| b"TLSv1.3".to_vec()),
            ["request", "id"] => header("x-request-id"),
            ["request", "protocol"] => self.request_open.then(|| b"HTTP/1.1".to_vec()),
            ["request", "method"] => header(":method"),
            ["request", "path"] => header(":path"),
            ["request", "host"] => header(":authority"),
            ["request", "scheme"] => header(":scheme"),
            ["request", "headers", name] => header(name),
            ["response", "code"] if answered => {
                let status: u64 = self.response.get(":status")?.parse().ok()?;
                Some(status.to_le_bytes().to_vec())
            }
            ["response", "code_details"] if answered => Some(self.details.clone().into_bytes()),
            _ => None,
        }
    }
}

/// Takes a stream for a moment.
pub(crate) fn lock(stream: &SharedStream) -> RefMut<'_, StreamData> {
    stream.borrow_mut()
}
