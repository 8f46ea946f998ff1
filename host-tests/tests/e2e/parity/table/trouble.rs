//! Rows 18 and 23: an upstream that does not answer in time, and a ledger that cannot be written.

use super::super::case::{Case, Ledger, case};
use super::super::expectations::Unsold;
use super::super::form::Form;
use super::payment::from_the_rich;
use crate::accounting::shop::{BASIC, BASIC_GOODS, UPFRONT_GOODS};

/// An upstream has a second to answer. The database becomes unreachable, and reachable again.
pub(in super::super) fn upstream_and_ledger() -> Vec<Case> {
    vec![
        case("28", "before").pays(BASIC_GOODS, "before").sold(200),
        case("23", "no answer in time").pays(BASIC_GOODS, "hang").not_charged(
            BASIC_GOODS,
            504,
            Form::Error("upstream_unavailable"),
            Unsold::UpstreamFailed,
        ),
        case("34", "settled, and no answer in time")
            .pays(UPFRONT_GOODS, "hang")
            .sold(504)
            .form(Form::Error("upstream_unavailable"))
            .owed(UPFRONT_GOODS),
        case("16", "and fetched").again("/upfront/fetched").redeemed(UPFRONT_GOODS),
        case("18", "a payment nobody can write down")
            .ledger_is(false)
            .pays(BASIC_GOODS, "unwritten")
            .unguarded(),
        case("18", "upfront").pays(UPFRONT_GOODS, "unwritten").unguarded(),
        case("10", "terms are told").get("/basic/1").challenged(BASIC, Form::Terms),
        // The payment may be charged already.
        case("18", "authentic, and signed for less")
            .pays(BASIC_GOODS, "wrong")
            .signed(|terms| terms["amount"] = "1".into())
            .unguarded(),
        case("14", "what is plainly wrong is refused")
            .pays(BASIC_GOODS, "wrong")
            .signed_by(1)
            .spoilt(from_the_rich)
            .refused(BASIC_GOODS, "payment_invalid"),
        case("6", "what is free is served").get("/free/sample").passes(200),
        case("28", "afterwards").ledger_is(true).pays(BASIC_GOODS, "after").sold(200).ledger(Ledger::Unasked),
    ]
}
