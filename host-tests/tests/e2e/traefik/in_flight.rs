//! The cost of a request in flight: Traefik makes an instance of the plugin for each, which reads all rules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use farebox_testkit::stack::{Options, Part, Process, Shell, Stack};
use serde_json::{Value, json};

use super::PRICING;
use crate::common::{Answer, Request, Settlement};

const ROUTES: usize = 1_000;
const SLOW: usize = 64;
/// Memory that a request in flight may take with few routes and with many, bytes. It was 1.5 and 10.4 MB.
const FEW: u64 = 768 << 10;
const MANY: u64 = 3 << 20;
/// Processor time that a new instance may take with many routes. It was 160 ms.
const START: Duration = Duration::from_millis(100);

/// Paid routes, each with different terms.
fn pricing(routes: usize) -> String {
    let mut text = PRICING.to_owned();
    for number in 1..=routes {
        let _ = writeln!(
            text,
            "- {{ pattern: /more/{number}/*, price: 0.{number:06}, offerName: more-{number}, \
             description: \"Model {number}, one call.\" }}"
        );
    }
    text
}

async fn start(routes: usize, in_flight: u64) -> Stack {
    let mut settings = Settlement::Relay.settings(2_000, 5_000);
    settings["traefik"] = json!({ "requestsInFlight": in_flight });
    // Traefik's profiles show the memory in use after a run of its garbage collector.
    let tweak = Box::new(|traefik: &mut Value| traefik["api"]["debug"] = true.into());
    let options = Options { settings, shell: Shell::Traefik, tweak, ..Options::priced(pricing(routes)) };
    Stack::start(options).await.unwrap()
}

/// So many requests to a free route whose upstream does not answer.
async fn slow(stack: &Stack, count: usize) -> Vec<TcpStream> {
    let before = stack.origin().unwrap().hits().of("/free/hang");
    let all = (0..count).map(|_| Request::get("/free/hang").begin(stack.proxy_address())).collect();
    let arrived =
        async |stack: &Stack| stack.origin().unwrap().hits().of("/free/hang") == before + count as u64;
    stack.until("they are at the upstream", arrived).await.unwrap();
    all
}

fn traefik(stack: &Stack) -> &Process {
    stack.part(Part::Proxy).unwrap()
}

/// Bytes Traefik has in use.
async fn in_use(stack: &Stack) -> u64 {
    let url = format!("{}/debug/pprof/heap?gc=1&debug=1", stack.api_url());
    let profile = stack.client().get(url).send().await.unwrap().text().await.unwrap();
    let line = profile.lines().find_map(|line| line.strip_prefix("# HeapAlloc = "));
    line.expect("a profile says what is in use").parse().unwrap()
}

/// Bytes and processor time of each of [`SLOW`] requests in flight.
async fn cost(routes: usize) -> (u64, Duration) {
    let stack = start(routes, 1_000).await;
    drop(slow(&stack, 1).await);
    let memory = in_use(&stack).await;
    let time = traefik(&stack).processor_time().unwrap();
    let began = Instant::now();
    let held = slow(&stack, SLOW).await;
    let time = (traefik(&stack).processor_time().unwrap() - time) / SLOW as u32;
    let took = began.elapsed();
    let memory = in_use(&stack).await.saturating_sub(memory) / SLOW as u64;
    println!(
        "{routes} more routes: {} kB and {time:?} of the processor for a request, {took:?} for {SLOW}",
        memory >> 10
    );
    // Other requests do not wait for them.
    assert_eq!(Request::get("/goods/a").send(stack.proxy_address()).status, 402);
    drop(held);
    (memory, time)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_takes_little_however_many_routes_there_are() {
    let (few, _) = cost(0).await;
    assert!(few < FEW, "{few} bytes for a request in flight");
    let (many, time) = cost(ROUTES).await;
    assert!(many < MANY, "{many} bytes for a request in flight with {ROUTES} routes");
    assert!(time < START, "{time:?} for a new instance with {ROUTES} routes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_requests_are_in_flight_than_the_settings_say_whatever_they_carry() {
    const MOST: usize = 8;
    let stack = start(0, MOST as u64).await;
    let held = slow(&stack, MOST).await;
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for host in 0..20 {
        // Each with other headers about its client.
        let request = Request::get("/free/hang")
            .header("host", format!("host-{host}.example"))
            .header("x-farebox-alike", format!("{host}"))
            .header("x-forwarded-for", format!("10.0.0.{host}"))
            .header("x-forwarded-host", format!("host-{host}.example"));
        let Answer { status, .. } = request.send(stack.proxy_address());
        *statuses.entry(status).or_default() += 1;
    }
    assert_eq!(statuses, [(429, 20)].into());
    assert_eq!(stack.origin().unwrap().hits().of("/free/hang"), MOST as u64);
    // Requests to another upstream have their own limit, and places are free again after their end.
    assert_eq!(Request::get("/goods/a").send(stack.proxy_address()).status, 402);
    drop(held);
    let is_free = async |stack: &Stack| Request::get("/free/a").send(stack.proxy_address()).status == 200;
    stack.until("a place is free again", is_free).await.unwrap();
}
