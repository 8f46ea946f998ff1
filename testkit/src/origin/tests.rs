use std::time::Instant;

use serde_json::Value;

use super::*;

fn origin() -> Origin {
    Origin::start("127.0.0.1:0".parse().unwrap()).unwrap()
}

async fn get(origin: &Origin, path: &str) -> reqwest::Result<reqwest::Response> {
    let client = crate::http::client_builder().build()?;
    client.get(format!("{}{path}", origin.url())).header("x-seen", "yes").send().await
}

#[test]
fn the_first_segment_that_names_an_answer_decides() {
    assert_eq!(Answer::of("/v1/models"), Answer::Echo);
    assert_eq!(Answer::of("/premium/slow/20"), Answer::Slow(20));
    assert_eq!(Answer::of("/slow"), Answer::Slow(1500));
    assert_eq!(Answer::of("/premium/fail/503/slow"), Answer::Status(503));
    assert_eq!(Answer::of("/fail/7"), Answer::Status(500));
    assert_eq!(Answer::of("/a/status/201"), Answer::Status(201));
}

#[tokio::test]
async fn the_plain_answer_repeats_what_arrived_and_every_path_is_counted() {
    let origin = origin();
    let first: Value =
        serde_json::from_slice(&get(&origin, "/a/b?c=d").await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(first["method"], "GET");
    assert_eq!(first["path"], "/a/b");
    assert_eq!(first["query"], "c=d");
    assert!(first["headers"].as_array().unwrap().contains(&serde_json::json!(["x-seen", "yes"])));
    assert_eq!(first["hit"], 1);
    get(&origin, "/a/b").await.unwrap();
    assert_eq!(origin.hits().of("/a/b"), 2);
    let listed = get(&origin, "/origin/hits").await.unwrap().text().await.unwrap();
    assert_eq!(listed, r#"{"/a/b":2}"#);
    assert_eq!(origin.hits().total(), 2);
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let origin = origin();
    let mut response = get(&origin, "/events/2").await.unwrap();
    let started = Instant::now();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"event\":1}\n\n");
    let first = started.elapsed();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"event\":2}\n\n");
    assert!(started.elapsed() >= first + std::time::Duration::from_millis(250));
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn bodies_can_be_large_cut_or_absent() {
    let origin = origin();
    let large = get(&origin, "/large").await.unwrap().bytes().await.unwrap();
    assert_eq!(large.len() as u64, answer::LARGE);
    let larger = get(&origin, "/large/100001").await.unwrap().bytes().await.unwrap();
    assert!(larger.iter().enumerate().all(|(place, byte)| *byte == pattern(place as u64)));
    assert_eq!((larger.len(), &larger[..]), (100_001, &large[..100_001]));
    let cut = get(&origin, "/cut").await.unwrap();
    assert_eq!(cut.headers()["content-length"], "100000");
    assert!(cut.bytes().await.is_err());
    assert_eq!(get(&origin, "/empty").await.unwrap().status(), 204);
    assert!(get(&origin, "/close").await.is_err());
    let hung = tokio::time::timeout(std::time::Duration::from_millis(200), get(&origin, "/hang")).await;
    assert!(hung.is_err());
}

#[tokio::test]
async fn statuses_and_headers_are_as_asked() {
    let origin = origin();
    assert_eq!(get(&origin, "/fail/503").await.unwrap().status(), 503);
    let moved = get(&origin, "/redirect").await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (302, &"/elsewhere".parse().unwrap())
    );
    assert_eq!(get(&origin, "/forge").await.unwrap().headers()["payment-response"], "Zm9yZ2Vk");
    let zipped = get(&origin, "/gzip").await.unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    assert_eq!(zipped.bytes().await.unwrap()[..2], [0x1f, 0x8b]);
}
