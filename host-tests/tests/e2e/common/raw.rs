//! HTTP/1 by hand, for requests that no well-behaved client would send. Each request has its own connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A request that is sent unchanged: nothing is checked, escaped or added but `Host`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Status; 0 if the connection ended before any.
    pub(crate) status: u16,
    /// Header lines, names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// The body as far as it came.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub(crate) complete: bool,
    /// From the connection to the last byte.
    pub(crate) took: Duration,
}

/// Longest time for a normal answer.
const PATIENCE: Duration = Duration::from_secs(20);

// === impl Request ===

impl Request {
    /// A GET.
    pub(crate) fn get(target: impl AsRef<[u8]>) -> Self {
        Self::new("GET", target)
    }

    /// Any method and target.
    pub(crate) fn new(method: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { method: method.as_ref().to_vec(), target: target.as_ref().to_vec(), headers: Vec::new() }
    }

    /// One more header line.
    #[must_use]
    pub(crate) fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = [&self.method[..], b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")) {
            out.extend_from_slice(b"host: shop.example\r\n");
        }
        for (name, value) in &self.headers {
            out.extend_from_slice(&[&name[..], b": ", value, b"\r\n"].concat());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Sends it and reads the answer. Panics if there is no answer and no end in time.
    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        exchange(to, &self.bytes())
    }

    /// Sends it and leaves the connection open.
    pub(crate) fn begin(&self, to: SocketAddr) -> TcpStream {
        begin(to, &self.bytes())
    }
}

/// Sends bytes on a new connection and reads one answer.
pub(crate) fn exchange(to: SocketAddr, bytes: &[u8]) -> Answer {
    let began = Instant::now();
    let mut stream = connect(to);
    // A proxy that refuses early may close before everything is written; its answer counts.
    let _ = stream.write_all(bytes);
    let head_only = bytes.starts_with(b"HEAD ");
    let answer = read(&mut stream, head_only);
    let took = began.elapsed();
    let mut answer = answer.unwrap_or_else(|so_far| {
        panic!("no end of an answer after {took:?}: {so_far}\nto {}", text(&bytes[..bytes.len().min(2_000)]))
    });
    answer.took = took;
    answer
}

/// Sends bytes on a new connection and leaves it open.
pub(crate) fn begin(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(to);
    stream.write_all(bytes).expect("a fresh connection takes a request");
    stream
}

/// Sends bytes on a new connection. If the connection switches protocols, sends `said` there and reads as many
/// bytes back as the body.
pub(crate) fn talk(to: SocketAddr, bytes: &[u8], said: &[u8]) -> Answer {
    let mut stream = begin(to, bytes);
    let mut answer = read(&mut stream, false).expect("an answer with an end");
    if answer.status == 101 {
        stream.write_all(said).expect("the connection is open");
        answer.body = vec![0; said.len()];
        stream.read_exact(&mut answer.body).expect("something comes back");
    }
    answer
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("the proxy accepts connections");
    stream.set_nodelay(true).expect("a TCP option");
    stream.set_read_timeout(Some(PATIENCE)).expect("a TCP option");
    stream
}

/// Reads the answer, or the part that came in time.
fn read(stream: &mut TcpStream, head_only: bool) -> Result<Answer, String> {
    let mut received = Vec::new();
    let mut ended = false;
    loop {
        if let Some(answer) = parse(&received, head_only, ended) {
            return Ok(answer);
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk) {
            Ok(0) => ended = true,
            Ok(count) => received.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(text(&received));
            }
            Err(_) => ended = true,
        }
    }
}

/// The final answer in the bytes so far, if it is complete or nothing more can come.
fn parse(mut bytes: &[u8], head_only: bool, ended: bool) -> Option<Answer> {
    let took = Duration::ZERO;
    loop {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            let nothing = Answer { status: 0, headers: Vec::new(), body: Vec::new(), complete: false, took };
            return ended.then_some(nothing);
        };
        let (head, body) = (&bytes[..end], &bytes[end + 4..]);
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let first = text(lines.next().unwrap_or_default());
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let headers: Vec<(String, Vec<u8>)> = lines
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                Some((text(&line[..colon]).to_lowercase(), line[colon + 1..].trim_ascii().to_vec()))
            })
            .collect();
        if matches!(status, 100..=199) && status != 101 {
            bytes = body;
            continue;
        }
        let header =
            |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| text(value).to_lowercase());
        let (body, complete) = if head_only || matches!(status, 101 | 204 | 304) {
            (Vec::new(), true)
        } else if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            dechunk(body)
        } else if let Some(length) = header("content-length").and_then(|value| value.parse().ok()) {
            (body[..body.len().min(length)].to_vec(), body.len() >= length)
        } else {
            (body.to_vec(), ended)
        };
        return (complete || ended).then_some(Answer { status, headers, body, complete, took });
    }
}

fn dechunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(bytes, b"\r\n") else { return (body, false) };
        let Ok(size) = usize::from_str_radix(text(&bytes[..end]).trim(), 16) else { return (body, false) };
        bytes = &bytes[end + 2..];
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&bytes[..bytes.len().min(size)]);
        if bytes.len() < size + 2 {
            return (body, false);
        }
        bytes = &bytes[size + 2..];
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Bytes for a message.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// === impl Answer ===

impl Answer {
    /// The first line of a header as text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(has, _)| has == name).map(|(_, value)| text(value))
    }

    /// The body as JSON, `null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header of base64 JSON, decoded; `null` if it is not there.
    pub(crate) fn decoded(&self, name: &str) -> Value {
        let Some(value) = self.header(name) else { return Value::Null };
        let json = farebox_core::protocol::decode_base64(value.as_bytes()).expect("base64");
        serde_json::from_slice(&json).expect("JSON")
    }

    /// The receipt: both headers are there with the same value, or neither.
    pub(crate) fn receipt(&self) -> Value {
        assert_eq!(self.header("payment-response"), self.header("x-payment-response"));
        self.decoded("payment-response")
    }

    /// Whether it asks for (another) payment, in its headers or its body.
    pub(crate) fn challenges(&self) -> bool {
        let accepts = find(&self.body, b"\"accepts\"").is_some();
        assert_eq!(self.header("payment-required").is_some(), accepts, "{}", text(&self.body));
        accepts
    }

    /// For messages: status, headers and the start of the body.
    pub(crate) fn summary(&self) -> String {
        let body = text(&self.body[..self.body.len().min(600)]);
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
        format!("{} after {:?}\n{}\n{body}", self.status, self.took, headers.join("\n"))
    }
}
