//! Streams under way.

use std::time::{Duration, Instant};

use crate::reload::metrics::of_offer;
use crate::reload::pricing::{file, paid};
use crate::reload::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_under_way_is_not_cut_by_reloads() {
    let mut stage = Stage::start(&file(&[paid("kept", "0.001"), paid("guest", "0.001")])).await;
    let buyer = stage.buyer();
    let terms = buyer.terms("/guest/events/20").await.unwrap();
    let mut response = buyer.send_paid("/guest/events/20", &buyer.sign(&terms)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("payment-response"));
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"event\":1}\n\n");

    // The stream's own offer is removed, which replaces the filter's VMs, and then other rules
    // change.
    stage.reload(&file(&[paid("kept", "0.001")])).await;
    stage.reload(&file(&[paid("kept", "0.002")])).await;

    let (mut received, mut last_wait) = (Vec::new(), Duration::ZERO);
    let mut waiting_since = Instant::now();
    while let Some(chunk) = response.chunk().await.unwrap() {
        received.extend_from_slice(&chunk);
        last_wait = waiting_since.elapsed();
        waiting_since = Instant::now();
    }
    let events: String = (2..=20).map(|event| format!("data: {{\"event\":{event}}}\n\n")).collect();
    assert_eq!(String::from_utf8(received).unwrap(), events);
    // The events still arrive one by one: the last did not come together with the earlier ones.
    assert!(last_wait > Duration::from_millis(100), "{last_wait:?}");
    assert_eq!(of_offer(&stage.counted().await, "charged_requests_total", "guest"), 0);
}
