//! A test's handle on one HTTP stream: the actions of upstream and client, and what they get.

use super::abi::{Headers, MapType};
use super::callout::Callout;
use super::guest::{LocalReply, Origin, Phase, Response, SharedStream, lock};
use super::process::{Envoy, is_waiting};
use super::vm::Vm;
use std::rc::Rc;

/// One HTTP stream.
pub struct Stream<'a> {
    pub(crate) envoy: &'a Envoy,
    pub(crate) vm: Rc<Vm>,
    pub(crate) data: SharedStream,
}

// === impl Stream: observations ===

impl Stream<'_> {
    /// Where the stream is.
    pub fn phase(&self) -> Phase {
        lock(&self.data).phase
    }

    /// The request head at the upstream, if it arrived.
    pub fn forwarded(&self) -> Option<Headers> {
        lock(&self.data).forwarded.clone()
    }

    /// The client's response so far.
    pub fn response(&self) -> Option<Response> {
        lock(&self.data).client.clone()
    }

    /// The request head the upstream got. Panics unless the request is at the upstream now.
    #[track_caller]
    pub fn expect_forwarded(&self) -> Headers {
        assert_eq!(self.phase(), Phase::AtUpstream, "the client got {:?}", self.response());
        self.forwarded().expect("a request at the upstream was forwarded")
    }

    /// The response the client got. Panics unless there is one with this status.
    #[track_caller]
    pub fn expect_response(&self, status: u16) -> Response {
        let response = self.response();
        let response = response.unwrap_or_else(|| panic!("no response; the stream is {:?}", self.phase()));
        let body = String::from_utf8_lossy(&response.body);
        assert_eq!(response.status, status, "the client got {body}");
        response
    }

    /// The stream's outstanding callout. Panics unless there is exactly one, to this path.
    #[track_caller]
    pub fn expect_callout(&self, path: &str) -> Callout<'_> {
        let callout = self.callout().unwrap_or_else(|| {
            panic!("no callout; the stream is {:?}, the client got {:?}", self.phase(), self.response())
        });
        assert_eq!(callout.path(), path);
        callout
    }

    /// The stream's outstanding callout, if it has one. Panics if it has several.
    #[track_caller]
    pub fn callout(&self) -> Option<Callout<'_>> {
        let context = lock(&self.data).context;
        let mut calls: Vec<_> = self.vm.guest(|guest| {
            guest.calls.iter().filter(|(_, c)| c.about == context).map(|(t, c)| (*t, c.clone())).collect()
        });
        assert!(calls.len() <= 1, "a stream has {} callouts at once", calls.len());
        calls.pop().map(|(token, call)| Callout { stream: self, token, call })
    }
}

// === impl Stream: events ===

impl Stream<'_> {
    /// The upstream's response head arrives.
    pub fn upstream_answers(&self, status: u16, headers: &[(&str, &str)]) {
        let mut head = Headers::from_pairs([(":status", status.to_string())]);
        for (name, value) in headers {
            head.add(name, value);
        }
        self.upstream_answers_with(head);
    }

    /// The upstream's response head arrives, with any bytes.
    pub fn upstream_answers_with(&self, head: Headers) {
        self.vm.response(&self.data, head, Origin::Upstream, "via_upstream");
        self.envoy.check();
    }

    /// The router answers in place of the upstream. `details` are Envoy's response code details, such as
    /// `upstream_reset_before_response_started{connection_termination}`, `response_timeout` or
    /// `no_healthy_upstream`.
    pub fn router_answers(&self, status: u16, details: &str) {
        let head =
            Headers::from_pairs([(":status", status.to_string().as_str()), ("content-type", "text/plain")]);
        self.vm.response(&self.data, head, Origin::Router, details);
        self.envoy.check();
    }

    /// Ends the request with trailers. Returns the trailers that the upstream gets.
    pub fn request_trailers(&self, trailers: &[(&str, &str)]) -> Headers {
        assert_eq!(self.phase(), Phase::AtUpstream, "trailers follow a forwarded head");
        let passed =
            self.vm.trailers(&self.data, MapType::RequestTrailers, Headers::from_pairs(trailers.to_vec()));
        self.envoy.check();
        passed
    }

    /// Ends the response body with trailers. Returns the trailers that the client gets.
    pub fn response_trailers(&self, trailers: &[(&str, &str)]) -> Headers {
        assert_eq!(self.phase(), Phase::Streaming, "trailers follow a delivered head");
        let passed =
            self.vm.trailers(&self.data, MapType::ResponseTrailers, Headers::from_pairs(trailers.to_vec()));
        self.envoy.check();
        passed
    }

    /// A chunk of the response body passes.
    pub fn body_chunk(&self, bytes: u32) {
        assert_eq!(self.phase(), Phase::Streaming, "a body needs a delivered head");
        self.vm.body(&self.data, bytes, false);
        self.envoy.check();
    }

    /// The response body ends, and with it the stream.
    #[track_caller]
    pub fn body_ends(&self) {
        assert_eq!(self.phase(), Phase::Streaming, "the client got {:?}", self.response());
        self.vm.body(&self.data, 0, true);
        self.vm.end(&self.data);
        self.envoy.check();
    }

    /// The upstream cuts the body short.
    pub fn body_breaks_off(&self) {
        assert_eq!(self.phase(), Phase::Streaming, "a body needs a delivered head");
        self.end_with("upstream_reset_after_response_started{remote_reset}");
    }

    /// The client goes away.
    pub fn client_leaves(&self) {
        self.end_with("downstream_remote_disconnect");
    }

    /// The proxy gives up on a stream that waits for a callout, as its idle timer would.
    pub fn proxy_gives_up(&self) {
        let phase = self.phase();
        assert!(is_waiting(phase) || phase == Phase::Hung, "the stream is {phase:?}");
        if phase == Phase::Hung {
            return self.end_with("stream_idle_timeout");
        }
        let reply = LocalReply { status: 408, headers: Headers::default(), body: b"stream timeout".to_vec() };
        self.vm.local_reply(&self.data, reply, Origin::Router, "stream_idle_timeout");
        self.envoy.check();
    }

    fn end_with(&self, details: &str) {
        details.clone_into(&mut lock(&self.data).details);
        self.vm.end(&self.data);
        self.envoy.check();
    }
}
