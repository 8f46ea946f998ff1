//! An upstream that records the exact bytes of all requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::raw::text;

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived {
    /// Method, target and version.
    pub(crate) line: String,
    /// The bytes up to the body.
    pub(crate) head: Vec<u8>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// A running upstream. It has a thread for each connection, and ends with the test.
#[derive(Debug)]
pub(crate) struct Upstream {
    address: SocketAddr,
}

// === impl Arrived ===

impl Arrived {
    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(has, _)| has == name).map(|(_, value)| value.as_str())
    }

    /// The next request of a connection; none at its end.
    fn read(connection: &mut BufReader<TcpStream>) -> Option<Self> {
        let (head, mut lines) = read_lines(connection)?;
        let line = lines.remove(0);
        let headers = pairs(&lines);
        let mut arrived = Self { line, head, headers, ..Self::default() };
        if arrived.header("expect").is_some() {
            connection.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        if arrived.header("transfer-encoding").is_some() {
            loop {
                let mut size = String::new();
                connection.read_line(&mut size).ok()?;
                let size = usize::from_str_radix(size.trim(), 16).expect("a proxy sends chunks");
                if size == 0 {
                    break;
                }
                let mut chunk = vec![0; size + 2];
                connection.read_exact(&mut chunk).ok()?;
                arrived.body.extend_from_slice(&chunk[..size]);
            }
            arrived.trailers = pairs(&read_lines(connection)?.1);
        } else if let Some(length) = arrived.header("content-length") {
            arrived.body = vec![0; length.parse().expect("a proxy sends a length")];
            connection.read_exact(&mut arrived.body).ok()?;
        }
        Some(arrived)
    }
}

// === impl Upstream ===

impl Upstream {
    /// Starts an upstream that answers every request 200, with the text of `answer`.
    pub(crate) fn start(answer: impl Fn(Arrived) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(stream: TcpStream, answer: &(impl Fn(Arrived) -> String + ?Sized)) {
    let mut connection = BufReader::new(stream);
    while let Some(arrived) = Arrived::read(&mut connection) {
        let is_head = arrived.method() == "HEAD";
        let body = answer(arrived);
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        let answer = if is_head { head } else { head + &body };
        if connection.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Lines up to an empty one, as bytes and one by one.
fn read_lines(connection: &mut BufReader<TcpStream>) -> Option<(Vec<u8>, Vec<String>)> {
    let (mut bytes, mut lines) = (Vec::new(), Vec::new());
    loop {
        let start = bytes.len();
        if connection.read_until(b'\n', &mut bytes).ok()? == 0 {
            return None;
        }
        match text(bytes[start..].trim_ascii_end()) {
            line if line.is_empty() => return Some((bytes, lines)),
            line => lines.push(line),
        }
    }
}

fn pairs(lines: &[String]) -> Vec<(String, String)> {
    let pairs = lines.iter().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect()
}
