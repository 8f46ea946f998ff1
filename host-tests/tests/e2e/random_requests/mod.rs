//! Ten thousand random well-formed requests through each host: methods, paths, headers, bodies, good, used, foreign and
//! broken payments. The upstream records every request, and each recorded request for a paid path has its own settlement
//! at the price of that path.

mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use farebox_host_tests::Dice;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Shell, Stack};
use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::{Value, json};

use crate::common::{Arrived, Upstream, exchange, text};
use request::{Asked, NUMBER};

const PRICING: &str = r#"
wallet: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
chain: base-sepolia
routes:
- { pattern: /paid/open/*, gate: free }
- { pattern: /paid/*, price: 0.001, offerName: paid }
- { pattern: /first/*, price: 0.002, paymentFlow: upfront, offerName: first }
- { pattern: /exact, price: 0.003, offerName: exact }
- { pattern: /free/*, gate: free }
"#;
/// One path of each route that is sold, and its price in atomic units.
const SOLD: [(&str, &str); 3] = [("/paid", "1000"), ("/first", "2000"), ("/exact", "3000")];

const SEED: u64 = 1;
const REQUESTS: u64 = 10_000;
/// Clients at once.
const CLIENTS: u64 = 2;
/// How long payments are good for, seconds.
const LIFETIME: u64 = 600;
/// A repeated payment is one of so many latest payments.
const LATEST: usize = 40;

/// The price of a path, in any upstream's reading; `None` if it is not sold.
fn price(target: &str) -> Option<&'static str> {
    let path = target.split('?').next().unwrap_or_default().to_lowercase().replace("%61", "a");
    let is_below = |place: &str| {
        path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ';', '.', '%']))
    };
    if is_below("/paid/open") {
        return None;
    }
    SOLD.iter().find(|(place, _)| is_below(place)).map(|(_, price)| *price)
}

/// The nonce of each payment that was sent, by the number of its request.
type Sent = BTreeMap<u64, String>;

/// One client: sends its share of the requests, one after the other.
fn play(stack: &Stack, offers: &[Value], first: u64) -> (Sent, BTreeMap<u16, u64>) {
    let (payer, to) = (Wallet::numbered(first), stack.proxy_address());
    let (mut sent, mut statuses) = (Sent::new(), BTreeMap::<u16, u64>::new());
    let mut payments: Vec<Value> = Vec::new();
    for number in (first..REQUESTS).step_by(usize::try_from(CLIENTS).unwrap()) {
        let mut dice = Dice::of(SEED * REQUESTS + number);
        let mut asked = Asked::by_chance(number, &mut dice);
        let payment = match dice.below(10) {
            0 | 1 => {
                // Mostly the payment is for the requested path.
                let wanted =
                    price(&asked.path).and_then(|price| offers.iter().find(|one| one["amount"] == price));
                let offer = wanted.filter(|_| !dice.once_in(6)).unwrap_or_else(|| dice.one_of(offers));
                let payment = payer.pay_v2(offer, Window::fresh(LIFETIME)).unwrap();
                payments.push(payment.clone());
                Some(payment)
            }
            2 if !payments.is_empty() => {
                Some(payments[payments.len() - 1 - dice.below(payments.len().min(LATEST))].clone())
            }
            _ => None,
        };
        if let Some(payment) = payment {
            let header = *dice.one_of(&["payment-signature", "payment-signature", "x-payment"]);
            asked = asked.paying(header, &header_value(&payment));
            sent.insert(number, payment["payload"]["authorization"]["nonce"].as_str().unwrap().to_owned());
        }
        let answer = exchange(to, &asked.bytes());
        let is_trouble = matches!(answer.status, 0 | 500 | 502..);
        assert!(!is_trouble, "{}\n{}", text(&asked.bytes()), answer.summary());
        *statuses.entry(answer.status).or_default() += 1;
    }
    (sent, statuses)
}

async fn what_reaches_the_upstream_is_paid(shell: Shell) {
    let log = Arc::new(Mutex::new(Vec::<Arrived>::new()));
    let noted = Arc::clone(&log);
    let upstream = Upstream::start(move |arrived| {
        noted.lock().unwrap_or_else(PoisonError::into_inner).push(arrived);
        json!({ "served": true }).to_string()
    });
    let filter = json!({ "unmatched": "pass", "cors": { "origins": ["https://page.example"] } });
    let stack = Stack::start(Options {
        shell,
        upstream: Some(upstream.url()),
        settings: json!({ "filter": filter }),
        ..Options::priced(PRICING)
    })
    .await
    .unwrap();
    let mut offers = Vec::new();
    for (path, price) in SOLD {
        let offer = stack.challenge(path).await.unwrap()["accepts"][0].take();
        assert_eq!(offer["amount"], price);
        offers.push(offer);
    }

    let (stack_ref, offers_ref) = (&stack, &offers);
    let played = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|first| scope.spawn(move || play(stack_ref, offers_ref, first))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let (mut sent, mut statuses) = (Sent::new(), BTreeMap::<u16, u64>::new());
    for (more, counts) in played {
        sent.extend(more);
        counts.into_iter().for_each(|(status, count)| *statuses.entry(status).or_default() += count);
    }

    let settled = DevFacilitator::of(&stack).settled_payments().await;
    let mut settled: BTreeMap<&str, Vec<&Value>> =
        settled.iter().fold(BTreeMap::new(), |mut all, payment| {
            all.entry(payment["nonce"].as_str().unwrap()).or_insert_with(Vec::new).push(payment);
            all
        });
    let log = log.lock().unwrap();
    let (mut problems, mut served) = (Vec::new(), 0);
    for arrived in log.iter() {
        let Some(price) = price(arrived.target()) else { continue };
        served += 1;
        let number: u64 = arrived.header(NUMBER).unwrap().parse().unwrap();
        // The settlement is removed, so that it cannot count for two requests.
        let payments = sent.get(&number).and_then(|nonce| settled.remove(nonce.as_str())).unwrap_or_default();
        if payments.len() != 1 || payments[0]["amount"] != price {
            problems.push(format!("served for {payments:?}: {arrived:?}"));
        }
        problems
            .extend(what_a_paid_upstream_never_sees(arrived).map(|name| format!("{name} in {arrived:?}")));
    }
    println!("{shell:?}, seed {SEED}: {statuses:?}, {} noted, {served} of them on paid paths", log.len());
    if !settled.is_empty() {
        problems.push(format!("settled, and not served: {settled:?}"));
    }
    assert!(problems.is_empty(), "{shell:?}: {} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(served >= 500 && log.len() >= 2 * served, "too little was served to show anything");
    let seen: BTreeSet<u16> = statuses.into_keys().collect();
    assert!(seen.is_superset(&[200, 204, 400, 402, 403].into()), "{seen:?}");
}

/// The parts of a request that a paid upstream must never get, if they are there.
fn what_a_paid_upstream_never_sees(arrived: &Arrived) -> impl Iterator<Item = &str> {
    const NEVER: [&str; 11] = [
        "payment-signature",
        "x-payment",
        "payment-response",
        "x-payment-owed",
        "x-verified-wallet",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "http2-settings",
        "origin",
        "sec-fetch-site",
    ];
    let is_no_websocket = |(name, value): &(String, String)| name == "upgrade" && value != "websocket";
    let headers = arrived.headers.iter();
    let headers = headers.filter(move |line| NEVER.contains(&&*line.0) || is_no_websocket(line));
    let headers = headers.map(|(name, _)| name.as_str());
    let trailers =
        arrived.trailers.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "x-checksum");
    headers.chain(trailers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_an_upstream_behind_envoy_on_a_paid_path_is_settled() {
    what_reaches_the_upstream_is_paid(Shell::Envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_an_upstream_behind_traefik_on_a_paid_path_is_settled() {
    what_reaches_the_upstream_is_paid(Shell::Traefik).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_an_upstream_behind_the_gateway_on_a_paid_path_is_settled() {
    what_reaches_the_upstream_is_paid(Shell::Gateway).await;
}
