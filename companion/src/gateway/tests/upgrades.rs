//! Upgrades: only WebSocket, and only on free and `upfront` routes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::wire::head_of;
use super::world::{SHOP, World, upfront};

/// An upstream that switches to any requested protocol, then echoes all bytes.
async fn switching(protocol: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let head = head_of(&mut stream).await.to_ascii_lowercase();
                if !head.contains("\r\nupgrade: websocket\r\n") && protocol == "websocket" {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await;
                    return;
                }
                assert!(!head.contains("payment-signature"));
                let reply = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
                     sec-websocket-accept: yes\r\n\r\nhello"
                );
                stream.write_all(reply.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn world_before(upstream: SocketAddr) -> World {
    let mut world = World::start().await;
    let text = format!(
        "wallet: \"{SHOP}\"\nchain: base-sepolia\nfacilitatorURL: {}\nroutes:\n\
         - {{pattern: /ws/*, price: \"0.001\", paymentFlow: upfront, upstreamURL: \"http://{upstream}\"}}\n\
         - {{pattern: /late/*, price: \"0.001\", upstreamURL: \"http://{upstream}\"}}\n\
         - {{pattern: /free/*, gate: free, upstreamURL: \"http://{upstream}\"}}\n",
        world.dev.url()
    );
    world.load(&text);
    world
}

/// Sends a head that asks for an upgrade and returns the connection with the head of the answer.
async fn ask(world: &World, path: &str, protocol: &str, more: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: shop.example\r\nconnection: Upgrade\r\nupgrade: {protocol}\r\n\
         sec-websocket-key: a\r\n{more}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = head_of(&mut stream).await;
    (stream, answer)
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

#[tokio::test]
async fn a_websocket_that_is_paid_first_carries_bytes_both_ways() {
    let world = world_before(switching("websocket").await).await;
    let paid = format!("payment-signature: {}\r\n", upfront(1));
    let (mut stream, answer) = ask(&world, "/ws/x", "websocket", &paid).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("upgrade: websocket\r\n") && answer.contains("sec-websocket-accept: yes\r\n"));
    assert!(answer.contains("\r\npayment-response: "), "{answer}");
    expect(&mut stream, "hello").await;
    for text in ["one", "two"] {
        stream.write_all(text.as_bytes()).await.unwrap();
        expect(&mut stream, text).await;
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!((world.dev.settled_payments().await.len(), world.charged().await), (1, 1));
}

#[tokio::test]
async fn a_websocket_elsewhere_is_refused_before_any_challenge() {
    let world = world_before(switching("websocket").await).await;
    let (_, answer) = ask(&world, "/late/x", "websocket", "").await;
    assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
    let (_, answer) = ask(&world, "/ws/x", "websocket", "").await;
    assert!(answer.starts_with("HTTP/1.1 402 "), "{answer}");
    assert_eq!(world.dev.settled_payments().await.len(), 0);
}

#[tokio::test]
async fn an_upgrade_with_a_body_is_refused_however_the_body_is_framed() {
    let world = world_before(switching("websocket").await).await;
    for framing in ["content-length: 3\r\n", "transfer-encoding: chunked\r\n"] {
        for path in ["/free/x", "/ws/x"] {
            let (_, answer) = ask(&world, path, "websocket", framing).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{framing}: {answer}");
        }
    }
}

#[tokio::test]
async fn no_other_protocol_is_asked_for_or_accepted() {
    // With an HTTP/2 upstream the switch would open every other path.
    let world = world_before(switching("websocket").await).await;
    let (_, answer) = ask(&world, "/free/x", "h2c", "http2-settings: AAMAAABkAAQAAP__\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Java's client sends these headers with every request.
    let settings = "http2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
    let (_, answer) = ask(&world, "/late/x", "h2c", settings).await;
    assert!(answer.starts_with("HTTP/1.1 402 "), "{answer}");
    let world = world_before(switching("h2c").await).await;
    for protocol in ["websocket", "h2c"] {
        let (_, answer) = ask(&world, "/free/x", protocol, "").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        let paid = format!("payment-signature: {}\r\n", upfront(if protocol == "h2c" { 1 } else { 2 }));
        let (_, answer) = ask(&world, "/ws/x", protocol, &paid).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
}
