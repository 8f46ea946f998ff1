//! One request: the core's events in, its effects out.

use std::cell::RefCell;
use std::rc::Rc;

use farebox_core::exchange::{
    self, Abandoned, Arrival, Calling, Delivering, HeaderEdits, Next, Reply, RequestHead, ResponseHead,
    Transport, Turn, Upstream,
};
use farebox_core::metrics::{BlockedReason, Stamp};
use farebox_core::protocol::CallEnd;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel, MapType, Status};

use crate::callout::Captured;
use crate::header_map::HeaderMap;
use crate::root::Deployment;
use crate::waiting::{self, Waiter};
use crate::{callout, clock, origin, payments};

/// One HTTP stream.
pub(crate) struct Stream {
    context: u32,
    deployment: Rc<Deployment>,
    stage: RefCell<Stage>,
}

/// A stream in the hands of the SDK, which shows it to nobody else.
pub(crate) struct Handle(Rc<Stream>);

/// What the stream waits for.
enum Stage {
    /// The request head. Envoy may answer a request it cannot parse without ever showing it.
    Request,
    /// The facilitator, with one side of the stream held.
    Facilitator { state: Box<Calling>, token: u32, held: Side },
    /// A response head that decides about money.
    Response(Box<Upstream>),
    /// The end of a settled response.
    Delivery(Delivering),
    /// Nothing: whatever comes next passes. Free requests, our own replies, released responses.
    Nothing,
    /// Nothing, after the exchange came to its end without an answer: whatever comes next is stopped.
    Ended,
}

/// Which side of a stream an effect is about.
#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

// === impl Handle ===

impl Handle {
    pub(crate) fn new(context: u32, deployment: Rc<Deployment>) -> Self {
        Self(Rc::new(Stream { context, deployment, stage: RefCell::new(Stage::Request) }))
    }
}

// === impl Stream ===

impl Stream {
    /// Context of its filter.
    pub(crate) fn root(&self) -> u32 {
        self.deployment.root
    }

    fn request_head(self: &Rc<Self>) -> Result<Action, Status> {
        let map = HeaderMap::read(MapType::HttpRequestHeaders)?;
        let headers = map.lines()?;
        let transport = transport(&headers, self.deployment.rules.settings.require_secure_transport)?;
        let head = RequestHead { headers: &headers, transport };
        let arrival = || {
            let identity = self.deployment.identity.as_ref().ok_or(Status::InternalFailure)?;
            Ok(Arrival { now: clock::now()?, holder: identity.holder(self.context) })
        };
        let turn = exchange::begin(&self.deployment.rules, &head, arrival)?;
        self.carry_out(turn, Side::Request)
    }

    fn response_head(self: &Rc<Self>, state: Upstream) -> Result<Action, Status> {
        let map = HeaderMap::read(MapType::HttpResponseHeaders)?;
        let headers = map.lines()?;
        let status = headers.iter().find(|(name, _)| *name == ":status");
        let status =
            status.and_then(|(_, value)| callout::parse_status(value)).ok_or(Status::ParseFailure)?;
        let head = ResponseHead { status, headers: &headers, origin: origin::of_response()? };
        self.carry_out(state.response(&head, clock::now()?), Side::Response)
    }

    /// Carries out effects until the stream has to wait. The held side may go on if the answer is
    /// [`Action::Continue`].
    fn carry_out(self: &Rc<Self>, mut turn: Turn, side: Side) -> Result<Action, Status> {
        loop {
            self.deployment.count(self.context, &turn.stamps);
            self.deployment.tell(self.context, &turn.notes)?;
            turn = match turn.next {
                Next::Step(state) => {
                    let now = clock::now()?;
                    let limits = &self.deployment.limits;
                    let (answer, effects) =
                        payments::step(state.key(), state.tuple(), state.event(), limits, now);
                    self.deployment.count_expired(self.context, &effects);
                    state.stepped(answer, &effects, now)
                }
                Next::Call(state) => match self.dispatch(&state) {
                    Ok(token) => {
                        self.stage.replace(Stage::Facilitator { state, token, held: side });
                        waiting::for_reply(token, Waiter::Stream(Rc::clone(self)));
                        return Ok(Action::Pause);
                    }
                    Err(_) => state.answered(CallEnd::NotSent, clock::now()?),
                },
                Next::Forward(edits, _passing) => {
                    edit(MapType::HttpRequestHeaders, &edits)?;
                    self.stage.replace(Stage::Nothing);
                    return Ok(Action::Continue);
                }
                Next::Serve(edits, upstream) => {
                    edit(MapType::HttpRequestHeaders, &edits)?;
                    self.stage.replace(Stage::Response(upstream));
                    waiting::for_upstream(self.context, self, clock::latest());
                    return Ok(Action::Continue);
                }
                Next::Release(edits, delivering) => {
                    edit(MapType::HttpResponseHeaders, &edits)?;
                    self.stage.replace(delivering.map_or(Stage::Nothing, Stage::Delivery));
                    return Ok(Action::Continue);
                }
                Next::Reply(reply) => {
                    // It comes by as a response head itself.
                    self.stage.replace(Stage::Nothing);
                    send(&reply)?;
                    return Ok(Action::Pause);
                }
            };
        }
    }

    fn dispatch(&self, state: &Calling) -> Result<u32, Status> {
        let caller = self.deployment.caller(self.context).ok_or(Status::NotFound)?;
        caller.dispatch(state.call()).inspect_err(|status| {
            let message = format!("farebox: cannot call cluster {}: {status:?}", caller.cluster);
            let _ = hostcalls::log(LogLevel::Error, &message);
        })
    }

    /// The reply to its call came.
    pub(crate) fn answered(self: &Rc<Self>, token: u32, reply: Result<Captured, Status>) {
        if hostcalls::set_effective_context(self.context).is_err() {
            return;
        }
        let (state, held) = match self.stage.replace(Stage::Ended) {
            Stage::Facilitator { state, token: awaited, held } if awaited == token => (state, held),
            other => {
                self.stage.replace(other);
                return;
            }
        };
        let turn = reply.and_then(|reply| Ok(state.answered(reply.as_end(), clock::now()?)));
        match turn.and_then(|turn| self.carry_out(turn, held)) {
            Ok(Action::Continue) => {
                let _ = match held {
                    Side::Request => hostcalls::resume_http_request(),
                    Side::Response => hostcalls::resume_http_response(),
                };
            }
            Ok(_) => {}
            Err(status) => {
                self.fail_closed(status);
            }
        }
    }

    /// Says that it goes on, to whoever keeps the payments.
    pub(crate) fn goes_on(&self) -> Result<(), Status> {
        let notes = match &*self.stage.borrow() {
            Stage::Response(state) => state.goes_on(),
            Stage::Delivery(state) => state.goes_on(),
            Stage::Request | Stage::Facilitator { .. } | Stage::Nothing | Stage::Ended => return Ok(()),
        };
        self.deployment.tell(self.deployment.root, &notes)
    }

    /// The stream is over, or somebody else answered it.
    fn end(&self) -> Result<(), Status> {
        waiting::no_more(self.context);
        let abandoned = match self.stage.replace(Stage::Ended) {
            Stage::Facilitator { state, token, .. } => {
                waiting::take(token);
                match state.orphaned() {
                    Ok((abandoned, orphan)) => {
                        let deployment = Rc::clone(&self.deployment);
                        waiting::for_reply(token, Waiter::Orphan(Box::new(orphan), deployment));
                        abandoned
                    }
                    Err(state) => {
                        let abandoned = state.abandoned();
                        if self.deployment.rules.has_relay() {
                            let left = Waiter::Left(abandoned.notes.clone(), Rc::clone(&self.deployment));
                            waiting::for_reply(token, left);
                        }
                        abandoned
                    }
                }
            }
            Stage::Response(state) => state.abandoned(),
            Stage::Delivery(state) => state.ended(origin::upstream_broke_off()?, clock::now()?),
            Stage::Request | Stage::Nothing | Stage::Ended => Abandoned::default(),
        };
        self.deployment.count(self.context, &abandoned.stamps);
        self.deployment.tell(self.context, &abandoned.notes)
    }

    /// A host call failed. The stream is answered and can never be served.
    fn fail_closed(&self, status: Status) -> Action {
        let _ = hostcalls::log(LogLevel::Error, &format!("farebox: host call failed: {status:?}"));
        self.deployment.count(self.context, &[Stamp::Blocked(None, BlockedReason::InternalError)]);
        let _ = send(&exchange::internal());
        // The reply itself comes by as a response head.
        self.stage.replace(Stage::Nothing);
        Action::Pause
    }
}

impl Context for Handle {}

impl HttpContext for Handle {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let stream = &self.0;
        stream.request_head().unwrap_or_else(|status| stream.fail_closed(status))
    }

    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        match clean(MapType::HttpRequestTrailers) {
            Ok(()) => Action::Continue,
            Err(status) => self.0.fail_closed(status),
        }
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let stream = &self.0;
        match stream.stage.replace(Stage::Ended) {
            Stage::Response(state) => {
                stream.response_head(*state).unwrap_or_else(|status| stream.fail_closed(status))
            }
            // The proxy or a neighbouring filter gave up waiting and answers in our place.
            waiting @ Stage::Facilitator { .. } => {
                stream.stage.replace(waiting);
                match stream.end() {
                    Ok(()) => Action::Continue,
                    Err(status) => stream.fail_closed(status),
                }
            }
            Stage::Ended => stream.fail_closed(Status::InternalFailure),
            passing @ (Stage::Request | Stage::Delivery(_) | Stage::Nothing) => {
                stream.stage.replace(passing);
                Action::Continue
            }
        }
    }

    /// The head is with the client, so nothing could be answered in its place.
    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        if let Err(status) = clean(MapType::HttpResponseTrailers) {
            let _ = hostcalls::log(LogLevel::Error, &format!("farebox: cannot clean trailers: {status:?}"));
        }
        Action::Continue
    }

    /// The one callback every stream gets, whoever ended it.
    fn on_log(&mut self) {
        if let Err(status) = self.0.end() {
            let _ = hostcalls::log(LogLevel::Error, &format!("farebox: cannot end a stream: {status:?}"));
        }
    }
}

/// How the request arrived. Each fact costs a host call and decides only where plaintext is refused.
/// Otherwise TLS gives a challenge's URL its scheme, unless Envoy said it in `x-forwarded-proto`.
fn transport(headers: &[(&str, &[u8])], secure_only: bool) -> Result<Transport, Status> {
    if !secure_only && headers.iter().any(|(name, _)| *name == "x-forwarded-proto") {
        return Ok(Transport::default());
    }
    let property = |path: [&str; 2]| hostcalls::get_property(path.to_vec());
    let tls = property(["connection", "tls_version"])?.is_some_and(|version| !version.is_empty());
    let peer = if secure_only {
        let address = property(["source", "address"])?.unwrap_or_default();
        core::str::from_utf8(&address)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(|address: std::net::SocketAddr| address.ip())
    } else {
        None
    };
    Ok(Transport { tls, peer })
}

fn edit(map: MapType, edits: &HeaderEdits) -> Result<(), Status> {
    for name in &edits.remove {
        hostcalls::remove_map_value(map, name)?;
    }
    for (name, value) in &edits.set {
        hostcalls::set_map_value_bytes(map, name, Some(value.as_bytes()))?;
    }
    Ok(())
}

/// Takes away from trailers what only Farebox says.
fn clean(trailers: MapType) -> Result<(), Status> {
    let map = HeaderMap::read(trailers)?;
    for name in exchange::forged_names(&map.lines()?) {
        hostcalls::remove_map_value(trailers, &name)?;
    }
    Ok(())
}

fn send(reply: &Reply) -> Result<(), Status> {
    let headers = reply.headers.iter().map(|(name, value)| (name.as_ref(), value.as_str())).collect();
    let body = (!reply.body.is_empty()).then_some(reply.body.as_slice());
    hostcalls::send_http_response(u32::from(reply.status), headers, body)
}
