//! Counts of a request under way after its offer was removed.

use crate::reload::buyer::{Buyer, Reply};
use crate::reload::metrics::{exists, families_of, of_offer, sum};
use crate::reload::pricing::{file, paid};
use crate::reload::stage::Stage;

/// A paid request whose upstream takes a while.
struct UnderWay(tokio::task::JoinHandle<anyhow::Result<Reply>>);

impl UnderWay {
    /// Sends it and waits until it has reached the upstream.
    async fn start(stage: &Stage, buyer: &Buyer, path: &str) -> Self {
        let terms = buyer.terms(path).await.unwrap();
        let (sender, to) = (buyer.clone(), path.to_owned());
        let task = tokio::spawn(async move { sender.pay(&to, &terms).await });
        stage.until("the upstream is asked", async || stage.hits(path) == 1).await;
        Self(task)
    }

    /// Checks that the request is served normally.
    async fn expect_service(self) {
        let reply = self.0.await.unwrap().unwrap();
        assert_eq!(
            (reply.status, reply.is_settled()),
            (200, true),
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_under_way_finishes_on_its_terms_and_does_not_resurrect_its_offer() {
    let mut stage = Stage::start(&file(&[paid("kept", "0.001"), paid("guest", "0.002")])).await;
    let buyer = stage.buyer();
    let short = UnderWay::start(&stage, &buyer, "/guest/slow/4500").await;
    // Holds the old rules, and with them Envoy's old counters, in place for longer.
    let long = UnderWay::start(&stage, &buyer, "/guest/slow/7500").await;
    // Counts from before the change are not late.
    assert_eq!(of_offer(&stage.counted().await, "requests_total", "guest"), 4);
    stage.reload(&file(&[paid("kept", "0.001")])).await;
    assert!(families_of(&stage.page().await, "guest").is_empty());
    assert_eq!(stage.buyer().ask("/guest/slow/1").await.unwrap().status, 404);
    assert_eq!(sum(&stage.page().await, "reports_dropped_total", &[]), 0);

    short.expect_service().await;
    let is_refused = async || sum(&stage.page().await, "reports_dropped_total", &[("reason", "pruned")]) > 0;
    stage.until("the late report is refused", is_refused).await;
    assert!(families_of(&stage.counted().await, "guest").is_empty());

    long.expect_service().await;
    let page = stage.counted().await;
    assert!(families_of(&page, "guest").is_empty());
    assert_eq!(sum(&page, "reports_dropped_total", &[("reason", "stale_generation")]), 0);
    assert_eq!(sum(&page, "reports_dropped_total", &[("reason", "malformed")]), 0);
    assert_eq!(of_offer(&page, "requests_total", "kept"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_added_again_starts_at_zero_and_old_reports_do_not_reach_it() {
    let with = file(&[paid("kept", "0.001"), paid("guest", "0.002")]);
    let mut stage = Stage::start(&with).await;
    let buyer = stage.buyer();
    let terms = buyer.terms("/guest/api").await.unwrap();
    assert!(buyer.pay("/guest/api", &terms).await.unwrap().is_settled());
    let short = UnderWay::start(&stage, &buyer, "/guest/slow/9000").await;
    let long = UnderWay::start(&stage, &buyer, "/guest/slow/12000").await;
    let page = stage.counted().await;
    assert_eq!(of_offer(&page, "requests_total", "guest"), 6);
    assert!(exists(&page, "last_payment_success_seconds", &[("offer_name", "guest")]));

    stage.reload(&file(&[paid("kept", "0.001")])).await;
    stage.reload(&with).await;
    let assert_is_new = async |requests| {
        let page = if requests > 0 { stage.counted().await } else { stage.page().await };
        assert_eq!(of_offer(&page, "requests_total", "guest"), requests);
        for family in ["payment_verified_total", "charged_requests_total", "settled_amount_atomic_total"] {
            assert!(exists(&page, family, &[("offer_name", "guest")]), "{family}");
            assert_eq!(of_offer(&page, family, "guest"), 0, "{family}");
        }
        assert!(!exists(&page, "last_payment_success_seconds", &[("offer_name", "guest")]));
    };
    assert_is_new(0).await;

    short.expect_service().await;
    let is_refused =
        async || sum(&stage.page().await, "reports_dropped_total", &[("reason", "stale_generation")]) > 0;
    stage.until("the late report is refused", is_refused).await;
    assert_is_new(0).await;
    long.expect_service().await;
    assert_is_new(0).await;

    // The new series counts.
    let terms = buyer.terms("/guest/api").await.unwrap();
    assert_is_new(1).await;
    assert!(buyer.pay("/guest/api", &terms).await.unwrap().is_settled());
    let page = stage.counted().await;
    assert_eq!(of_offer(&page, "requests_total", "guest"), 2);
    assert_eq!(of_offer(&page, "charged_requests_total", "guest"), 1);
    assert_eq!(of_offer(&page, "settled_amount_atomic_total", "guest"), 2000);
    assert!(exists(&page, "last_payment_success_seconds", &[("offer_name", "guest")]));
}
