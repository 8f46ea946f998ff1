//! Many spellings of paths, sent raw through each host to three real upstreams that read paths differently: Express,
//! nginx and Python's http.server. No spelling makes one of them serve an unpaid place, or a place that costs more
//! than was paid.
//!
//! [`corpus`] makes the spellings, [`fan`] shows every request that passed to each upstream.

mod corpus;
mod fan;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use farebox_host_tests::Dice;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Place, Readers, Shell, Stack};
use serde_json::json;

use crate::common::{Answer, Payment, Request, text};
use fan::{Fan, Reading};

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
routes:
- { pattern: /desk/open/*, gate: free }
- { pattern: /desk/*, price: 0.005, offerName: desk }
- { pattern: /stick/*, price: 0.001, offerName: stick }
- { pattern: /exact, price: 0.003, offerName: exact }
- { pattern: /free/*, gate: free }
"#;
/// The same places for the upstreams, each named by its price.
const PLACES: [Place; 5] =
    [("/desk/open/", "0"), ("/desk/", "5000"), ("/stick/", "1000"), ("/exact", "3000"), ("/free/", "0")];

const SEED: u64 = 1;
/// Number of random spellings, beside the listed ones.
const BY_CHANCE: usize = 3_000;
/// Number of spellings for sale that are bought on each host.
const BOUGHT: usize = 150;
/// Clients at once.
const CLIENTS: usize = 2;

/// Ordinary targets, and whether they are for sale. All of them pass.
const SANE: [(&str, bool); 18] = [
    ("/free/a", false),
    ("/free/", false),
    ("/free/a/b/c.json", false),
    ("/free/a%20b", false),
    ("/free/caf%C3%A9", false),
    ("/free/v1.2/.hidden", false),
    ("/free/a~b!$&'()*+,=:@c", false),
    ("/free/a?x=%2F..%5C&y=//;", false),
    ("/desk/open/a", false),
    ("/other/a", false),
    ("/desk/a", true),
    ("/desk", true),
    ("/desk/v1.2/chat.json?stream=true", true),
    ("/desk/caf%C3%A9", true),
    ("/stick/a%20b", true),
    ("/stick/%61", true),
    ("/exact", true),
    ("/exact?x=/free/a", true),
];

fn options(shell: Shell, fan: &Fan) -> Options {
    Options {
        shell,
        upstream: Some(fan.upstream.url()),
        settings: json!({ "filter": { "unmatched": "pass" } }),
        ..Options::priced(PRICING)
    }
}

/// The result of a corpus on one host.
#[derive(Default)]
struct Outcome {
    by_status: BTreeMap<u16, usize>,
    /// Targets for sale, with their terms.
    for_sale: Vec<(Vec<u8>, Answer)>,
}

/// Sends every target, unpaid.
fn ask(stack: &Stack, targets: &[Vec<u8>]) -> Outcome {
    let (next, outcome) = (AtomicUsize::new(0), Mutex::new(Outcome::default()));
    let to = stack.proxy_address();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = Request::get(target).send(to);
                    let is_ascii = answer.headers.iter().all(|(_, value)| value.is_ascii());
                    assert!(is_ascii, "{}: {}", text(target), answer.summary());
                    let mut outcome = outcome.lock().unwrap();
                    *outcome.by_status.entry(answer.status).or_default() += 1;
                    if answer.status == 402 {
                        outcome.for_sale.push((target.clone(), answer));
                    }
                }
            });
        }
    });
    let mut outcome = outcome.into_inner().unwrap();
    // Sorted, so that the order does not depend on the clients' speed.
    outcome.for_sale.sort_by(|one, other| one.0.cmp(&other.0));
    outcome
}

/// Ordinary targets are served, or sold.
fn sane_targets_pass(stack: &Stack, fan: &Fan) {
    for (target, is_sold) in SANE {
        // Farebox publishes no router for paths without a route.
        if target == "/other/a" && stack.shell() == Shell::Traefik {
            continue;
        }
        let answer = Request::get(target).send(stack.proxy_address());
        assert_eq!(answer.status, if is_sold { 402 } else { 200 }, "{target}: {}", answer.summary());
        let readings = fan.take();
        assert_eq!(readings.len(), usize::from(!is_sold), "{target}: {readings:?}");
    }
}

async fn no_upstream_serves_what_was_not_paid(shell: Shell) {
    let readers = Readers::start(&PLACES).unwrap();
    let fan = Fan::before(&readers);
    let stack = Stack::start(options(shell, &fan)).await.unwrap();
    sane_targets_pass(&stack, &fan);

    let targets = corpus::corpus(SEED, BY_CHANCE);
    let mut outcome = ask(&stack, &targets);
    let readings = fan.take();
    println!(
        "{shell:?}, seed {SEED}: {} targets, {:?}, {} passed",
        targets.len(),
        outcome.by_status,
        readings.len()
    );
    let mut problems: Vec<String> = readings
        .iter()
        .filter(|reading| reading.price() > 0)
        .map(|reading| format!("unpaid: {reading}"))
        .collect();
    // Otherwise too little was tried.
    assert!(readings.len() >= 200 && outcome.for_sale.len() >= 500, "{:?}", outcome.by_status);

    let mut dice = Dice::of(SEED);
    let mut bought = 0;
    for _ in 0..BOUGHT {
        let (target, terms) = outcome.for_sale.swap_remove(dice.below(outcome.for_sale.len()));
        let offer = &terms.decoded("payment-required")["accepts"][0];
        let paid: u64 = offer["amount"].as_str().unwrap().parse().unwrap();
        let request = Request::get(&target).header("payment-signature", Payment::sign(offer).header());
        let answer = request.send(stack.proxy_address());
        let (what, readings) = (text(&target), fan.take());
        // The gateway behind Traefik is stricter about hosts than the plugin.
        let is_refused = shell == Shell::Traefik && answer.status == 400;
        assert!(answer.status == 200 || is_refused, "{what}: {}", answer.summary());
        assert_eq!(readings.len(), usize::from(!is_refused), "{what}: {readings:?}");
        bought += readings.len();
        let dearer = readings.iter().filter(|reading| reading.price() > paid);
        problems.extend(dearer.map(|reading| format!("{paid} paid for {what}: {reading}")));
    }
    assert!(bought >= BOUGHT / 2, "{bought} bought");
    assert_eq!(DevFacilitator::of(&stack).settled_payments().await.len(), bought);
    assert!(problems.is_empty(), "{shell:?}: {} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Shows that the upstreams read many spellings differently, so the hosts' refusals matter.
#[test]
fn the_upstreams_read_many_spellings_differently() {
    let readers = Readers::start(&PLACES).unwrap();
    let addresses = readers.addresses();
    let mut differing: BTreeMap<_, usize> = BTreeMap::new();
    for target in corpus::corpus(SEED, BY_CHANCE).iter().step_by(10) {
        let reading = Reading::of(text(target), &Request::get(target).bytes(), &addresses);
        for (reader, what) in &reading.taken_for {
            let price = what.as_ref().and_then(|what| what.parse().ok()).unwrap_or(0);
            *differing.entry(*reader).or_default() += usize::from(price < reading.price());
        }
    }
    println!("taken for something cheaper than another upstream does: {differing:?}");
    assert!(differing.len() == 3 && differing.values().all(|count| *count >= 20), "{differing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_makes_an_upstream_behind_envoy_serve_what_was_not_paid() {
    no_upstream_serves_what_was_not_paid(Shell::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_makes_an_upstream_behind_traefik_serve_what_was_not_paid() {
    no_upstream_serves_what_was_not_paid(Shell::Traefik).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_makes_an_upstream_behind_the_gateway_serve_what_was_not_paid() {
    no_upstream_serves_what_was_not_paid(Shell::Gateway).await;
}
