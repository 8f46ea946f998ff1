//! Behaviour that only the real Envoy can show: its timeouts, and what survives when its VMs are replaced.

use std::time::{Duration, Instant};

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::{Options, Stack};

use crate::common::{Payment, assert_workers_live};

const KEPT: &str = "wallet: \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\nchain: base-sepolia\nroutes:\n\
                    - { pattern: /free, gate: free }\n\
                    - { pattern: /kept/*, price: 0.001, offerName: kept }\n";
const GOES: &str = "- { pattern: /goes/*, price: 0.001, offerName: goes }\n";

/// Longer than the default timeout of a route in Envoy, 15 s.
const LONG_SETTLEMENT: Duration = Duration::from_secs(16);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_longer_than_envoys_usual_timeout_does_not_cut_the_stream_it_is_for() {
    let stack = Stack::start(Options::priced(KEPT)).await.unwrap();
    let facilitator = DevFacilitator::of(&stack);
    let payment = Payment::of(&stack, "/kept/events/3").await.unwrap();
    facilitator.fail("settle", &format!("slow:{}", LONG_SETTLEMENT.as_millis())).await;
    let started = Instant::now();
    let answer = payment.send(&stack, "/kept/events/3").await;
    assert!(started.elapsed() >= LONG_SETTLEMENT, "{:?}", started.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.summary());
    assert_eq!(answer.receipt()["success"], true);
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_payment_stays_used_when_the_vms_are_replaced() {
    let stack = Stack::start(Options::priced(format!("{KEPT}{GOES}"))).await.unwrap();
    let facilitator = DevFacilitator::of(&stack);
    let payment = Payment::of(&stack, "/kept/x").await.unwrap();
    assert_eq!(payment.send(&stack, "/kept/x").await.status, 200);

    // When an offer is removed, the VMs are replaced, so that Envoy forgets its counters.
    let before = stack.enforced().await.unwrap().unwrap();
    stack.rewrite_pricing(KEPT).unwrap();
    stack.later_generation(before).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;

    for _ in 0..10 {
        let again = payment.send(&stack, "/kept/x").await;
        assert_eq!(again.status, 402, "{}", again.summary());
        let failure = &again.decoded("payment-required")["extensions"]["paymentFailure"];
        assert_eq!(failure["reason"], "payment_replayed", "{failure}");
    }
    assert_eq!(facilitator.settled(&payment.nonce).await, 1);
    assert_eq!(stack.origin().unwrap().hits().of("/kept/x"), 1);
    assert_workers_live(&stack, "/free", "/kept/x").await;
}
