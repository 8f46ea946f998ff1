//! Slow and silent clients against ports with short deadlines.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::testing::{eventually, tcp};

type Stream = std::pin::Pin<
    Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync + 'static>,
>;

/// A port that answers `/end` with two bytes, `/flood` with a body without end, `/never` not at all, and `/whole` once the
/// request has come.
struct Stage {
    address: SocketAddr,
    /// Requests under way.
    under_way: Arc<AtomicUsize>,
    stop: Option<watch::Sender<()>>,
    serving: JoinHandle<Instant>,
}

struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

const SHORT: Duration = Duration::from_millis(400);
/// Longer than any step of these tests may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn limits() -> Limits {
    Limits {
        protocol: Protocol::Both,
        connections: 8,
        requests: 8,
        head_bytes: 16 * 1024,
        head: SHORT,
        idle: SHORT * 3,
        write: SHORT,
    }
}

impl Stage {
    async fn start(limits: Limits) -> Self {
        let port = Port::bind("test", &Listen::Tcp(([127, 0, 0, 1], 0).into()), None, limits).await.unwrap();
        Self::of(port, SHORT)
    }

    fn of(port: Port, grace: Duration) -> Self {
        let address = match port.address().unwrap() {
            Listen::Tcp(address) => address,
            Listen::Unix(_) => ([127, 0, 0, 1], 1).into(),
        };
        let under_way = Arc::new(AtomicUsize::new(0));
        let count = under_way.clone();
        let service = move |mut request: Request<Incoming>| {
            count.fetch_add(1, Ordering::SeqCst);
            let held = Held(count.clone());
            let arrival = request.extensions_mut().remove::<Arrival>().unwrap();
            async move {
                let path = request.uri().path().to_owned();
                if path == "/whole" {
                    let _partial = arrival.awaited();
                    let _ = request.into_body().collect().await;
                }
                let body: Stream = match path.as_str() {
                    "/flood" => Box::pin(futures_util::stream::unfold(held, async |held| {
                        Some((Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024]))), held))
                    })),
                    "/never" => {
                        let _held = held;
                        pending().await
                    }
                    _ => Box::pin(futures_util::stream::iter([Ok(Frame::data(Bytes::from("ok")))])),
                };
                Response::new(StreamBody::new(body))
            }
        };
        let (stop, finished) = watch::channel(());
        let serving = tokio::spawn(port.serve(service, finished, grace));
        Self { address, under_way, stop: Some(stop), serving }
    }

    async fn connect(&self, says: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(says).await.unwrap();
        stream
    }

    /// A client that sends a whole request and reads the answer.
    async fn ask(&self) -> String {
        ask(&mut self.connect(b"").await).await
    }
}

async fn ask(stream: &mut TcpStream) -> String {
    let _ = stream.write_all(b"GET /end HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_answer(stream).await
}

async fn read_answer(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"0\r\n\r\n") && !got.ends_with(b"}\n") {
        match timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time") {
            Ok(byte) => got.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(got).unwrap()
}

/// How long the port keeps a connection.
async fn closed(mut stream: TcpStream) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection is closed");
    began.elapsed()
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_first_head_is_closed_at_the_deadline() {
    for protocol in [Protocol::Http1, Protocol::Http2, Protocol::Both] {
        let stage = Stage::start(Limits { protocol, ..limits() }).await;
        for says in [
            "",
            "P",
            "G",
            "GET / HTTP/1.1\r\nhost: ",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let took = closed(stage.connect(says.as_bytes()).await).await;
            assert!(took < SHORT * 4, "{protocol:?} {says:?}: {took:?}");
        }
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let stage = Stage::start(limits()).await;
    for first in [&b""[..], b"GET /end HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let (mut reader, mut writer) = stage.connect(first).await.into_split();
        let began = Instant::now();
        let dripping = tokio::spawn(async move {
            for byte in b"GET /end HTTP/1.1\r\nhost: a\r\nx-long: ".iter().chain([&b'a'; 1_000]) {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, reader.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(began.elapsed() < SHORT * 4, "{:?}", began.elapsed());
        dripping.abort();
    }
}

#[tokio::test]
async fn a_connection_is_kept_between_requests_but_not_for_ever() {
    let stage = Stage::start(limits()).await;
    let mut stream = stage.connect(b"").await;
    for _ in 0..3 {
        assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200 "));
        tokio::time::sleep(SHORT + SHORT / 2).await;
    }
    assert!(closed(stream).await < SHORT * 4);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_dropped_and_what_it_asked_for_with_it() {
    for head in ["GET /flood HTTP/1.1\r\nhost: a\r\n\r\n", "GET /end HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let stage = Stage::start(limits()).await;
        let mut stream = stage.connect(b"").await;
        let asking = async {
            // The answers together do not fit into the buffers of the system.
            for _ in 0..400_000 {
                if stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
            }
        };
        timeout(PATIENCE, asking).await.expect("the port gives up");
        eventually("nothing is left of it", || stage.under_way.load(Ordering::SeqCst) == 0).await;
    }
}

#[tokio::test]
async fn a_request_that_takes_its_time_is_not_disturbed() {
    let stage = Stage::start(limits()).await;
    let mut stream = stage.connect(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(timeout(SHORT * 6, stream.read_u8()).await.is_err(), "it was closed or answered");
}

#[tokio::test]
async fn a_port_full_of_silent_clients_serves_a_client_that_asks() {
    let stage = Stage::start(Limits { head: PATIENCE, idle: PATIENCE, ..limits() }).await;
    let mut crowd = Vec::new();
    for round in 0..40 {
        let says = ["", "G", "GET / HTTP/1.1\r\nx: ", "PRI * HTTP/2.0\r\n\r\n"][round % 4];
        crowd.push(stage.connect(says.as_bytes()).await);
        if round % 4 == 3 {
            assert!(stage.ask().await.starts_with("HTTP/1.1 200 "), "round {round}");
        }
    }
}

#[tokio::test]
async fn requests_under_way_are_not_closed_for_others_and_one_too_many_is_told_so() {
    let stage = Stage::start(Limits { requests: 7, ..limits() }).await;
    let mut served = Vec::new();
    for _ in 0..7 {
        served.push(stage.connect(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await);
    }
    eventually("they are under way", || stage.under_way.load(Ordering::SeqCst) == 7).await;
    let answer = stage.ask().await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("overloaded"), "{answer}");
    // The silent clients share the eighth place, one after another.
    for _ in 0..20 {
        served.push(stage.connect(b"").await);
    }
    assert_eq!(stage.under_way.load(Ordering::SeqCst), 7);
    drop(served);
    eventually("they are gone", || stage.under_way.load(Ordering::SeqCst) == 0).await;
    assert!(stage.ask().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn parts_of_requests_take_no_place_from_whole_ones() {
    let stage = Stage::start(limits()).await;
    let part = b"POST /whole HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1";
    let mut kept = stage.connect(part).await;
    let mut crowd = Vec::new();
    for _ in 0..7 {
        crowd.push(stage.connect(part).await);
    }
    eventually("they have come", || stage.under_way.load(Ordering::SeqCst) == 8).await;
    tokio::time::sleep(SHORT / 2).await;
    // The one that is told the rest is answered, and its connection is no part of a request any more.
    kept.write_all(b"2").await.unwrap();
    assert!(read_answer(&mut kept).await.starts_with("HTTP/1.1 200 "));
    for _ in 0..7 {
        crowd.push(stage.connect(part).await);
        tokio::time::sleep(SHORT / 2).await;
        assert!(stage.ask().await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn a_slow_client_does_not_hold_up_the_end() {
    let mut stage = Stage::start(limits()).await;
    let _never = stage.connect(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let _half = stage.connect(b"GET /half").await;
    eventually("one is under way", || stage.under_way.load(Ordering::SeqCst) == 1).await;
    drop(stage.stop.take());
    timeout(SHORT * 4, &mut stage.serving).await.expect("the port ends").unwrap();
    assert!(TcpStream::connect(stage.address).await.is_err());
}

#[tokio::test]
async fn a_unix_socket_is_served_leaves_no_file_and_takes_the_place_of_a_dead_one() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("port.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = Listen::Unix(path.clone());
    let port = Port::bind("test", &listen, None, limits()).await.unwrap();
    assert_eq!(port.address().unwrap(), listen);
    let other = Port::bind("test", &listen, None, limits()).await.unwrap_err();
    assert!(format!("{other:#}").starts_with("test: cannot listen on unix:/"), "{other:#}");
    let mut stage = Stage::of(port, SHORT);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(stage.stop.take());
    stage.serving.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_setting() {
    let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let port = Port::bind("relay.listen", &listen, None, limits()).await.unwrap();
    let taken = Listen::Tcp(tcp(&port.address().unwrap()));
    let error = Port::bind("relay.listen", &taken, None, limits()).await.unwrap_err();
    assert!(
        format!("{error:#}").starts_with(&format!("relay.listen: cannot listen on {taken}: ")),
        "{error:#}"
    );
}
