//! Rows 17 to 22, 29 and 30: what a facilitator says, and does not.

use super::super::case::{Case, case};
use super::super::expectations::Settled;
use crate::accounting::shop::{BASIC_GOODS, Goods, MULTI_ON_BASE_GOODS, OBOL_GOODS, UPFRONT_GOODS};

/// Rows 19 to 21.
pub(super) fn verifying() -> Vec<Case> {
    let fails = |row, mode| {
        let case = case(row, &format!("verify {mode}")).fault("verify", mode);
        case.pays(BASIC_GOODS, "unverified")
    };
    let bad = "payment_invalid";
    let error = "facilitator_error";
    let broken = |row, mode, outcome| fails(row, mode).unverified(503, error, outcome);
    vec![
        // The companion's relay answers for a facilitator that does not.
        broken("19", "reset", "http_error"),
        broken("19", "truncated", "http_error"),
        broken("19", "hang", "http_error"),
        broken("20", "http_500", "http_error"),
        broken("20", "http_429", "http_error"),
        broken("20", "success_503", "http_error"),
        broken("20", "redirect_302", "http_error"),
        broken("20", "garbage", "bad_reply"),
        broken("20", "wrong_types", "bad_reply"),
        broken("20", "html_200", "bad_reply"),
        fails("21", "invalid").unverified(402, bad, "refused"),
        fails("21", "invalid:invalid_exact_evm_transaction_simulation_failed")
            .unverified(402, bad, "refused"),
        fails("21", "invalid:permit2_allowance_required").unverified(412, bad, "refused"),
        case("28", "verified at last").again("/basic/verified").sold_again(BASIC_GOODS, 200),
    ]
}

/// Rows 17, 22, 29 and 30.
pub(super) fn settling() -> Vec<Case> {
    let refused =
        |row, mode, goods| case(row, mode).fault("settle", mode).pays(goods, "refused").settlement_refused();
    let mut cases = vec![
        refused("29", "invalid:insufficient_funds", BASIC_GOODS),
        refused("29", "invalid:invalid_exact_evm_insufficient_balance", BASIC_GOODS),
        refused("29", "invalid:invalid_exact_evm_payload_signature", BASIC_GOODS),
        refused("22", "invalid", UPFRONT_GOODS),
        case("30", "not final at first")
            .faults(2, "settle", "pending_then_success")
            .pays(BASIC_GOODS, "patient")
            .sold(200)
            .asks_at_will(),
    ];
    for (goods, mode) in [
        (BASIC_GOODS, "http_500"),
        (OBOL_GOODS, "http_503"),
        (BASIC_GOODS, "unknown_code"),
        (BASIC_GOODS, "garbage"),
        (MULTI_ON_BASE_GOODS, "cut_after_headers"),
        (BASIC_GOODS, "success_but_hang"),
        (UPFRONT_GOODS, "http_500"),
    ] {
        cases.extend(open_question(goods, mode));
    }
    cases
}

/// A settlement nobody knows the outcome of, which the companion finds out about, and the same payment then.
fn open_question(goods: Goods, mode: &'static str) -> [Case; 3] {
    let path = goods.path("open");
    [
        case("30", mode).fault("settle", mode).pays(goods, "open").left_open(),
        case("17", &format!("{mode}, found out")).found_settled(goods),
        case("16", &format!("{mode}, the same payment")).again(&path).redeemed(goods, Settled::ByTheRelay),
    ]
}
