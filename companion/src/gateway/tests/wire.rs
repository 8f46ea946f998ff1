//! Bytes on the wire: requests that two servers could read differently, HTTP/2, framing, limits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farebox_core::terms::Settings as Filter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::{Got, World, payment, settings};

/// Reads up to the end of a head.
pub(super) async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Sends bytes and returns everything that comes back until the connection ends.
async fn raw(world: &World, bytes: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let world = World::start().await;
    for shape in [
        "content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "content-length: 5, 6\r\n\r\nhello",
        "content-length: +5\r\n\r\nhello",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "content-length : 5\r\n\r\nhello",
        "x-a: 1\r\n folded: 2\r\n\r\n",
        "host: other.example\r\n\r\n",
    ] {
        let text = format!("POST /free/x HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n{shape}");
        let got = raw(&world, &text).await;
        assert!(got.starts_with("HTTP/1.1 400 "), "{shape:?}: {got}");
    }
    let got = raw(&world, "GET /free/x HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 400 "), "{got}");
    for host in ["a\"><script>", "a b", "a/b", "a@b"] {
        let got =
            raw(&world, &format!("GET /paid/x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert!(got.starts_with("HTTP/1.1 400 "), "{host}: {got}");
    }
    let got =
        raw(&world, "CONNECT a.example:80 HTTP/1.1\r\nhost: a.example:80\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 405 "), "{got}");
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_length_beside_chunks_smuggles_no_request() {
    let world = World::start().await;
    let text = "POST /free/x HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 4\r\n\
                transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /paid/x HTTP/1.1\r\nhost: a\r\n\r\n";
    let got = raw(&world, text).await;
    assert!(!got.contains("HTTP/1.1 402 "), "{got}");
    let seen = world.upstream.seen();
    assert!(seen.len() <= 1, "{seen:?}");
    if let Some(asked) = seen.first() {
        assert_eq!((asked.line.as_str(), asked.body), ("POST /free/x", 2));
        assert!(!asked.headers.contains_key("content-length"));
    }
}

#[tokio::test]
async fn an_absolute_target_names_the_host_and_not_the_way() {
    let world = World::start().await;
    let got = raw(
        &world,
        "GET http://b.example/free/x?q HTTP/1.1\r\nhost: a.example\r\nconnection: close, x-private\r\n\
         x-private: 1\r\nproxy-authorization: Basic eA==\r\n\r\n",
    )
    .await;
    assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    let asked = world.upstream.seen().remove(0);
    assert_eq!(
        (asked.line.as_str(), &asked.headers["host"]),
        ("GET /free/x?q", &"b.example".parse().unwrap())
    );
    assert_eq!(asked.headers["x-forwarded-host"], "b.example");
    for gone in ["x-private", "connection", "proxy-authorization", "transfer-encoding"] {
        assert!(!asked.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn a_get_keeps_its_body_whatever_frames_it() {
    let world = World::start().await;
    for framed in
        ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let text = format!("GET /free/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{framed}");
        assert!(raw(&world, &text).await.starts_with("HTTP/1.1 200 "), "{framed}");
        assert_eq!(world.upstream.seen().pop().unwrap().body, 5, "{framed}");
    }
}

#[tokio::test]
async fn a_body_is_waited_for_only_where_it_is_wanted() {
    let world = World::start().await;
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = head_of(&mut stream).await;
        (stream, answer)
    };
    let (_, answer) = ask("/paid/x").await;
    assert!(answer.starts_with("HTTP/1.1 402 "), "{answer}");
    let (mut stream, answer) = ask("/free/x").await;
    assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
    stream.write_all(b"abc").await.unwrap();
    assert!(head_of(&mut stream).await.starts_with("HTTP/1.1 200 "));
    let asked = world.upstream.seen().remove(0);
    assert_eq!(asked.body, 3);
    assert!(!asked.headers.contains_key("expect"));
}

#[tokio::test]
async fn a_client_that_is_still_sending_gets_the_whole_answer() {
    let world = World::start().await;
    let part = vec![b'x'; 256 * 1024];
    for (path, answer) in [("/paid/x", "HTTP/1.1 402 "), ("/nowhere/x", "HTTP/1.1 404 ")] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let length = 8 * part.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..8 {
            stream.write_all(&part).await.unwrap();
            // The request is answered before the end of this loop.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        let got = String::from_utf8_lossy(&got);
        assert!(got.starts_with(answer) && got.ends_with('}'), "{got}");
    }
    assert!(world.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_head_request_gets_the_length_and_no_body() {
    let world = World::start().await;
    let got = raw(&world, "HEAD /free/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200 ") && got.contains("content-length: 6\r\n"), "{got}");
    assert!(got.ends_with("\r\n\r\n"), "{got}");
    assert_eq!(world.upstream.seen().remove(0).line, "HEAD /free/x");
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let world = World::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let all = (1..=20).map(|nonce| {
        let sent =
            client.post(world.url("/paid/x")).header("payment-signature", payment(nonce)).body("abc").send();
        async { Got::of(sent.await.unwrap()).await }
    });
    let all = futures_util::future::join_all(all).await;
    assert!(all.iter().all(|got| got.status == 200 && got.header("payment-response").is_some()));
    let seen = world.upstream.seen();
    assert!(
        seen.iter()
            .all(|asked| asked.body == 3 && asked.headers["host"] == world.address.to_string().as_str())
    );
    assert_eq!(world.charged().await, 20);
}

#[tokio::test]
async fn upstreams_may_be_spoken_to_in_http2() {
    // A gateway is also an HTTP/2 server, so one gateway is the upstream of another.
    let behind = World::start().await;
    let mut own = settings();
    own.http2 = true;
    let mut world = World::with(own, Filter::default()).await;
    let text = world.pricing().replace(&world.upstream.address.to_string(), &behind.address.to_string());
    world.load(&text);
    let got = world.get("/free/x").await;
    assert_eq!((got.status, got.body.as_str()), (200, "served"));
    let asked = behind.upstream.seen().remove(0);
    assert_eq!(asked.headers["host"], behind.address.to_string().as_str());
}

#[tokio::test]
async fn a_head_may_be_large_but_not_endless() {
    let world = World::start().await;
    let send =
        |bytes: usize| world.client.get(world.url("/free/x")).header("x-large", "a".repeat(bytes)).send();
    assert_eq!(send(60_000).await.unwrap().status(), 200);
    assert_eq!(world.upstream.seen().remove(0).headers["x-large"].len(), 60_000);
    assert_eq!(send(400_000).await.unwrap().status(), 431);
    let mut many = world.client.get(world.url("/free/x"));
    for number in 0..300 {
        many = many.header(format!("x-{number}"), "a");
    }
    assert_eq!(many.send().await.unwrap().status(), 431);
    assert_eq!(world.upstream.seen().len(), 1);
}

/// An upstream that reads no bodies and keeps its connections, as some do with a GET. Returns its address and the
/// first line of everything that it took for a request.
async fn reading_no_bodies() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let lines = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let lines = lines.clone();
            tokio::spawn(async move {
                loop {
                    let head = head_of(&mut stream).await.to_ascii_lowercase();
                    let Some((line, _)) = head.split_once(" http/1.1\r\n") else { return };
                    lines.lock().unwrap().push(line.to_owned());
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    if head.contains("connection: close") {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn the_body_of_a_get_becomes_no_request_of_its_own() {
    let mut world = World::start().await;
    let (upstream, seen) = reading_no_bodies().await;
    let text = world.pricing().replace(&world.upstream.address.to_string(), &upstream.to_string());
    world.load(&text);
    let whole = "GET /paid/x HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut expected = Vec::new();
    for method in ["GET", "HEAD"] {
        for smuggled in [whole, whole.trim_end(), &[whole, "GET /paid/y HTTP/1.1\r\nx: "].concat()] {
            let first = format!(
                "{method} /free/1 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{smuggled}",
                smuggled.len()
            );
            let next = "GET /free/2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            raw(&world, &[&first, next].concat()).await;
            expected.extend([format!("{} /free/1", method.to_lowercase()), "get /free/2".to_owned()]);
        }
    }
    assert_eq!(*seen.lock().unwrap(), expected);
}
