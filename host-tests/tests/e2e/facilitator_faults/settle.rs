//! Failures of `/settle`: refused if that is certain, else unknown until a resend decides.

use crate::common::{Answer, Calls, Payment, Settlement, Tally, assert_workers_live};
use farebox_testkit::stack::{Part, Stack};
use serde_json::{Value, json};

use crate::facilitator_faults::{
    End, Fault, SETTLE_TIMEOUT, SLACK, Scene, VERIFY_TIMEOUT, assert_error, assert_new_terms, assert_served,
    failure, fault, labelled, one_sale, restart_facilitator, sale_after, texts,
};

const fn unknown(transaction: bool, moved: bool) -> End {
    End::Unknown { transaction, moved }
}

/// The relay reports only that a settlement is open.
const OPEN: &[&str] = &["http_error"];

const SETTLE: &[Fault] = &[
    fault("settle-slow", "slow:400", &["success"], End::Served),
    fault("settle-pending-once", "pending_then_success", &["bad_reply", "success"], End::Served)
        .relayed(&["success"], End::Served),
    fault("settle-invalid", "invalid", &["refused"], End::Refused(402, "insufficient_funds")),
    fault("settle-silent", "hang", &["timeout"], unknown(false, false)).relayed(OPEN, unknown(false, false)),
    fault("settle-reset", "reset", &["unreachable"], unknown(false, false))
        .relayed(OPEN, unknown(false, false)),
    fault("settle-cut-after-headers", "cut_after_headers", &["unreachable"], unknown(false, true))
        .relayed(OPEN, unknown(false, true)),
    fault("settle-truncated", "truncated", &["unreachable"], unknown(false, true))
        .relayed(OPEN, unknown(false, true)),
    fault("settle-429", "http_429", OPEN, unknown(false, false)),
    fault("settle-500", "http_500", OPEN, unknown(false, false)),
    fault("settle-502-page", "html_502", OPEN, unknown(false, false)),
    fault("settle-503", "http_503", OPEN, unknown(false, false)),
    fault("settle-503-success", "success_503", OPEN, unknown(true, true)),
    fault("settle-garbage", "garbage", &["bad_reply"], unknown(false, false))
        .relayed(OPEN, unknown(false, false)),
    fault("settle-200-page", "html_200", &["bad_reply"], unknown(false, false))
        .relayed(OPEN, unknown(false, false)),
    fault("settle-wrong-types", "wrong_types", &["bad_reply"], unknown(false, false))
        .relayed(OPEN, unknown(false, false)),
    fault("settle-302", "redirect_302", OPEN, unknown(false, false)),
    fault("settle-308", "redirect_308", OPEN, unknown(false, false)).relayed(&["success"], End::Served),
    fault("settle-302-away", "redirect_302:{origin}", OPEN, unknown(false, false)),
    // Farebox does not follow the redirect. The redirecting server has got the call.
    fault("settle-308-away", "redirect_308:{origin}", OPEN, unknown(false, false)),
    fault("settle-unknown-code", "unknown_code", &["bad_reply"], unknown(false, false))
        .relayed(OPEN, unknown(false, false)),
    fault("settle-wrong-network", "wrong_network", &["bad_reply"], unknown(true, true))
        .relayed(OPEN, unknown(true, true)),
    fault("settle-pending", "pending", &["bad_reply", "bad_reply"], unknown(true, false))
        .relayed(OPEN, unknown(true, false)),
    fault("settle-success-unheard", "success_but_hang", &["timeout"], unknown(false, true))
        .relayed(OPEN, unknown(false, true)),
    // The facilitator's own transfer went out without its knowledge, so its refusal does not end the
    // payment.
    fault(
        "settle-failed-in-its-words",
        "settled_but:invalid_exact_evm_transaction_failed",
        &["bad_reply"],
        unknown(false, true),
    )
    .relayed(OPEN, unknown(false, true)),
    fault(
        "settle-failed-in-pythons-words",
        "settled_but:transaction_failed",
        &["bad_reply"],
        unknown(false, true),
    )
    .relayed(OPEN, unknown(false, true)),
    // The facilitator verified the payment a moment ago, so its own transfer used the nonce.
    fault(
        "settle-nonce-used",
        "settled_but:invalid_exact_evm_nonce_already_used",
        &["bad_reply"],
        unknown(false, true),
    )
    .relayed(OPEN, unknown(false, true)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_that_fails_is_closed_and_a_resend_is_charged_and_counted_once() {
    failing_settlements(Settlement::Relay).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_relay_a_settlement_that_fails_is_charged_and_counted_once_too() {
    failing_settlements(Settlement::Direct).await;
}

async fn failing_settlements(settlement: Settlement) {
    let more = ["settle-down", "settle-stubborn", "settle-after-unknown"];
    let mut scene = Scene::of(settlement, SETTLE, &more).await;
    for fault in SETTLE {
        settle_fault(&scene, fault).await;
    }
    unknown_stays_unknown_until_it_is_decided(&scene).await;
    assert_workers_live(&scene.stack, "/free", "/settle-slow/x").await;
    settle_while_down(&mut scene).await;
    assert_eq!(scene.hits("/settle"), 0, "no redirect was followed");
    assert_workers_live(&scene.stack, "/free", "/settle-down/x").await;
}

async fn settle_fault(scene: &Scene, fault: &Fault) {
    let (stack, name, seen) = (&scene.stack, fault.offer, scene.seen(fault));
    let path = format!("/{name}/goods");
    let payment = Payment::of(stack, &path).await.unwrap();
    scene.break_down("settle", fault).await;
    let calls = Calls::now(stack).await;
    let answer = payment.send(stack, &path).await;
    let settles = u32::try_from(seen.calls.len()).unwrap();
    assert!(answer.took < VERIFY_TIMEOUT + SETTLE_TIMEOUT * settles + SLACK, "{name} took {:?}", answer.took);
    let mut outcomes = vec!["verify success".to_owned()];
    outcomes.extend(labelled("settle", seen.calls));
    calls.assert_since(stack, &texts(&outcomes)).await;
    scene.facilitator.fail("settle", "none").await;
    // The upstream got the request, and its answer reached the client only if the payment settled.
    assert_eq!(scene.hits(&path), 1, "{name}");
    match seen.end {
        End::Served => {
            assert_served(&answer, name);
            assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1, "{name}");
            one_sale().assert(stack, name).await;
        }
        End::Refused(status, code) => {
            assert_new_terms(&answer, status, "settlement_rejected", code, name);
            let receipt = answer.receipt();
            assert_eq!(
                (&receipt["success"], &receipt["errorReason"]),
                (&json!(false), &json!(code)),
                "{name}"
            );
            assert_eq!(scene.facilitator.settled(&payment.nonce).await, 0, "{name}");
            failure("settlement_rejected").assert(stack, name).await;
            resend(scene, name, &payment, &["verify", "settle"]).await;
            sale_after("settlement_rejected").assert(stack, name).await;
        }
        End::Unknown { transaction, moved } => {
            assert_unknown(&answer, &payment, transaction, name);
            let settled = scene.facilitator.settled(&payment.nonce).await;
            assert_eq!(settled, usize::from(moved), "{name}");
            Tally { unresolved: 1, ..failure("settlement_failed") }.assert(stack, name).await;
            // The reservation was kept: the resend settles again at once, with the identical call.
            resend(scene, name, &payment, &["settle"]).await;
            let sale = sale_after("settlement_failed");
            sale.clone().assert_or(found_out(scene, sale), stack, name).await;
        }
        End::Unavailable(..) => unreachable!("a failed settlement is refused or unknown"),
    }
}

/// Checks a 503 that says what is known, with receipts that report no success so far.
fn assert_unknown(answer: &Answer, payment: &Payment, transaction: bool, fault: &str) {
    let body = assert_error(answer, "settlement_failed", "Payment settlement failed", false, fault);
    assert_eq!(answer.header("retry-after").as_deref(), Some("5"), "{fault}");
    let receipt = answer.receipt();
    let code = if transaction { "settlement_pending" } else { "unexpected_settle_error" };
    assert_eq!(receipt["success"], false, "{fault}: {receipt}");
    assert_eq!(receipt["errorReason"], code, "{fault}: {receipt}");
    assert_eq!(body["code"], code, "{fault}: {body}");
    let known = receipt["transaction"].as_str().unwrap();
    assert_eq!(known.len(), if transaction { 66 } else { 0 }, "{fault}: {receipt}");
    assert_eq!(body["transaction"], if transaction { json!(known) } else { Value::Null }, "{fault}: {body}");
    assert_eq!(body["nonce"], payment.nonce, "{fault}: {body}");
    assert_eq!(body["network"], "eip155:84532", "{fault}: {body}");
    assert_eq!(body["payer"], payment.json["payload"]["authorization"]["from"], "{fault}: {body}");
    assert!(body.get("method").is_none(), "{fault}: nothing of the upstream's body: {body}");
}

/// Checks a 503 that says that nothing was charged, and that another payment is possible.
fn assert_not_sent(answer: &Answer, fault: &str) {
    assert_error(answer, "settlement_failed", "Payment settlement failed", true, fault);
    assert_eq!(answer.header("retry-after").as_deref(), Some("2"), "{fault}");
    assert_eq!(answer.receipt()["success"], false, "{fault}");
}

/// Sends the same payment again, with a working facilitator: it is served, and settled once in all.
async fn resend(scene: &Scene, name: &str, payment: &Payment, operations: &[&str]) {
    let path = format!("/{name}/goods");
    let before = scene.facilitator.operations().await.len();
    assert_served(&payment.send(&scene.stack, &path).await, name);
    // The relay may have asked in the meantime, for this payment or another.
    if scene.settlement == Settlement::Direct {
        assert_eq!(
            scene.facilitator.operations().await[before..],
            *operations,
            "{name}: calls of the resend"
        );
    }
    let mut bodies = scene.facilitator.bodies("settle").await;
    bodies.retain(|body| body.contains(&payment.nonce));
    assert!(bodies.len() > 1, "{name}: it was settled again");
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{name}: identical settle calls");
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1, "{name}");
    assert_eq!(scene.hits(&path), 2, "{name}");
}

/// The numbers of a sale whose outcome the relay found out before the buyer came back.
fn found_out(scene: &Scene, sale: Tally) -> Option<Tally> {
    scene.settlement.pick(Some(sale.uncharged("redeemed")), None)
}

/// Resends while the facilitator still fails: the open settlement is counted once, the upstream gets no
/// request, and a refusal that the first settlement would explain is not trusted.
async fn unknown_stays_unknown_until_it_is_decided(scene: &Scene) {
    let (stack, offer, path) = (&scene.stack, "settle-stubborn", "/settle-stubborn/goods");
    let payment = Payment::of(stack, path).await.unwrap();
    scene.facilitator.fail("settle", "success_503").await;
    assert_unknown(&payment.send(stack, path).await, &payment, true, offer);
    scene.facilitator.fail("settle", "http_500").await;
    // The transaction of the first attempt is in the answer again.
    assert_unknown(&payment.send(stack, path).await, &payment, true, offer);
    scene.facilitator.fail("settle", "invalid:invalid_exact_evm_nonce_already_used").await;
    assert_unknown(&payment.send(stack, path).await, &payment, true, offer);
    assert_eq!(scene.hits(path), 1, "only the first attempt reached the upstream");
    let failures = Tally { requests: 4, unresolved: 1, ..failure("settlement_failed") };
    let failures = failures.failed("settlement_failed").failed("settlement_failed");
    failures.clone().assert(stack, offer).await;
    // A refusal from before the broadcast is not trusted either, because the first call may explain it,
    // too.
    scene.facilitator.fail("settle", "invalid:invalid_payload").await;
    assert_unknown(&payment.send(stack, path).await, &payment, true, offer);
    assert_eq!(scene.hits(path), 1, "only the first attempt reached the upstream");
    let failures = failures.failed("settlement_failed");
    let failures = Tally { requests: 5, ..failures };
    failures.clone().assert(stack, offer).await;
    // On another route the payment buys nothing, with any outcome, and the answer does not ask for
    // another payment.
    let elsewhere = payment.send(stack, "/settle-after-unknown/goods").await;
    assert_unknown(&elsewhere, &payment, true, "another route");
    Tally { requests: 1, ..Tally::default() }
        .failed("settlement_failed")
        .assert(stack, "settle-after-unknown")
        .await;
    assert_eq!(scene.hits("/settle-after-unknown/goods"), 0);
    scene.facilitator.fail("settle", "none").await;
    assert_served(&payment.send(stack, path).await, offer);
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    let sale = Tally { requests: 6, failed: failures.failed, ..one_sale() };
    sale.clone().assert_or(found_out(scene, sale), stack, offer).await;
}

/// The facilitator dies between verify and settle.
async fn settle_while_down(scene: &mut Scene) {
    let path = "/settle-down/slow/1500";
    let payment = Payment::of(&scene.stack, path).await.unwrap();
    let (request, to) = (payment.request(path), scene.stack.proxy_address());
    let sending = tokio::task::spawn_blocking(move || request.send(to));
    let at_upstream = async |stack: &Stack| stack.origin().unwrap().hits().of(path) == 1;
    scene.stack.until("the upstream is asked", at_upstream).await.unwrap();
    let calls = Calls::now(&scene.stack).await;
    scene.stack.kill_part(Part::Facilitator);
    let answer = sending.await.unwrap();
    // The relay knows that the call reached no facilitator, so nothing is open.
    match scene.settlement {
        Settlement::Relay => assert_not_sent(&answer, "down"),
        Settlement::Direct => assert_unknown(&answer, &payment, false, "down"),
    }
    calls.assert_since(&scene.stack, &["settle unreachable"]).await;
    let unresolved = scene.settlement.pick(0, 1);
    Tally { unresolved, ..failure("settlement_failed") }.assert(&scene.stack, "settle-down").await;

    restart_facilitator(scene).await;
    assert_served(&payment.send(&scene.stack, path).await, "up again");
    assert_eq!(scene.facilitator.settled(&payment.nonce).await, 1);
    let again = scene.settlement.pick(&["verify", "settle"][..], &["settle"]);
    assert_eq!(scene.facilitator.operations().await, again);
    sale_after("settlement_failed").assert(&scene.stack, "settle-down").await;
}
