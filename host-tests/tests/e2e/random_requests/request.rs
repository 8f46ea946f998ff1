//! Random requests that any client could send.

use farebox_host_tests::Dice;

use crate::common::Request;

/// The header with the number of a request, for the upstream.
pub(super) const NUMBER: &str = "x-number";

const METHODS: [&str; 16] = [
    "GET", "GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "OPTIONS",
    "TRACE", "PROPFIND", "M-SEARCH", "PURGE",
];
const STARTS: [&str; 12] = [
    "/paid",
    "/paid",
    "/paid",
    "/paid/open",
    "/first",
    "/first",
    "/exact",
    "/free",
    "/other",
    "/Paid",
    "/paid/Open",
    "/FREE",
];
const SEGMENTS: [&str; 16] = [
    "a",
    "v1",
    "v1.2",
    "chat.json",
    "caf%C3%A9",
    "a%20b",
    "%61",
    "a+b",
    "x;y=1",
    "~user",
    "a:b@c",
    "1,2",
    "-",
    "_",
    ".well-known",
    "open",
];
const QUERIES: [&str; 6] = ["", "", "", "?a=1", "?a=%2F&b", "?/free/a"];

/// Headers that a client may send beside its payment.
const HEADERS: [(&str, &str); 44] = [
    ("accept", "*/*"),
    ("accept", "text/html"),
    ("accept-encoding", "gzip"),
    ("authorization", "Bearer sk-1"),
    ("cache-control", "no-cache"),
    ("content-type", "application/json"),
    ("cookie", "session=1"),
    ("if-none-match", "\"1\""),
    ("range", "bytes=0-1"),
    ("user-agent", "Mozilla/5.0"),
    ("origin", "https://page.example"),
    ("origin", "https://stranger.example"),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "payment-signature"),
    ("sec-fetch-site", "cross-site"),
    ("upgrade-insecure-requests", "1"),
    ("connection", "close"),
    ("connection", "keep-alive, x-payment-payer"),
    ("connection", "payment-signature"),
    ("connection", "host"),
    ("connection, upgrade", "h2c"),
    ("connection, upgrade", "websocket"),
    ("connection, upgrade", "h2c, websocket"),
    ("http2-settings", "AAMAAABkAAQAAP__"),
    ("te", "trailers"),
    ("expect", "100-continue"),
    ("forwarded", "for=1.2.3.4;proto=https"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-host", "elsewhere.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-prefix", "/free"),
    ("x-original-url", "/free/a"),
    ("x-rewrite-url", "/free/a"),
    ("x-http-method-override", "OPTIONS"),
    ("x-http-method", "HEAD"),
    ("x-method-override", "DELETE"),
    ("x-payment-payer", "0x1111111111111111111111111111111111111111"),
    ("x-verified-wallet", "0x1111111111111111111111111111111111111111"),
    ("payment-response", "eyJzdWNjZXNzIjp0cnVlfQ=="),
    ("payment-signature", "e30="),
    ("x-payment", ""),
    ("x-payment-owed", "true"),
    ("idempotency-key", "1"),
    ("x-envoy-original-path", "/free/a"),
];
const TRAILERS: [(&str, &str); 4] = [
    ("x-checksum", "1"),
    ("x-payment-payer", "0x1111111111111111111111111111111111111111"),
    ("x-http-method-override", "OPTIONS"),
    ("payment-signature", "e30="),
];

/// A request, before its payment.
pub(super) struct Asked {
    pub(super) path: String,
    request: Request,
    body: Vec<u8>,
}

// === impl Asked ===

impl Asked {
    pub(super) fn by_chance(number: u64, dice: &mut Dice) -> Self {
        let mut path = (*dice.one_of(&STARTS)).to_owned();
        for _ in 0..dice.below(3) {
            path = [&path, "/", *dice.one_of(&SEGMENTS)].concat();
        }
        path += *dice.one_of(&QUERIES);
        let mut request = Request::new(dice.one_of(&METHODS), &path).header(NUMBER, number.to_string());
        let mut is_handshake = false;
        for _ in 0..dice.below(5) {
            let (name, value) = *dice.one_of(&HEADERS);
            is_handshake |= value.contains("websocket");
            request = match name.split_once(", ") {
                None => request.header(name, value),
                Some((connection, name)) => request.header(connection, name).header(name, value),
            };
        }
        let content: Vec<u8> = (0..dice.below(300)).map(|_| dice.byte()).collect();
        let (request, body) = match dice.below(4) {
            // A handshake has no body: the following bytes are in the other protocol.
            _ if is_handshake => (request, Vec::new()),
            0 => (request.header("content-length", content.len().to_string()), content),
            1 => {
                let mut body = chunked(&content);
                if dice.once_in(3) {
                    let (name, value) = *dice.one_of(&TRAILERS);
                    body.extend(format!("{name}: {value}\r\n").bytes());
                }
                body.extend(b"\r\n");
                (request.header("transfer-encoding", "chunked"), body)
            }
            _ => (request, Vec::new()),
        };
        Self { path, request, body }
    }

    /// With a payment in one of its headers.
    pub(super) fn paying(mut self, header: &str, value: &str) -> Self {
        self.request = self.request.header(header, value);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [self.request.bytes(), self.body.clone()].concat()
    }
}

/// A body in chunks, up to its trailers.
fn chunked(content: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in content.chunks(100) {
        body.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    body.extend(b"0\r\n");
    body
}
