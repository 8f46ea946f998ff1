//! Failures of `/verify`: the request is refused, nothing is settled, and the payment can be used
//! again.

use crate::common::{Calls, Payment, Request, Settlement, assert_workers_live};
use farebox_testkit::stack::Part;

use crate::facilitator_faults::{
    End, Fault, SLACK, Scene, VERIFY_TIMEOUT, assert_error, assert_new_terms, assert_served, failure, fault,
    labelled, one_sale, restart_facilitator, sale_after, texts,
};

const UNREACHABLE: End = End::Unavailable("facilitator_unreachable", true);
const BUSY: End = End::Unavailable("facilitator_overloaded", true);
const BROKEN: End = End::Unavailable("facilitator_error", false);
/// The relay reports only whether a reply is a verdict.
const NO_VERDICT: &[&str] = &["http_error"];

const VERIFY: &[Fault] = &[
    fault("verify-slow", "slow:300", &["success"], End::Served),
    fault("verify-silent", "hang", &["timeout"], UNREACHABLE).relayed(&["unreachable"], UNREACHABLE),
    fault("verify-reset", "reset", &["unreachable"], UNREACHABLE),
    fault("verify-cut-after-headers", "cut_after_headers", &["unreachable"], UNREACHABLE),
    fault("verify-truncated", "truncated", &["unreachable"], UNREACHABLE),
    fault("verify-429", "http_429", &["http_error"], BUSY),
    fault("verify-500", "http_500", &["http_error"], BROKEN),
    fault("verify-502-page", "html_502", &["http_error"], BUSY),
    fault("verify-503", "http_503", &["http_error"], BUSY),
    fault("verify-503-valid", "success_503", &["http_error"], BUSY),
    fault("verify-garbage", "garbage", &["bad_reply"], BROKEN).relayed(NO_VERDICT, BROKEN),
    fault("verify-200-page", "html_200", &["bad_reply"], BROKEN).relayed(NO_VERDICT, BROKEN),
    fault("verify-wrong-types", "wrong_types", &["bad_reply"], BROKEN).relayed(NO_VERDICT, BROKEN),
    fault("verify-302", "redirect_302", &["http_error"], BROKEN),
    fault("verify-308", "redirect_308", &["http_error"], BROKEN).relayed(&["success"], End::Served),
    fault("verify-302-away", "redirect_302:{origin}", &["http_error"], BROKEN),
    fault("verify-308-away", "redirect_308:{origin}", &["http_error"], BROKEN)
        .relayed(&["unreachable"], UNREACHABLE),
    fault("verify-broke", "invalid:unexpected_verify_error", &["bad_reply"], BROKEN)
        .relayed(NO_VERDICT, BROKEN),
    fault("verify-invalid", "invalid", &["refused"], End::Refused(402, "insufficient_funds")),
    fault(
        "verify-unknown-code",
        "unknown_code",
        &["refused"],
        End::Refused(402, "a_code_nobody_has_heard_of"),
    ),
    fault(
        "verify-allowance",
        "invalid:permit2_allowance_required",
        &["refused"],
        End::Refused(412, "permit2_allowance_required"),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verify_that_fails_is_closed_costs_nothing_and_leaves_the_payment_usable() {
    failing_verifies(Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_a_verify_that_fails_costs_nothing_either() {
    failing_verifies(Settlement::Direct).await;
}

async fn failing_verifies(settlement: Settlement) {
    let mut scene = Scene::of(settlement, VERIFY, &["verify-down"]).await;
    for fault in VERIFY {
        verify_fault(&scene, fault).await;
    }
    assert_workers_live(&scene.stack, "/free", "/verify-slow/x").await;
    verify_while_down(&mut scene).await;
    assert_eq!(scene.hits("/verify"), 0, "no redirect was followed");
    assert_workers_live(&scene.stack, "/free", "/verify-down/x").await;
}

async fn verify_fault(scene: &Scene, fault: &Fault) {
    let (stack, name, seen) = (&scene.stack, fault.offer, scene.seen(fault));
    let path = format!("/{name}/goods");
    let payment = Payment::of(stack, &path).await.unwrap();
    scene.break_down("verify", fault).await;
    let calls = Calls::now(stack).await;
    let answer = payment.send(stack, &path).await;
    assert!(answer.took < VERIFY_TIMEOUT + SLACK, "{name} took {:?}", answer.took);
    let mut outcomes = labelled("verify", seen.calls);
    let reason = match seen.end {
        End::Served => {
            assert_served(&answer, name);
            outcomes.push("settle success".to_owned());
            None
        }
        End::Refused(status, code) => {
            assert_new_terms(&answer, status, "payment_invalid", code, name);
            Some("payment_invalid")
        }
        End::Unavailable(reason, retriable) => {
            assert_error(&answer, reason, "Payment verification failed", retriable, name);
            let retry_after = retriable.then(|| "2".to_owned());
            assert_eq!(answer.header("retry-after"), retry_after, "{name}");
            Some(reason)
        }
        End::Unknown { .. } => unreachable!("a verify moves no money"),
    };
    calls.assert_since(stack, &texts(&outcomes)).await;
    scene.facilitator.fail("verify", "none").await;
    let Some(reason) = reason else {
        assert_eq!((scene.hits(&path), scene.facilitator.settled(&payment.nonce).await), (1, 1), "{name}");
        return one_sale().assert(stack, name).await;
    };
    assert!(answer.receipt().is_null(), "{name}: there is nothing to have a receipt of");
    assert_eq!((scene.hits(&path), scene.facilitator.settled(&payment.nonce).await), (0, 0), "{name}");
    failure(reason).assert(stack, name).await;

    assert_served(&payment.send(stack, &path).await, name);
    assert_eq!((scene.hits(&path), scene.facilitator.settled(&payment.nonce).await), (1, 1), "{name}");
    sale_after(reason).assert(stack, name).await;
}

async fn verify_while_down(scene: &mut Scene) {
    let payment = Payment::of(&scene.stack, "/verify-down/goods").await.unwrap();
    scene.stack.kill_part(Part::Facilitator);
    let calls = Calls::now(&scene.stack).await;
    let answer = payment.send(&scene.stack, "/verify-down/goods").await;
    let reason = "facilitator_unreachable";
    assert_error(&answer, reason, "Payment verification failed", true, "down");
    assert!(answer.took < VERIFY_TIMEOUT + SLACK, "{:?}", answer.took);
    assert_eq!(scene.hits("/verify-down/goods"), 0);
    calls.assert_since(&scene.stack, &["verify unreachable"]).await;
    failure(reason).assert(&scene.stack, "verify-down").await;
    // Free routes are served, and paid routes still send their terms.
    assert_eq!(Request::get("/free").send(scene.stack.proxy_address()).status, 200);

    restart_facilitator(scene).await;
    assert_served(&payment.send(&scene.stack, "/verify-down/goods").await, "up again");
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    sale_after(reason).assert(&scene.stack, "verify-down").await;
}
