//! Rules that change.

use super::super::case::{Case, case};
use super::super::form::Form;
use crate::accounting::shop::{BASIC, BASIC_GOODS};

/// Prices, routes and offers change, and payments signed before.
pub(super) fn rules_that_change() -> Vec<Case> {
    vec![
        case("13", "signed for the old price")
            .pays(BASIC_GOODS, "repriced")
            .pricing(|text| text.replace("/basic/*, price: 0.001", "/basic/*, price: 0.002"))
            .refused(BASIC_GOODS, "no_matching_requirement")
            .and(|answer| answer.json()["accepts"][0]["amount"] == "2000"),
        case("28", "the old price again, and the same payment")
            .pricing(|text| text.replace("/basic/*, price: 0.002", "/basic/*, price: 0.001"))
            .again("/basic/repriced")
            .sold_again(BASIC_GOODS, 200),
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
