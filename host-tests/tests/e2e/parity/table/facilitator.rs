//! Rows 17 to 22, 29 and 30: replies of a facilitator, and missing ones.

use super::super::case::{Case, case};
use crate::accounting::shop::{BASIC_GOODS, Goods, MULTI_ON_BASE_GOODS, OBOL_GOODS, UPFRONT_GOODS};

/// Rows 19 to 21.
pub(super) fn verifying() -> Vec<Case> {
    let fails = |row, mode| {
        let case = case(row, &format!("verify {mode}")).fault("verify", mode);
        case.pays(BASIC_GOODS, "unverified")
    };
    let bad = "payment_invalid";
    let unreachable = |mode| fails("19", mode).unverified(503, "facilitator_unreachable", "unreachable");
    // The companion's relay reports whether a facilitator's reply is a verdict, not what is wrong with the
    // reply.
    let broken = |mode| fails("20", mode).unverified(503, "facilitator_error", "http_error");
    let busy = |mode| fails("20", mode).unverified(503, "facilitator_overloaded", "http_error");
    vec![
        unreachable("reset"),
        unreachable("truncated"),
        unreachable("hang"),
        broken("http_500"),
        busy("http_429"),
        busy("success_503"),
        broken("redirect_302"),
        broken("garbage"),
        broken("wrong_types"),
        broken("html_200"),
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
        // The money moved, and the facilitator reports a refusal: that its own transfer failed, or that the
        // nonce is used.
        (BASIC_GOODS, "settled_but:invalid_exact_evm_transaction_failed"),
        (UPFRONT_GOODS, "settled_but:transaction_failed"),
        (BASIC_GOODS, "settled_but:invalid_exact_evm_nonce_already_used"),
    ] {
        cases.extend(open_question(goods, mode));
    }
    cases
}

/// A settlement of unknown outcome, which the companion finds out, and then the same payment again.
fn open_question(goods: Goods, mode: &'static str) -> [Case; 3] {
    let path = goods.path("open");
    [
        case("30", mode).fault("settle", mode).pays(goods, "open").left_open(),
        case("17", &format!("{mode}, found out")).found_settled(goods),
        case("16", &format!("{mode}, the same payment")).again(&path).redeemed(goods),
    ]
}
