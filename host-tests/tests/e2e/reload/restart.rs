//! Programs that end and start again.

use std::cell::Cell;

use farebox_testkit::stack::{Options, Part, Stack};

use crate::common::Settlement;
use crate::reload::buyer::Buyer;
use crate::reload::metrics::{Watcher, of_offer, sum};
use crate::reload::pricing::{file, free, paid};
use crate::reload::stage::{BOUND, Stage};

fn prices() -> String {
    file(&[paid("kept", "0.001"), free("open")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_companion_stops_nothing_that_is_free_and_catches_up_without_counting_twice() {
    killed_companions(Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_a_killed_companion_stops_no_proxy_and_catches_up_without_counting_twice() {
    killed_companions(Settlement::Direct).await;
}

async fn killed_companions(settlement: Settlement) {
    let mut options = Options::priced(prices());
    options.settings["facilitator"] = settlement.settings(5_000, 60_000)["facilitator"].take();
    let mut stage = Stage::with(options).await;
    let buyer = stage.buyer();
    let terms = buyer.terms("/kept/api").await.unwrap();
    let watcher = Watcher::start(stage.stack.companion_url(), &["kept"]);
    let (mut sold, mut closed) = (0, 0);
    let mut sell = async |count: u32| {
        for _ in 0..count {
            let reply = buyer.pay("/kept/api", &terms).await.unwrap();
            assert_eq!((reply.status, reply.is_settled()), (200, true));
            sold += 1;
        }
        sold
    };
    sell(20).await;
    assert_eq!(of_offer(&stage.counted().await, "charged_requests_total", "kept"), 20);

    for _ in 0..3 {
        stage.stack.kill_part(Part::Companion);
        if settlement == Settlement::Direct {
            sell(5).await;
        } else {
            let reply = buyer.pay("/kept/api", &terms).await.unwrap();
            assert_eq!((reply.status, reply.terms()), (503, None));
            closed += 1;
        }
        assert_eq!(buyer.ask("/open/api").await.unwrap().status, 200);
        assert_eq!(buyer.ask("/elsewhere").await.unwrap().status, 404);
        stage.stack.start_part(Part::Companion).unwrap();
        if settlement == Settlement::Direct {
            sell(5).await;
        }
        // The ledger remembers under which generation these rules were pushed.
        stage.stack.ready().await.unwrap();
        assert_eq!(stage.stack.enforced().await.unwrap(), Some(stage.generation));
        sell(5).await;
        watcher.looks_again().await;
    }

    let sold = sell(0).await;
    stage.stack.ready().await.unwrap();
    let page = stage.counted().await;
    assert_eq!(of_offer(&page, "requests_total", "kept"), sold + closed + 1);
    assert_eq!(of_offer(&page, "charged_requests_total", "kept"), sold);
    assert_eq!(of_offer(&page, "settled_amount_atomic_total", "kept"), sold * 1000);
    assert_eq!(sum(&page, "reports_dropped_total", &[]), 0);
    watcher.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_envoy_boots_closed_and_opens_with_the_first_ones() {
    let mut stack = Stack::prepare(Options::priced(prices())).unwrap();
    let rules = std::fs::read_to_string(stack.pricing()).unwrap();
    std::fs::remove_file(stack.pricing()).unwrap();
    stack.start_part(Part::Facilitator).unwrap();
    stack.start_part(Part::Companion).unwrap();
    let discovery = stack.folder().join("discovery/filter.yaml");
    stack.until("a closed filter stands in", async |_| discovery.is_file()).await.unwrap();
    stack.kill_part(Part::Companion);

    stack.start_part(Part::Proxy).unwrap();
    let is_up = async |stack: &Stack| stack.get("/open/api").send().await.is_ok();
    stack.until("Envoy answers", is_up).await.unwrap();
    let buyer = Buyer::new(stack.proxy_url());
    for path in ["/kept/api", "/open/api", "/elsewhere"] {
        let reply = buyer.ask(path).await.unwrap();
        assert_eq!((reply.status, reply.reason().as_deref()), (503, Some("config_not_loaded")), "{path}");
        assert_eq!(reply.headers["retry-after"], "1");
    }
    assert_eq!(stack.origin().unwrap().hits().total(), 0);

    stack.rewrite_pricing(&rules).unwrap();
    stack.start_part(Part::Companion).unwrap();
    stack.ready().await.unwrap();
    assert_eq!(buyer.ask("/open/api").await.unwrap().status, 200);
    let terms = buyer.terms("/kept/api").await.unwrap();
    assert!(buyer.pay("/kept/api", &terms).await.unwrap().is_settled());
}

/// The status of the first answer of an Envoy that is starting.
async fn first_answer(stage: &Stage, buyer: &Buyer, path: &str) -> u16 {
    let first = Cell::new(None);
    let has_answered = async || {
        first.set(buyer.ask(path).await.ok().map(|reply| reply.status));
        first.get().is_some()
    };
    stage.until("Envoy answers", has_answered).await;
    first.get().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_restarts_enforces_the_last_rules_at_once_and_totals_do_not_go_back() {
    let mut stage = Stage::start(&prices()).await;
    let buyer = stage.buyer();
    let terms = buyer.terms("/kept/api").await.unwrap();
    let watcher = Watcher::start(stage.stack.companion_url(), &["kept"]);
    let sell = async |buyer: &Buyer| {
        for _ in 0..10 {
            assert!(buyer.pay("/kept/api", &terms).await.unwrap().is_settled());
        }
    };
    sell(&buyer).await;
    assert_eq!(of_offer(&stage.counted().await, "charged_requests_total", "kept"), 10);

    stage.stack.stop_part(Part::Proxy);
    assert_eq!(of_offer(&stage.counted().await, "charged_requests_total", "kept"), 10);
    stage.stack.start_part(Part::Proxy).unwrap();
    let buyer = stage.buyer();
    assert_eq!(first_answer(&stage, &buyer, "/kept/api").await, 402);
    sell(&buyer).await;
    let total = async || of_offer(&stage.page().await, "charged_requests_total", "kept");
    stage.until("both lives add up", async || total().await == 20).await;

    // The same with an unreachable companion.
    stage.stack.kill_part(Part::Companion);
    stage.stack.stop_part(Part::Proxy);
    stage.stack.start_part(Part::Proxy).unwrap();
    let buyer = stage.buyer();
    assert_eq!(first_answer(&stage, &buyer, "/kept/api").await, 402);
    let replies = [("/kept/api", 402), ("/open/api", 200), ("/elsewhere", 404)];
    for (path, status) in replies {
        assert_eq!(buyer.ask(path).await.unwrap().status, status, "{path}");
    }
    watcher.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_facilitator_that_hangs_does_not_slow_reloads_and_its_return_is_noticed() {
    let prices = |offers: &[&str]| {
        let paid = offers.iter().map(|offer| paid(offer, "0.001"));
        file(&paid.chain([free("open")]).collect::<Vec<_>>())
    };
    let mut stage = Stage::start(&prices(&["kept", "first", "second"])).await;
    let fail = format!("{}/dev/fail", stage.stack.facilitator_url());
    let fail = async |client: &reqwest::Client, mode: &'static str| {
        client
            .post(&fail)
            .body(format!(r#"{{"supported":"{mode}"}}"#))
            .send()
            .await
            .unwrap()
            .error_for_status()
            .unwrap();
    };
    fail(stage.stack.client(), "hang").await;
    // A companion that does not know the kinds of its facilitator.
    stage.stack.kill_part(Part::Companion);
    stage.stack.start_part(Part::Companion).unwrap();
    stage.reloaded().await;
    let buyer = stage.buyer();
    let reply = buyer.ask("/kept/api").await.unwrap();
    assert_eq!(reply.status, 402, "terms need nothing of a facilitator");
    assert_eq!(buyer.ask("/open/api").await.unwrap().status, 200);

    for (removed, left) in [("first", &["kept", "second"][..]), ("second", &["kept"])] {
        stage.stack.rewrite_pricing(&prices(left)).unwrap();
        let path = format!("/{removed}/api");
        let is_closed = async || buyer.ask(&path).await.unwrap().status == 404;
        stage.within(BOUND, &format!("{removed} is closed"), is_closed).await;
    }

    fail(stage.stack.client(), "none").await;
    stage
        .until("paid routes are open again", async || buyer.ask("/kept/api").await.unwrap().status == 402)
        .await;
}
