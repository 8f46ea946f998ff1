//! A facilitator that is not there when everything else starts.

use crate::common::{DevFacilitator, Payment, Request, Settlement, Tally, assert_workers_live};
use farebox_core::metrics::Family;
use xtask::stack::{Facilitator, Options, Part, Stack, facilitator_error};

use crate::facilitator_faults::{assert_served, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paid_routes_stay_closed_until_the_facilitator_says_what_it_supports() {
    let fail = ["--fail", "supported=redirect_308:http://elsewhere.example"].map(str::to_owned);
    let options = Options {
        facilitator: Facilitator::Development(fail.to_vec()),
        ..options(Settlement::Relay, ["goods"])
    };
    let mut stack = Stack::prepare(options).unwrap();
    stack.start_part(Part::Companion).unwrap();
    let published = async |stack: &Stack| stack.folder().join("discovery/filter.yaml").is_file();
    stack.until("the companion publishes", published).await.unwrap();
    stack.start_part(Part::Proxy).unwrap();
    stack.ready().await.unwrap();
    assert_closed(&stack, 6).await;

    // One that answers, but sends everybody elsewhere: that has to be configured, not followed.
    stack.start_part(Part::Facilitator).unwrap();
    let redirected = async |stack: &Stack| {
        let status = stack.status().await.unwrap();
        let error = facilitator_error(&status).unwrap_or_default();
        error.ends_with(" to http://elsewhere.example")
    };
    stack.until("the redirect is reported", redirected).await.unwrap();
    assert_closed(&stack, 12).await;

    DevFacilitator::of(&stack).fail("supported", "none").await;
    let open = async |stack: &Stack| Request::get("/goods/x").send(stack.proxy_address()).status == 402;
    stack.until("the route opens", open).await.unwrap();
    let payment = Payment::of(&stack, "/goods/x").await.unwrap();
    assert_served(&payment.send(&stack, "/goods/x").await, "open");
    assert_workers_live(&stack, "/free", "/goods/x").await;
}

/// Asks for a paid and a free path six times each, after which so many refusals are counted in all.
async fn assert_closed(stack: &Stack, refusals: u128) {
    for _ in 0..6 {
        let answer = Request::get("/goods/x").send(stack.proxy_address());
        assert_eq!(answer.status, 503, "{}", answer.summary());
        assert_eq!(answer.json()["reason"], "facilitator_not_ready");
        assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
        assert!(!answer.challenges());
        assert_eq!(Request::get("/free").send(stack.proxy_address()).status, 200);
    }
    let counted = async |stack: &Stack| {
        let page = stack.metrics().await.unwrap();
        let labels = [("offer_name", "goods"), ("reason", "facilitator_not_ready")];
        page.sum(Family::BlockedRequestsTotal.name(), &labels).unwrap() == refusals
    };
    stack.until("every refusal is counted", counted).await.unwrap();
    // None of them came to the payment stage.
    assert_eq!(Tally::of(&stack.metrics().await.unwrap(), "goods"), Tally::default());
}
