//! A stream from its request head to its end: the calls of the guest, and what Envoy does with the guest's answers.

use super::abi::{Headers, MapType};
use super::guest::{
    Call, CallReply, ContextData, LocalReply, Origin, Phase, Response, SharedStream, StreamData, lock,
};
use super::vm::{Called, PAUSE, Vm};

// === impl Vm: streams ===

impl Vm {
    /// Passes a request head to the guest and carries out its answer.
    pub(crate) fn request(&self, root: u32, stream: &SharedStream, end: bool) {
        let context = self.new_context();
        lock(stream).context = context;
        let data = ContextData::Stream { root, stream: stream.clone() };
        self.guest(|guest| guest.contexts.insert(context, data));
        self.stream_begins(root);
        let lines = lines(&lock(stream).request);
        self.call(context, "proxy_on_context_create", &[context, root]);
        let called = self.call(context, "proxy_on_request_headers", &[context, lines, u32::from(end)]);
        if called == Called::Dead {
            return self.fail(stream);
        }
        self.run_deferred();
        let mut data = lock(stream);
        if data.phase != Phase::RequestHead {
            return;
        }
        if called.continues() {
            drop(data);
            self.forward(stream);
        } else {
            data.phase = Phase::RequestHeld;
            drop(data);
            self.assert_a_callout_will_wake(stream);
        }
    }

    fn forward(&self, stream: &SharedStream) {
        let mut data = lock(stream);
        data.request_open = false;
        data.phase = Phase::AtUpstream;
        data.forwarded = Some(data.request.clone());
        let context = data.context;
        drop(data);
        // The body follows the head; the filter has to let it pass.
        if self.call(context, "proxy_on_request_body", &[context, 0, 1]) == Called::Returned(PAUSE) {
            self.violate("held a request body");
        }
    }

    pub(crate) fn continue_request(&self, stream: &SharedStream) {
        let phase = lock(stream).phase;
        if phase == Phase::RequestHeld {
            self.forward(stream);
        } else {
            self.violate(format!("resumed a request in phase {phase:?}"));
        }
    }

    /// Passes a response head to the guest and carries out its answer.
    pub(crate) fn response(&self, stream: &SharedStream, head: Headers, origin: Origin, details: &str) {
        let mut data = lock(stream);
        assert_eq!(data.phase, Phase::AtUpstream, "a response needs a forwarded request");
        (data.response, data.response_open) = (head, true);
        (data.phase, data.origin) = (Phase::ResponseHead, origin);
        data.details = details.to_owned();
        let (context, lines) = (data.context, lines(&data.response));
        drop(data);
        let called = self.call(context, "proxy_on_response_headers", &[context, lines, 0]);
        if called == Called::Dead {
            return self.fail(stream);
        }
        self.run_deferred();
        let mut data = lock(stream);
        if data.phase != Phase::ResponseHead {
            return;
        }
        if called.continues() {
            drop(data);
            self.deliver(stream);
        } else {
            data.phase = Phase::ResponseHeld;
            drop(data);
            self.assert_a_callout_will_wake(stream);
        }
    }

    pub(crate) fn continue_response(&self, stream: &SharedStream) {
        let phase = lock(stream).phase;
        if phase == Phase::ResponseHeld {
            self.deliver(stream);
        } else {
            self.violate(format!("resumed a response in phase {phase:?}"));
        }
    }

    /// The head goes to the client; the body streams behind it.
    fn deliver(&self, stream: &SharedStream) {
        let mut data = lock(stream);
        data.response_open = false;
        data.phase = Phase::Streaming;
        let head = data.response.clone();
        let origin = data.origin;
        self.answer(&mut data, head, Vec::new(), origin);
    }

    /// A paused stream needs a callout of its own, or nothing will ever resume it.
    fn assert_a_callout_will_wake(&self, stream: &SharedStream) {
        let context = lock(stream).context;
        if !self.guest(|guest| guest.calls.values().any(|c| c.about == context)) {
            self.violate("paused a stream without a callout that could resume it");
        }
    }

    /// A local reply. From the request side it passes the guest's own response callback.
    pub(crate) fn local_reply(
        &self,
        stream: &SharedStream,
        reply: LocalReply,
        origin: Origin,
        details: &str,
    ) {
        let mut data = lock(stream);
        let mut head = Headers::default();
        head.set(":status", reply.status.to_string());
        if !reply.body.is_empty() {
            head.set("content-length", reply.body.len().to_string());
            head.set("content-type", "text/plain");
        }
        let mut replaced: Vec<&str> = Vec::new();
        for (name, value) in reply.headers.iter() {
            if !replaced.contains(&name) {
                head.remove(name);
                replaced.push(name);
            }
            head.add(name, value);
        }
        let body =
            if data.request.get(":method").as_deref() == Some("HEAD") { Vec::new() } else { reply.body };
        match data.phase {
            Phase::RequestHead | Phase::RequestHeld | Phase::AtUpstream => {
                (data.response, data.response_open) = (head, true);
                data.details = details.to_owned();
                let (context, count) = (data.context, lines(&data.response));
                drop(data);
                let end = u32::from(body.is_empty());
                let called = self.call(context, "proxy_on_response_headers", &[context, count, end]);
                match called {
                    Called::Dead => return self.fail(stream),
                    called if called.continues() => {}
                    _ => self.violate("paused its own local reply"),
                }
                let mut data = lock(stream);
                data.response_open = false;
                let head = data.response.clone();
                self.answer(&mut data, head, body, origin);
            }
            Phase::ResponseHead | Phase::ResponseHeld => {
                self.answer(&mut data, head, body, origin);
                drop(data);
            }
            phase => return self.violate(format!("a local reply in phase {phase:?}")),
        }
        self.end(stream);
    }

    /// The VM died in a callback of this stream: 503 without a body, and no further callbacks.
    fn fail(&self, stream: &SharedStream) {
        self.guest(|guest| guest.after.clear());
        let mut data = lock(stream);
        self.answer(&mut data, Headers::from_pairs([(":status", "503")]), Vec::new(), Origin::DeadVm);
        drop(data);
        self.end(stream);
    }

    fn answer(&self, data: &mut StreamData, head: Headers, body: Vec<u8>, origin: Origin) {
        if data.client.is_some() {
            self.violate("a client got two responses");
        }
        let status = head.get(":status").and_then(|s| s.parse().ok()).unwrap_or_default();
        if !(200..600).contains(&status) && status != 101 {
            self.violate(format!("a response with status {status}"));
        }
        let mut headers = head;
        headers.remove(":status");
        data.client = Some(Response { status, headers, body, origin });
    }

    /// A chunk of the response body passes.
    pub(crate) fn body(&self, stream: &SharedStream, bytes: u32, end: bool) {
        let context = lock(stream).context;
        let called = self.call(context, "proxy_on_response_body", &[context, bytes, u32::from(end)]);
        if called == Called::Returned(PAUSE) {
            self.violate("held a response body");
        }
        self.run_deferred();
    }

    /// Trailers pass, as the guest leaves them.
    pub(crate) fn trailers(&self, stream: &SharedStream, map: MapType, trailers: Headers) -> Headers {
        let count = lines(&trailers);
        let mut data = lock(stream);
        data.trailers = Some((map, trailers));
        let context = data.context;
        drop(data);
        let callback = match map {
            MapType::RequestTrailers => "proxy_on_request_trailers",
            _ => "proxy_on_response_trailers",
        };
        if !self.call(context, callback, &[context, count]).continues() {
            self.violate("held trailers");
        }
        self.run_deferred();
        lock(stream).trailers.take().map(|(_, trailers)| trailers).unwrap_or_default()
    }

    /// Ends the stream: log, done, delete. Callouts of its context never call back.
    pub(crate) fn end(&self, stream: &SharedStream) {
        let mut data = lock(stream);
        if data.phase == Phase::Ended {
            return drop(data);
        }
        data.phase = Phase::Ended;
        data.log_phase = true;
        let context = data.context;
        drop(data);
        self.call(context, "proxy_on_log", &[context]);
        self.run_deferred();
        {
            let mut data = lock(stream);
            data.log_phase = false;
            (data.request_open, data.response_open) = (false, false);
        }
        if self.call(context, "proxy_on_done", &[context]) == Called::Returned(0) {
            self.violate("wants to outlive its stream");
        }
        self.call(context, "proxy_on_delete", &[context]);
        self.run_deferred();
        let removed = self.guest(|guest| {
            guest.calls.retain(|_, call| call.context != context);
            guest.contexts.remove(&context)
        });
        if let Some(ContextData::Stream { root, .. }) = removed {
            self.stream_ended(root);
        }
    }

    /// Takes every callout of a root context to an endpoint, for which no stream waits.
    pub(crate) fn root_calls(&self, endpoint: &str) -> Vec<(u32, Call)> {
        let is_to = |call: &Call| call.headers.get(":path").is_some_and(|path| path.ends_with(endpoint));
        self.guest(|guest| guest.root_calls.extract_if(.., |(_, call)| is_to(call)).collect())
    }

    /// Answers such a callout: with a status of the companion, or with Envoy's own page if there is none.
    pub(crate) fn answer_root_call(&self, token: u32, call: &Call, status: Option<u16>) {
        let headers = match status {
            Some(status) => Headers::from_pairs([
                (":status", status.to_string()),
                ("x-envoy-upstream-service-time", "1".to_owned()),
            ]),
            None => Headers::from_pairs([(":status", "503")]),
        };
        let args = [call.context, token, lines(&headers), 0, 0];
        let reply = CallReply { headers, body: Vec::new(), trailers: Headers::default() };
        self.guest(|guest| guest.reply = Some(reply));
        self.call(call.context, "proxy_on_http_call_response", &args);
        self.guest(|guest| guest.reply = None);
        self.run_deferred();
    }

    /// Delivers a callout reply, or the news that it broke off. Nothing happens for a callout whose
    /// context is gone.
    pub(crate) fn call_reply(&self, token: u32, stream: &SharedStream, reply: Option<CallReply>) {
        let Some(call) = self.guest(|guest| guest.calls.remove(&token)) else { return };
        let sizes = reply.as_ref().map_or([0; 3], |r| {
            let body = u32::try_from(r.body.len()).expect("bodies of tests are small");
            [lines(&r.headers), body, lines(&r.trailers)]
        });
        self.guest(|guest| guest.reply = reply);
        let args = [call.context, token, sizes[0], sizes[1], sizes[2]];
        let called = self.call(call.context, "proxy_on_http_call_response", &args);
        self.guest(|guest| guest.reply = None);
        self.run_deferred();
        let mut data = lock(stream);
        let held = matches!(data.phase, Phase::RequestHeld | Phase::ResponseHeld);
        if called == Called::Dead && held {
            // Envoy notices a dead VM only when it next calls into it, and nothing is left to make it.
            data.phase = Phase::Hung;
        } else if held {
            drop(data);
            self.assert_a_callout_will_wake(stream);
        }
    }
}

fn lines(headers: &Headers) -> u32 {
    u32::try_from(headers.len()).expect("header maps of tests are small")
}
