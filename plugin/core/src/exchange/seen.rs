//! One pass over a request head, which collects everything that the rules need.

use super::RequestHead;

/// The lines of one payment header. Empty lines count as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaymentLine<'a> {
    Absent,
    One(&'a [u8]),
    Repeated,
}

/// The parts of a request head that matter for a decision.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) authority: &'a [u8],
    pub(super) forwarded_proto: &'a [u8],
    pub(super) forwarded_host: &'a [u8],
    pub(super) forwarded_prefix: &'a [u8],
    /// Whether the client offers to switch to WebSocket. Other protocols are ignored (RFC 9110, section 7.8).
    pub(super) upgrade: bool,
    pub(super) origin: &'a [u8],
    /// `Access-Control-Request-Method` is there.
    pub(super) preflight: bool,
    /// `Access-Control-Request-Headers`.
    pub(super) asked_headers: &'a [u8],
    /// A body with `Content-Length` follows.
    pub(super) body: bool,
    /// A body in chunks follows. Only the gateway sees this, because Envoy and Traefik hide `Transfer-Encoding`.
    pub(super) chunks: bool,
    pub(super) accepts_html: bool,
    pub(super) mozilla: bool,
    pub(super) payment_signature: PaymentLine<'a>,
    pub(super) x_payment: PaymentLine<'a>,
}

/// Whether an upstream may leave the body of a request with this method unread, and then take it for the next request.
pub fn may_leave_unread(method: &[u8]) -> bool {
    !matches!(method, b"POST" | b"PUT" | b"PATCH")
}

impl<'a> Seen<'a> {
    pub(super) fn scan(head: &RequestHead<'a>) -> Self {
        let mut seen = Self {
            method: b"",
            path: b"",
            authority: b"",
            forwarded_proto: b"",
            forwarded_host: b"",
            forwarded_prefix: b"",
            upgrade: false,
            origin: b"",
            preflight: false,
            asked_headers: b"",
            body: false,
            chunks: false,
            accepts_html: false,
            mozilla: false,
            payment_signature: PaymentLine::Absent,
            x_payment: PaymentLine::Absent,
        };
        for (name, value) in head.headers {
            let value = value.trim_ascii();
            match *name {
                ":method" => seen.method = value,
                ":path" => seen.path = value,
                ":authority" => seen.authority = value,
                "host" if seen.authority.is_empty() => seen.authority = value,
                "x-forwarded-proto" if seen.forwarded_proto.is_empty() => seen.forwarded_proto = value,
                "x-forwarded-host" if seen.forwarded_host.is_empty() => seen.forwarded_host = value,
                "x-forwarded-prefix" if seen.forwarded_prefix.is_empty() => seen.forwarded_prefix = value,
                "upgrade" => seen.upgrade |= is_websocket(value),
                "origin" => seen.origin = value,
                "access-control-request-method" => seen.preflight |= !value.is_empty(),
                "access-control-request-headers" => seen.asked_headers = value,
                "content-length" => seen.body |= value != b"0",
                "transfer-encoding" => seen.chunks = true,
                "accept" => {
                    seen.accepts_html |=
                        contains(value, b"text/html") || contains(value, b"application/xhtml+xml");
                }
                "user-agent" => seen.mozilla |= contains(value, b"mozilla"),
                "payment-signature" => seen.payment_signature.add(value),
                "x-payment" => seen.x_payment.add(value),
                _ => {}
            }
        }
        seen
    }
    pub(super) fn is_head(&self) -> bool {
        self.method == b"HEAD"
    }
    /// Whether the request has a body with `Content-Length` that an upstream may leave unread.
    pub(super) fn may_stay_unread(&self) -> bool {
        self.body && may_leave_unread(self.method)
    }
    /// Whether the request has a body and asks to switch protocols, so that the bytes after the head can be read in two
    /// ways.
    pub(super) const fn is_upgrade_with_body(&self) -> bool {
        (self.body || self.chunks) && self.upgrade
    }
    /// Whether the request asks for something other than one HTTP response.
    pub(super) fn wants_upgrade(&self) -> bool {
        self.upgrade || self.method == b"CONNECT"
    }
    /// Whether this is a CORS preflight of a browser. A preflight never has a `Content-Length` and never asks to switch
    /// protocols.
    pub(super) fn is_preflight(&self) -> bool {
        self.method == b"OPTIONS" && !self.origin.is_empty() && self.preflight && !self.body && !self.upgrade
    }
    /// The payment, and whether it came in `PAYMENT-SIGNATURE`, which has precedence over `X-PAYMENT`.
    pub(super) fn payment(&self) -> (PaymentLine<'a>, bool) {
        match self.payment_signature {
            PaymentLine::Absent => (self.x_payment, false),
            line => (line, true),
        }
    }
    /// Whether the outermost trusted proxy got the request over https.
    pub(super) fn forwarded_https(&self) -> bool {
        let proto = first_element(self.forwarded_proto);
        proto.eq_ignore_ascii_case(b"https") || proto.eq_ignore_ascii_case(b"wss")
    }
}

impl<'a> PaymentLine<'a> {
    fn add(&mut self, value: &'a [u8]) {
        if !value.is_empty() {
            *self = if *self == Self::Absent { Self::One(value) } else { Self::Repeated };
        }
    }
}

/// The only protocol to switch to.
pub(super) const WEBSOCKET: &[u8] = b"websocket";

/// Whether a list of protocols contains WebSocket.
pub(super) fn is_websocket(protocols: &[u8]) -> bool {
    protocols
        .split(|byte| *byte == b',')
        .any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(WEBSOCKET))
}

/// The first element of a comma-separated list.
pub(super) fn first_element(list: &[u8]) -> &[u8] {
    list.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}
