//! Two thousand clients that only sit there, on each port of a companion that may open 1024 files, while it sells.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;

use crate::shop::Shop;

/// Clients of each port.
const CROWD: usize = 2_000;
const SALES: usize = 100;
/// After how long a client that was closed comes again.
const COME_AGAIN: Duration = Duration::from_secs(10);
/// How long it may take until all are there.
const GATHERING: Duration = Duration::from_secs(30);
/// What the machine may do to a single sale: the crowd needs the same processors.
const JITTER: Duration = Duration::from_millis(100);

/// What a client does that only sits there.
#[derive(Clone, Copy)]
enum Sitter {
    Silent,
    Half,
    ByteByByte,
    NotReading,
}

/// Comes again whenever it is closed.
async fn sit(
    address: SocketAddr,
    sitter: Sitter,
    path: &'static str,
    over: Arc<AtomicBool>,
    came: Arc<AtomicUsize>,
    late: Duration,
) {
    tokio::time::sleep(late).await;
    while !over.load(Ordering::Relaxed) {
        let socket = TcpSocket::new_v4().unwrap();
        // One that does not read leaves no room for what it is sent.
        socket.set_recv_buffer_size(4_096).unwrap();
        if let Ok(stream) = socket.connect(address).await {
            came.fetch_add(1, Ordering::Relaxed);
            let _ = annoy(stream, sitter, path, &over).await;
        }
        tokio::time::sleep(COME_AGAIN).await;
    }
}

async fn annoy(mut stream: TcpStream, sitter: Sitter, path: &str, over: &AtomicBool) -> std::io::Result<()> {
    match sitter {
        Sitter::Silent => {}
        Sitter::Half => stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-").await?,
        Sitter::ByteByByte => {
            for byte in b"GET / HTTP/1.1\r\nhost: a\r\nx-long: ".iter().chain([&b'a'; 10_000]) {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(Duration::from_millis(300)).await;
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
        }
        Sitter::NotReading => {
            let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            // It is told that the connection is over, and reads nothing before.
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(300)).await;
                stream.write_all(b"G").await?;
            }
            return Ok(());
        }
    }
    let mut nothing = [0; 64];
    let _ = stream.read(&mut nothing).await?;
    Ok(())
}

/// The slowest of a hundred sales but one.
async fn sell(shop: &mut Shop) -> Duration {
    let mut took = Vec::new();
    for number in 0..SALES {
        let began = Instant::now();
        let got = shop.buy().await.unwrap_or_else(|error| panic!("sale {number}: {error:?}"));
        assert_eq!(got, (200, "sold".to_owned()), "sale {number}");
        took.push(began.elapsed());
    }
    took.sort_unstable();
    took[took.len() - 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sales_go_on_while_two_thousand_clients_sit_on_each_port() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let mut shop = Shop::start(json!({})).await;
    sell(&mut shop).await;
    let usual = sell(&mut shop).await;

    // The crowd has threads of its own: a buyer waits for none of it but at the ports.
    let square = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let came = Arc::new(AtomicUsize::new(0));
    let ports = shop.ports;
    for (address, path) in [
        (ports.metrics, "/metrics"),
        (ports.relay, "/verify"),
        (ports.gateway, "/free"),
        (ports.discovery, "/"),
    ] {
        for number in 0..CROWD {
            // They sit, and do not storm: some come at any time.
            let late = COME_AGAIN * number as u32 / CROWD as u32;
            let sitter = [Sitter::Silent, Sitter::Half, Sitter::ByteByByte, Sitter::NotReading][number % 4];
            square.spawn(sit(address, sitter, path, over.clone(), came.clone(), late));
        }
    }
    let began = Instant::now();
    while came.load(Ordering::Relaxed) < 4 * CROWD {
        assert!(began.elapsed() < GATHERING, "{} have come", came.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("{} clients have come within {:?}", 4 * CROWD, began.elapsed());
    let crowded = sell(&mut shop).await;
    // Who comes while all of that port's places are taken may lose his before he has asked, and asks again.
    let mut read = shop.metrics().await;
    for _ in 0..4 {
        if read.is_err() {
            tokio::time::sleep(Duration::from_millis(250)).await;
            read = shop.metrics().await;
        }
    }
    let (status, page) = read.expect("the metrics are read");
    assert!(status == 200 && page.contains("charged_requests_total"));
    over.store(true, Ordering::Relaxed);
    square.shutdown_background();
    eprintln!("usual {usual:?}, in the crowd {crowded:?}");
    assert!(crowded <= 2 * usual + JITTER, "usual {usual:?}, in the crowd {crowded:?}");
}
