//! Rules that change.

use super::super::case::{Act, Case, Ledger, case};
use super::super::form::Form;
use crate::accounting::shop::{BASIC, BASIC_GOODS, Goods, TWIN, TWIN_GOODS};
use crate::accounting::tally::Tuple;

/// The name of `twin` for a while.
const PAIR: Tuple = Tuple::new("pair", "eip155:84532", "USDC");
const PAIR_GOODS: Goods = Goods { primary: PAIR, tuple: PAIR, ..TWIN_GOODS };
/// A settlement that stays open until the facilitator says otherwise.
const OPEN: [&str; 3] = ["settle", "cut_after_headers", "settled_but:invalid_payload"];

/// Prices, routes and offers change, and payments signed before.
pub(super) fn rules_that_change() -> Vec<Case> {
    let [settle, cut, refused] = OPEN;
    let dearer = |text: &str| text.replace("/basic/*, price: 0.001", "/basic/*, price: 0.002");
    let as_before = |text: &str| text.replace("/basic/*, price: 0.002", "/basic/*, price: 0.001");
    vec![
        case("13", "signed for the old price")
            .pays(BASIC_GOODS, "repriced")
            .pricing(dearer)
            .refused_as_new(BASIC_GOODS, "no_matching_requirement")
            .and(|answer| answer.json()["accepts"][0]["maxAmountRequired"] == "2000"),
        case("28", "the old price again, and the same payment")
            .pricing(as_before)
            .again("/basic/repriced")
            .sold_again(BASIC_GOODS, 200),
        case("30", "open, and the price is about to change")
            .fault_then(settle, cut, refused)
            .pays(BASIC_GOODS, "changes")
            .left_open(),
        case("17", "open, and the price changed")
            .pricing(dearer)
            .again("/basic/changes")
            .still_open(BASIC_GOODS),
        case("17", "found out after the price changed").fault(settle, "none").found_settled(BASIC_GOODS),
        case("16", "owed, and the price changed").again("/basic/changes").redeemed(BASIC_GOODS),
        case("15", "used, and the price changed")
            .again("/basic/changes")
            .replayed(BASIC_GOODS, "settled")
            .and(|answer| answer.json()["accepts"][0]["maxAmountRequired"] == "2000"),
        case("30", "open, and the offer is about to get another name")
            .pricing(as_before)
            .fault_then(settle, cut, refused)
            .pays(TWIN_GOODS, "renamed")
            .left_open(),
        case("17", "open, and the offer has another name")
            .pricing(|text| text.replace("offerName: twin", "offerName: pair"))
            .again("/twin/renamed")
            .and_counts(|tally, _| {
                tally.forget(("shop", "twin"));
                tally.appear(PAIR);
            })
            .still_open(PAIR_GOODS),
        // The series of the old name are not shown any more.
        case("17", "found out after the offer got another name")
            .fault(settle, "none")
            .act(Act::Wait)
            .asks_at_will()
            .ledger(Ledger::Has("owed")),
        case("15", "owed for an offer with another name")
            .again("/twin/renamed")
            .replayed(PAIR_GOODS, "other_route")
            .and(|answer| answer.json()["error"].to_string().contains("shop/twin")),
        case("16", "owed, and the offer is there again")
            .pricing(|text| text.replace("offerName: pair", "offerName: twin"))
            .again("/twin/renamed")
            .and_counts(|tally, _| {
                tally.forget(("shop", "pair"));
                tally.appear(TWIN);
            })
            .redeemed(TWIN_GOODS),
        case("4", "an offer that goes")
            .pricing(|text| {
                text.lines()
                    .filter(|line| !line.contains("/twin/*"))
                    .map(|line| format!("{line}\n"))
                    .collect()
            })
            .get("/twin/1")
            .blocked(404, "unmatched", "")
            .and_counts(|tally, _| tally.forget(("shop", "twin"))),
        case("10", "what stays is sold on").get("/basic/1").challenged(BASIC, Form::Terms),
        case("6", "a route that becomes free")
            .pricing(|text| {
                text.replace(
                    "{ pattern: /member/*, gate: auth, offerNamespace: shop, offerName: member }",
                    "{ pattern: /member/*, gate: free }",
                )
            })
            .get("/member/1")
            .passes(200)
            .and_counts(|tally, _| tally.forget(("shop", "member"))),
        case("4", "a file that cannot be read changes nothing")
            .broken_pricing("routes: [")
            .get("/twin/1")
            .blocked(404, "unmatched", ""),
        case("10", "and what was sold is sold").get("/basic/1").challenged(BASIC, Form::Terms),
    ]
}
