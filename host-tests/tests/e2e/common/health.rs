//! Whether every worker still has its VM, and serves.

use std::collections::BTreeMap;

use farebox_testkit::stack::{Part, Stack};

use super::raw::Request;

/// Number of connections, so many that the kernel gives some to each of two workers.
const CONNECTIONS: usize = 40;

/// Asserts that no VM was lost since Envoy started: none panicked, none was replaced, and both workers
/// answer on `free` (a free path) and `paid` (a paid path).
pub(crate) async fn assert_workers_live(stack: &Stack, free: &str, paid: &str) {
    let before = connections(stack).await;
    for number in 0..CONNECTIONS {
        let (path, expected) = if number % 2 == 0 { (free, 200) } else { (paid, 402) };
        let answer = Request::get(path).send(stack.proxy_address());
        assert_eq!(answer.status, expected, "{}", answer.summary());
    }
    let after = connections(stack).await;
    assert_eq!(after.len(), 2, "two workers: {after:?}");
    for (worker, count) in &after {
        assert!(*count > before[worker], "{worker} got none of {CONNECTIONS} connections");
    }
    // The next request of a worker replaces a lost VM, and that was one of these requests.
    let reloads = stack.envoy_stats("vm_reload").await.expect("Envoy answers");
    assert!(reloads.contains_key("wasm.farebox.vm_reload_success"), "{reloads:?}");
    assert!(reloads.values().all(|count| *count == 0), "{reloads:?}");
    let log = stack.part(Part::Proxy).expect("Envoy runs").log();
    let log = std::fs::read_to_string(log).expect("Envoy's log");
    let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "the filter panicked:\n{}", panics.join("\n"));
}

/// Connections each worker took from clients.
async fn connections(stack: &Stack) -> BTreeMap<String, u64> {
    let port = stack.proxy_address().port().to_string();
    let all = stack.envoy_stats("worker_.*downstream_cx_total").await.expect("Envoy answers");
    all.into_iter().filter(|(name, _)| name.contains(&port)).collect()
}
