//! Three proxies and one companion with crashes and changes while buyers are at work. Charges equal the facilitator's
//! record, counts equal the buyers' results, and no number ever goes back.

mod load;
mod shop;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Durability, Options, Part, Postgres, Scrape, Stack};
use serde_json::{Value, json};

use crate::common::Tally;
use crate::reload::metrics::Watcher;

use load::Load;
use shop::{OFFERS, Offer, Seen, pricing};

/// Requests of the whole run.
const REQUESTS: u64 = 5_000;
/// How long the last counts, and settlements without an answer, may take.
const SETTLED: Duration = Duration::from_secs(30);
/// How long the ledger has no database.
const CUT_OFF: Duration = Duration::from_secs(5);
/// The proxy that is killed.
const KILLED: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_of_a_fleet_are_exact_whoever_is_killed_and_never_go_back() {
    let mut database = Postgres::start(Durability::Careless).unwrap();
    let settings = json!({
        // The companion asks about a settlement that was under way at its death when the lease is over.
        "facilitator": { "settlement": "relay", "settleTimeout": "5s" },
        "relay": { "ledger": database.url() },
    });
    let mut stack =
        Stack::start(Options { settings, siblings: 2, ..Options::priced(pricing(false)) }).await.unwrap();
    let started = Instant::now();
    let lasting: Vec<&str> = OFFERS.iter().filter(|offer| !offer.is_late).map(|offer| offer.name).collect();
    let watcher = Watcher::start(stack.companion_url(), &lasting);
    let (load, director) = Load::start(stack.proxy_urls(), REQUESTS);

    director.reach(800).await;
    director.reach(1_200).await;
    stack.kill_proxy(KILLED);
    director.reach(1_500).await;
    stack.start_proxy(KILLED).unwrap();
    stack.ready().await.unwrap();

    director.reach(2_000).await;
    stack.rewrite_pricing(&pricing(true)).unwrap();
    director.late_offer_is_there();

    director.reach(2_600).await;
    // Counts wait in the proxies meanwhile.
    database.stop();
    tokio::time::sleep(CUT_OFF).await;
    database.start_again().unwrap();

    director.reach(3_200).await;
    stack.kill_part(Part::Companion);
    director.reach(3_500).await;
    stack.start_part(Part::Companion).unwrap();
    director.reach(REQUESTS).await;

    let seen = load.finish().await;
    let (page, charged) = final_page(&stack, &seen).await;
    watcher.finish().await;
    for offer in OFFERS {
        let (seen, shown) = (&seen[offer.name], Tally::of(&page, offer.name));
        assert!(seen.served > 50 && seen.failed > 20 && seen.required > 50, "{}: {seen:?}", offer.name);
        let (count, amount) = charged(&offer);
        // A charge whose answer was lost can still fetch one.
        assert!(seen.served <= count, "{}: {seen:?} for {count} charges", offer.name);
        assert_eq!((shown.charged, shown.amount, shown.unresolved), (count, amount, 0), "{}", offer.name);
        if offer.proxy == KILLED {
            seen.assert_covers(&shown, offer.name);
        } else {
            seen.assert_is(&shown, offer.name);
        }
    }
    assert_eq!(page.sum("obol_x402_verifier_reports_dropped_total", &[]).unwrap(), 0);
    println!("{REQUESTS} requests in {:?}: {seen:#?}", started.elapsed());
}

/// The facilitator's settlements for an offer: number and atomic units. Each offer has its own payer.
async fn charged_by_payer(stack: &Stack) -> impl Fn(&Offer) -> (u128, u128) + use<> {
    let settled = DevFacilitator::of(stack).settled_payments().await;
    move |offer| {
        let payer = offer.payer().address().to_string();
        let by =
            |payment: &&Value| payment["payer"].as_str().is_some_and(|by| by.eq_ignore_ascii_case(&payer));
        let amount = |payment: &Value| payment["amount"].as_str().unwrap().parse::<u128>().unwrap();
        let payments: Vec<_> = settled.iter().filter(by).collect();
        (payments.len() as u128, payments.into_iter().map(amount).sum())
    }
}

/// The metrics when nothing is under way any more, or after a long wait, with the facilitator's settlements by then. A
/// call that died with the companion is made again when its lease is over.
async fn final_page(
    stack: &Stack,
    seen: &BTreeMap<&'static str, Seen>,
) -> (Scrape, impl Fn(&Offer) -> (u128, u128) + use<>) {
    let deadline = Instant::now() + SETTLED;
    loop {
        stack.ready().await.unwrap();
        let charged = charged_by_payer(stack).await;
        let page = stack.metrics().await.unwrap();
        let is_final = OFFERS.iter().all(|offer| {
            let shown = Tally::of(&page, offer.name);
            let is_counted = offer.proxy == KILLED || seen[offer.name].is(&shown);
            is_counted && shown.unresolved == 0 && (shown.charged, shown.amount) == charged(offer)
        });
        if is_final || Instant::now() > deadline {
            return (page, charged);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
