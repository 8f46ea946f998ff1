//! Bodies in both directions through Traefik, and through the gateway behind it.

use farebox_core::evm::{B256, keccak256};
use farebox_core::metrics::Family;
use farebox_testkit::origin::pattern;
use farebox_testkit::stack::{Part, Stack};
use serde_json::Value;

use super::{counted, open};
use crate::common::{Answer, Payment, exchange, in_ledger};

const SENT: u64 = 100_000;
const RECEIVED: u64 = 50_000_000;
/// Memory that a streaming body of any length may cost the companion.
const MEMORY: u64 = 16 << 20;

/// How the length of a body is given.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length,
    Chunks,
}

async fn post(stack: &Stack, path: &str, payment: Option<&Payment>, framing: Framing, body: &[u8]) -> Answer {
    let header = payment.map_or_else(String::new, |one| format!("payment-signature: {}\r\n", one.header()));
    let head = format!("POST {path} HTTP/1.1\r\nhost: shop.example\r\n{header}");
    let bytes = match framing {
        Framing::Length => {
            [head.as_bytes(), format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
        }
        Framing::Chunks => {
            let chunks = body.chunks(1_000).flat_map(|chunk| {
                [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n".as_slice()].concat()
            });
            let start = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
            start.into_iter().chain(chunks).chain(*b"0\r\n\r\n").collect()
        }
    };
    let to = stack.proxy_address();
    tokio::task::spawn_blocking(move || exchange(to, &bytes)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_bodies_of_100_kilobytes_arrive_byte_for_byte_however_they_are_framed() {
    let (stack, _) = open().await;
    let body: Vec<u8> = (0..SENT).map(pattern).collect();
    for framing in [Framing::Length, Framing::Chunks] {
        let payment = Payment::of(&stack, "/goods/a").await.unwrap();
        for (path, payment) in [("/free/a", None), ("/goods/a", Some(&payment))] {
            let answer = post(&stack, path, payment, framing, &body).await;
            assert_eq!(answer.status, 200, "{framing:?}: {}", answer.summary());
            let seen = answer.json();
            assert_eq!((&seen["method"], &seen["bodyBytes"]), (&Value::from("POST"), &Value::from(SENT)));
            assert_eq!(seen["bodyHash"], B256(keccak256(&body)).to_string(), "{path} {framing:?}");
        }
        in_ledger(&stack, &payment.nonce, "delivered").await;
        // After a refused payment no rest of the body is taken for the next request.
        let refused = post(&stack, "/goods/a", Some(&payment), framing, &body).await;
        assert_eq!(refused.status, 402, "{framing:?}: {}", refused.summary());
    }
    counted(&stack, Family::ChargedRequestsTotal, 2).await;
    assert_eq!(stack.origin().unwrap().hits().of("/goods/a"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_of_50_megabytes_arrive_byte_for_byte_and_are_never_held() {
    let (stack, _) = open().await;
    let path = format!("/goods/large/{RECEIVED}");
    for _ in 0..2 {
        let payment = Payment::of(&stack, &path).await.unwrap();
        let before = stack.part(Part::Companion).unwrap().peak_bytes().unwrap();
        let request = stack.get(&path).header("payment-signature", payment.header());
        let mut response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-length"], RECEIVED.to_string());
        assert!(response.headers().contains_key("payment-response"));
        let (mut place, mut is_whole) = (0, true);
        while let Some(chunk) = response.chunk().await.unwrap() {
            is_whole &= (place..).map(pattern).zip(&chunk).all(|(sent, got)| sent == *got);
            place += chunk.len() as u64;
        }
        assert_eq!((place, is_whole), (RECEIVED, true));
        // The kernel updates the peak late, and may report a lower one than a moment before.
        let grown = stack.part(Part::Companion).unwrap().peak_bytes().unwrap().saturating_sub(before);
        println!("{RECEIVED} bytes passed; the companion took {} kB more", grown >> 10);
        assert!(grown < MEMORY, "the companion took {grown} bytes more");
    }
    counted(&stack, Family::ChargedRequestsTotal, 2).await;
}
