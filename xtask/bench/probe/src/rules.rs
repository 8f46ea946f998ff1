//! A push: compiling it, matching with it, deciding with it.

use std::convert::Infallible;
use std::hint::black_box;
use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use farebox_core::Now;
use farebox_core::exchange::{Arrival, Next, RequestHead, Transport, begin};
use farebox_core::payment::Holder;
use farebox_core::rules::{Gate, Lookup, RuleSet, canonicalize};
use serde_json::{Value, json};

use crate::nanoseconds;

/// Targets in the order in which they are asked for, one after the other in memory: what is timed is the
/// table of routes, not the list of questions.
struct Targets {
    text: Vec<u8>,
    ends: Vec<usize>,
}

pub(crate) fn measure(count: u32) -> Result<Value, String> {
    let mut json = Vec::new();
    std::io::stdin().read_to_end(&mut json).map_err(|error| error.to_string())?;
    let before = memory();
    let started = Instant::now();
    let rules = RuleSet::from_json(&json).map_err(|error| error.to_string())?;
    let compile = started.elapsed().as_nanos() as u64;
    let rules = Arc::new(rules);
    let held = memory().saturating_sub(before);
    let exact = Targets::of(&rules, |pattern| (!pattern.contains('*')).then(|| pattern.to_owned()));
    let prefix = Targets::of(&rules, |pattern| {
        pattern.strip_suffix("/*").filter(|prefix| !prefix.contains('*')).map(|prefix| format!("{prefix}/x"))
    });
    let mut figures = json!({ "compile": compile, "memory": held, "routes": rules.routes.len() });
    for (kind, targets) in [("exact", exact), ("prefix", prefix)] {
        targets.check(&rules)?;
        figures[format!("match_{kind}")] = nanoseconds(count, |turn| {
            let path = canonicalize(black_box(targets.get(turn)));
            black_box(path.map(|path| rules.lookup(&path)).ok());
        });
        figures[format!("decide_{kind}")] = nanoseconds(count, |turn| decide(&rules, targets.get(turn)));
    }
    Ok(figures)
}

/// A request head as Envoy shows that of a small client.
fn decide(rules: &Arc<RuleSet>, target: &[u8]) {
    let headers = [
        (":authority", &b"127.0.0.1:10000"[..]),
        (":path", target),
        (":method", b"GET"),
        (":scheme", b"http"),
        ("user-agent", b"bench/1"),
        ("accept", b"*/*"),
        ("x-forwarded-for", b"127.0.0.1"),
        ("x-forwarded-proto", b"http"),
        ("x-request-id", b"7d9f2a51-0d5e-4f43-9c3a-1f0a3e1a2b3c"),
    ];
    let head = RequestHead { headers: &headers, transport: Transport::default() };
    let arrival = Arrival { now: Now { unix_ms: 1_800_000_000_000 }, holder: Holder([1; 16]) };
    let Ok(turn) = begin(rules, &head, || Ok::<_, Infallible>(arrival));
    assert!(
        matches!(&turn.next, Next::Reply(reply) if reply.status == 402),
        "an unpaid request is challenged"
    );
    drop(black_box(turn));
}

/// Bytes of linear memory in use. A native process has no such number.
fn memory() -> usize {
    #[cfg(target_family = "wasm")]
    return core::arch::wasm32::memory_size(0) * 65_536;
    #[cfg(not(target_family = "wasm"))]
    0
}

// === impl Targets ===

impl Targets {
    /// One target for each paid route that `target` finds one for, in a fixed shuffled order.
    fn of(rules: &RuleSet, target: impl Fn(&str) -> Option<String>) -> Self {
        let paid = rules.routes.iter().filter(|route| route.gate == Gate::Paid);
        let mut found: Vec<String> = paid.filter_map(|route| target(&route.pattern)).collect();
        let mut state = 1_u64;
        for last in (1..found.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            found.swap(last, (state >> 33) as usize % (last + 1));
        }
        let mut targets = Self { text: Vec::new(), ends: vec![0] };
        for text in found {
            targets.text.extend_from_slice(text.as_bytes());
            targets.ends.push(targets.text.len());
        }
        targets
    }

    fn len(&self) -> usize {
        self.ends.len() - 1
    }

    fn get(&self, turn: u32) -> &[u8] {
        let place = turn as usize % self.len();
        &self.text[self.ends[place]..self.ends[place + 1]]
    }

    fn check(&self, rules: &RuleSet) -> Result<(), String> {
        if self.len() == 0 {
            return Err("the push has no such routes".to_owned());
        }
        for turn in 0..self.len() as u32 {
            let path = canonicalize(self.get(turn)).map_err(|error| error.to_string())?;
            if !matches!(rules.lookup(&path), Lookup::Route(_)) {
                return Err(format!("{} is not matched", path.path));
            }
        }
        Ok(())
    }
}
