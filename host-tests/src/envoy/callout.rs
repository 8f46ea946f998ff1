//! A test's handle on one facilitator call: the request, and the reply that the test chooses.

use super::abi::Headers;
use super::guest::{Call, CallReply};
use super::stream::Stream;
use std::time::Duration;

/// Envoy's page for a callout that timed out.
const TIMEOUT_PAGE: &str = "upstream request timeout";
/// Envoy's page for a callout whose connection failed or was reset before headers.
const RESET_PAGE: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination";

/// An outstanding callout.
pub struct Callout<'a> {
    pub(crate) stream: &'a Stream<'a>,
    pub(crate) token: u32,
    pub(crate) call: Call,
}

// === impl Callout: what was asked ===

impl Callout<'_> {
    /// `:path`.
    pub fn path(&self) -> String {
        self.call.headers.get(":path").unwrap_or_default()
    }

    /// Request headers.
    pub fn headers(&self) -> &Headers {
        &self.call.headers
    }

    /// Cluster.
    pub fn cluster(&self) -> &str {
        &self.call.cluster
    }

    /// Timeout asked for.
    pub const fn timeout(&self) -> Duration {
        self.call.timeout
    }

    /// Request body.
    pub fn body(&self) -> &[u8] {
        &self.call.body
    }

    /// Request body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.call.body).expect("the callout's body is JSON")
    }
}

// === impl Callout: what comes back ===

impl Callout<'_> {
    /// The facilitator answers with a JSON body and the headers a real server sends.
    pub fn replies(self, status: u16, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let headers = Headers::from_pairs([
            (":status", status.to_string()),
            ("content-type", "application/json".to_owned()),
            ("content-length", body.len().to_string()),
            ("date", "Sun, 20 Sep 2026 12:00:00 GMT".to_owned()),
            ("server", "facilitator".to_owned()),
            ("x-envoy-upstream-service-time", "3".to_owned()),
        ]);
        self.replies_with(headers, body, Headers::default());
    }

    /// The facilitator answers with exactly these headers, body and trailers.
    pub fn replies_with(self, headers: Headers, body: &[u8], trailers: Headers) {
        self.finish(Some(CallReply { headers, body: body.to_vec(), trailers }));
    }

    /// The connection breaks after the reply's headers: Envoy reports no headers at all.
    pub fn breaks_off(self) {
        self.finish(None);
    }

    /// Whether its time is over, so that only [`Callout::times_out`] is possible.
    pub fn is_overdue(&self) -> bool {
        self.time_left().is_zero()
    }

    fn time_left(&self) -> Duration {
        Duration::from_nanos(self.call.deadline.saturating_sub(self.stream.envoy.monotonic()))
    }

    /// Nothing comes within the timeout: Envoy answers 504 itself.
    pub fn times_out(self) {
        self.stream.envoy.advance(self.time_left());
        self.proxy_page(504, TIMEOUT_PAGE);
    }

    /// No connection, or one reset before headers: Envoy answers 503 itself.
    pub fn is_unreachable(self) {
        self.proxy_page(503, RESET_PAGE);
    }

    fn proxy_page(self, status: u16, page: &str) {
        let headers = Headers::from_pairs([
            (":status", status.to_string()),
            ("content-length", page.len().to_string()),
            ("content-type", "text/plain".to_owned()),
        ]);
        self.replies_with(headers, page.as_bytes(), Headers::default());
    }

    fn finish(self, reply: Option<CallReply>) {
        self.stream.vm.call_reply(self.token, &self.stream.data, reply);
        self.stream.envoy.check();
    }
}
