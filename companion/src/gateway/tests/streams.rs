//! Bodies: not buffered, limited in memory, complete.

use std::time::Duration;

use bytes::Bytes;
use farebox_core::metrics::TupleCounter;
use farebox_core::terms::Settings as Filter;
use futures_util::stream;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::world::{World, payment, settings};
use crate::testing::eventually;

const MEGABYTE: usize = 1 << 20;

/// Most memory this process has ever used, in bytes.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn events_of_a_paid_stream_arrive_one_by_one_after_the_settlement() {
    let world = World::start().await;
    let response = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("payment-response"));
    assert_eq!(world.dev.settled_payments().await.len(), 1);
    let mut events = response;
    for number in 0..5 {
        // Each event is sent only after the previous one has arrived.
        let event = Bytes::from(format!("data: {number}\n\n"));
        world.upstream.send.send(Ok(event.clone())).await.unwrap();
        assert_eq!(events.chunk().await.unwrap(), Some(event));
    }
}

#[tokio::test]
async fn fifty_megabytes_go_there_and_back_unchanged_and_are_never_held() {
    let world = World::start().await;
    let chunk = Bytes::from((0..MEGABYTE).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let before = peak_memory();
    let chunks = stream::iter((0..50).map({
        let chunk = chunk.clone();
        move |_| Ok::<_, std::io::Error>(chunk.clone())
    }));
    let mut response = world
        .client
        .post(world.url("/paid/echo"))
        .header("payment-signature", payment(1))
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let mut place = 0;
    while let Some(got) = response.chunk().await.unwrap() {
        let expected = (place..place + got.len()).map(|n| (n % MEGABYTE % 251) as u8);
        assert!(got.iter().copied().eq(expected), "around byte {place}");
        place += got.len();
    }
    assert_eq!(place, 50 * MEGABYTE);
    let grown = peak_memory() - before;
    assert!(grown < 20 * MEGABYTE, "{grown} bytes");
}

#[tokio::test]
async fn a_body_the_upstream_breaks_off_is_broken_off_and_may_be_asked_for_once_more() {
    let world = World::start().await;
    let mut response = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    world.upstream.send.send(Ok(Bytes::from("half"))).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Bytes::from("half")));
    world.upstream.send.send(Err(std::io::Error::other("out of power"))).await.unwrap();
    assert!(response.chunk().await.is_err(), "the client must see that something is missing");
    let broken = || world.counted(TupleCounter::UpstreamFailedAfterCharge) == 1;
    eventually("the failure is counted", broken).await;
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 402);
    assert_eq!((world.dev.settled_payments().await.len(), world.charged().await), (1, 1));
}

#[tokio::test]
async fn a_client_that_leaves_a_paid_stream_has_had_it() {
    let world = World::start().await;
    let mut response = world.send_paid("/paid/events", &payment(1)).await.unwrap();
    world.upstream.send.send(Ok(Bytes::from("half"))).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Bytes::from("half")));
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 409);
    drop(response);
    // The upstream sees the end of the connection, too.
    let gone = async { while world.upstream.send.send(Ok(Bytes::from("more"))).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    loop {
        let status = world.pay("/paid/x", &payment(1)).await.status;
        if status == 402 {
            break;
        }
        assert_eq!(status, 409);
    }
    assert_eq!(world.counted(TupleCounter::UpstreamFailedAfterCharge), 0);
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_ended() {
    let mut own = settings();
    own.idle_timeout = Duration::from_millis(200);
    let world = World::with(own, Filter::default()).await;
    let mut response = world.client.get(world.url("/free/events")).send().await.unwrap();
    world.upstream.send.send(Ok(Bytes::from("half"))).await.unwrap();
    assert_eq!(response.chunk().await.unwrap(), Some(Bytes::from("half")));
    let ended = tokio::time::timeout(Duration::from_secs(5), response.chunk()).await.unwrap();
    assert!(ended.is_err());
}

#[tokio::test]
async fn an_upload_that_breaks_off_ends_its_exchange() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /paid/x HTTP/1.1\r\nhost: a\r\npayment-signature: {}\r\ncontent-length: 9\r\n\r\nhalf",
        payment(1)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    while !world.dev.record().await["calls"].to_string().contains("verify") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(stream);
    let reason = farebox_core::metrics::FailureReason::ClientDisconnected;
    let gone = || world.counted(TupleCounter::PaymentFailed(reason)) == 1;
    eventually("the exchange is abandoned", gone).await;
    assert_eq!(world.dev.settled_payments().await.len(), 0);
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
}

#[tokio::test]
async fn unpaid_requests_take_no_places_of_paid_ones() {
    let world = World::start().await;
    world.leave_unpaid(1);
    let mut stream = world.client.get(world.url("/free/events")).send().await.unwrap();
    let refused = world.get("/free/x").await;
    assert_eq!((refused.status, refused.reason().as_str()), (503, "overloaded"));
    assert_eq!(world.get("/paid/x").await.status, 402);
    assert_eq!(world.pay("/paid/x", &payment(1)).await.status, 200);
    // The last byte of a stream frees its place, and so does a client that leaves.
    world.upstream.send.send(Ok(Bytes::from("half"))).await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    drop(stream);
    while world.get("/free/x").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a body of four bytes, one at a time with pauses between them, and reads the status.
async fn trickle(world: &World, head: &str, pause: Duration) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(format!("POST {head}\r\nhost: a\r\ncontent-length: 4\r\n\r\n").as_bytes())
        .await
        .unwrap();
    for _ in 0..4 {
        tokio::time::sleep(pause).await;
        // The request may have been answered already.
        if stream.write_all(b"x").await.is_err() {
            break;
        }
    }
    super::wire::head_of(&mut stream).await
}

#[tokio::test]
async fn one_byte_now_and_then_buys_an_upload_no_time() {
    let mut own = settings();
    own.response_timeout = Duration::from_millis(500);
    let world = World::with(own, Filter::default()).await;
    let paid = |nonce: u8| format!("/paid/x HTTP/1.1\r\npayment-signature: {}", payment(nonce));
    for head in ["/free/x HTTP/1.1".to_owned(), paid(1)] {
        let slow = trickle(&world, &head, Duration::from_millis(300)).await;
        assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
        assert!(slow.contains("connection: close"), "{slow}");
        let quick = trickle(&world, &head, Duration::from_millis(20)).await;
        assert!(quick.starts_with("HTTP/1.1 200 "), "{quick}");
    }
    assert_eq!(world.dev.settled_payments().await.len(), 1, "the payment of the slow one was free again");
}
