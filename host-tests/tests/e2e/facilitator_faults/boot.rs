//! A facilitator that is unreachable when everything else starts.

use crate::common::{Payment, Request, Settlement, assert_workers_live};
use farebox_core::metrics::Family;
use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Facilitator, Options, Part, Stack, facilitator_error};

use crate::facilitator_faults::{assert_served, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_are_not_taken_until_the_facilitator_says_what_it_supports_and_terms_are_told_all_the_while()
{
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
    assert_closed(&stack, 1).await;

    // A facilitator that redirects to another server. The operator has to configure that server; Farebox
    // does not follow.
    stack.start_part(Part::Facilitator).unwrap();
    let redirected = async |stack: &Stack| {
        let status = stack.status().await.unwrap();
        let error = facilitator_error(&status).unwrap_or_default();
        error.ends_with(" to http://elsewhere.example")
    };
    stack.until("the redirect is reported", redirected).await.unwrap();
    assert_closed(&stack, 2).await;

    DevFacilitator::of(&stack).fail("supported", "none").await;
    let open = async |stack: &Stack| stack.status().await.unwrap()["facilitator"]["ready"] == true;
    stack.until("the chain opens", open).await.unwrap();
    let payment = Payment::of(&stack, "/goods/x").await.unwrap();
    assert_served(&payment.send(&stack, "/goods/x").await, "open");
    assert_workers_live(&stack, "/free", "/goods/x").await;
}

/// Checks that terms are sent, free routes are served, a payment is refused without a new price, and the
/// chain is named.
async fn assert_closed(stack: &Stack, refusals: u128) {
    let payment = Payment::of(stack, "/goods/x").await.unwrap();
    let answer = payment.send(stack, "/goods/x").await;
    assert_eq!(answer.status, 503, "{}", answer.summary());
    assert_eq!(answer.json()["reason"], "facilitator_unreachable");
    assert!(!answer.challenges());
    assert_eq!(Request::get("/free").send(stack.proxy_address()).status, 200);
    let status = stack.status().await.unwrap();
    assert_eq!(status["ready"], false, "{status:#}");
    let closed = &status["facilitator"]["closed"];
    assert_eq!(closed.as_array().unwrap().len(), 1, "{closed:#}");
    let offers = closed[0]["offers"].as_array().unwrap();
    assert!(offers.iter().any(|offer| offer.as_str().unwrap().ends_with("/goods")), "{closed:#}");
    let readyz = stack.client().get(format!("{}/readyz", stack.companion_url())).send().await.unwrap();
    assert_eq!(readyz.status(), 503);
    assert!(readyz.text().await.unwrap().contains(closed[0]["network"].as_str().unwrap()));
    let counted = async |stack: &Stack| {
        let page = stack.metrics().await.unwrap();
        let labels = [("offer_name", "goods"), ("reason", "facilitator_unreachable")];
        page.sum(Family::PaymentFailureReasonsTotal.name(), &labels).unwrap() == refusals
    };
    stack.until("every refusal is counted", counted).await.unwrap();
}
