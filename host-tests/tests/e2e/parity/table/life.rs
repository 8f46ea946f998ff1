//! Rows 15 to 17: known payments, by their state.

use serde_json::{Value, json};

use super::super::case::{Act, Case, Ledger, case};
use crate::accounting::shop::{BASIC, BASIC_GOODS, MULTI_GOODS, TWIN_GOODS, UPFRONT_GOODS};
use crate::support::now;

/// The facilitator moves the money, and reports a refusal that an earlier call can explain.
const REFUSED_AFTER: &str = "settled_but:invalid_payload";
const ELSEWHERE: &str = "0x00000000000000000000000000000000000000bb";

/// In use, used, owed, fetched.
pub(super) fn used() -> Vec<Case> {
    let mut cases = vec![
        case("15", "under way")
            .pays(BASIC_GOODS, "held/first")
            .act(Act::Begin)
            .reaches(1)
            .asks(&["verify"])
            .ledger(Ledger::Has("verified")),
        case("15", "in use by another request").again("/basic/held/first").replayed(BASIC_GOODS, "in_flight"),
        case("15", "in use for another route").again("/twin/1").replayed(TWIN_GOODS, "other_route"),
    ];
    cases.extend(rivals("in use", "in_flight"));
    cases.extend([
        case("28", "and served").get("/basic/held/first").act(Act::End).served_at_last(),
        case("15", "used").again("/basic/held/first").replayed(BASIC_GOODS, "settled"),
        case("15", "used, in another spelling")
            .again_but("/basic/x", |payment| {
                let signature = &mut payment["payload"]["signature"];
                *signature = json!(signature.as_str().expect("a text").to_uppercase().replace("0X", "0x"));
                payment["added"] = json!("by the buyer");
            })
            .replayed(BASIC_GOODS, "settled"),
        case("15", "used, for another route").again("/twin/1").replayed(TWIN_GOODS, "settled"),
    ]);
    cases.extend(rivals("used", "settled"));
    cases.extend([
        case("16", "settled, and the answer broke off")
            .pays(BASIC_GOODS, "cut")
            .sold(200)
            .and(|answer| !answer.complete)
            .ledger(Ledger::Has("owed"))
            .and_counts(|tally, _| tally.failed_after_charge(BASIC)),
        case("15", "owed, for another route").again("/twin/1").replayed(TWIN_GOODS, "other_route").and(
            |answer| {
                let error = answer.json()["error"].to_string();
                error.contains("/basic/*") && error.contains("shop/basic") && error.contains("0x")
            },
        ),
    ]);
    cases.extend(rivals("owed", "settled"));
    cases.extend([
        case("16", "the answer again, for the same money").again("/basic/instead").redeemed(BASIC_GOODS),
        case("15", "and once only").again("/basic/instead").replayed(BASIC_GOODS, "settled"),
        case("16", "broken off once more")
            .pays(BASIC_GOODS, "cut/again")
            .sold(200)
            .ledger(Ledger::Has("owed"))
            .and_counts(|tally, _| tally.failed_after_charge(BASIC)),
        case("16", "the answer again, which breaks off too")
            .again("/basic/cut/again")
            .redeemed(BASIC_GOODS)
            .and(|answer| !answer.complete)
            .and_counts(|tally, _| tally.failed_after_charge(BASIC)),
        case("15", "there is no third").again("/basic/instead").replayed(BASIC_GOODS, "settled"),
        case("22", "upfront, once").pays(UPFRONT_GOODS, "once").sold(200),
        case("15", "upfront, used").again("/upfront/once").replayed(UPFRONT_GOODS, "settled"),
    ]);
    cases
}

/// A settlement that stays open, with any reply to later calls.
pub(super) fn open() -> Vec<Case> {
    let mut cases = vec![
        case("30", "cut off, and refused ever after")
            .fault_then("settle", "cut_after_headers", REFUSED_AFTER)
            .pays(BASIC_GOODS, "open")
            .left_open(),
        case("17", "refused, which the first call explains").again("/basic/open").still_open(BASIC_GOODS),
        case("17", "open, for another route").again("/twin/1").still_open(TWIN_GOODS),
    ];
    cases.extend(rivals("open", "in_flight").map(Case::asks_at_will));
    cases.extend([
        case("17", "found out at last").fault("settle", "none").found_settled(BASIC_GOODS),
        case("16", "the same payment").again("/basic/open").redeemed(BASIC_GOODS),
    ]);
    cases
}

/// Other authorizations of the nonce of the latest payment, which is for `basic`: nothing is charged for them, and
/// the payment does not change.
fn rivals(what: &str, state: &'static str) -> [Case; 5] {
    let rival = |name, goods| case("15", &format!("{what}, {name}")).rivals(goods, "rival");
    [
        rival("another amount", BASIC_GOODS)
            .signed(|terms| terms["amount"] = json!("2000"))
            .replayed(BASIC_GOODS, state),
        rival("another recipient", BASIC_GOODS)
            .signed(|terms| terms["payTo"] = json!(ELSEWHERE))
            .replayed(BASIC_GOODS, state),
        rival("another window", BASIC_GOODS)
            .window(|window| window.valid_before += 1)
            .replayed(BASIC_GOODS, state),
        rival("a signature only a facilitator could read", BASIC_GOODS)
            .spoilt(with_junk)
            .replayed(BASIC_GOODS, state),
        rival("for what costs more", UPFRONT_GOODS).replayed(UPFRONT_GOODS, state),
    ]
}

/// A signature that no wallet made, and that only the facilitator can check.
pub(super) fn junk() -> Vec<Case> {
    let junk = |name, goods| case("21", name).pays(goods, "junk").spoilt(with_junk);
    vec![
        junk("junk for a signature", BASIC_GOODS).unverified(402, "payment_invalid", "refused"),
        // Nothing is settled for this payment.
        junk("junk for a signature, upfront", UPFRONT_GOODS).unverified(402, "payment_invalid", "refused"),
    ]
}

fn with_junk(payment: &mut Value) {
    payment["payload"]["signature"] = json!(format!("0x{}", "ab".repeat(70)));
}

/// Payments with a named purchase.
pub(super) fn purchases() -> Vec<Case> {
    vec![
        case("28", "a purchase with a name").pays(MULTI_GOODS, "named").spoilt(named).sold(200),
        case("15", "the same purchase, with another payment")
            .pays(MULTI_GOODS, "named")
            .spoilt(named)
            .paid_by_another()
            .and(|answer| answer.json()["error"].to_string().contains("0x")),
        case("28", "the name of a purchase of something else")
            .pays(UPFRONT_GOODS, "named")
            .spoilt(named)
            .sold(200),
        case("28", "no name, as before").pays(MULTI_GOODS, "named").sold(200),
    ]
}

fn named(payment: &mut Value) {
    payment["extensions"]["payment-identifier"] =
        json!({ "info": { "required": false, "id": "pay_0123456789abcdef0123456789abcdef" } });
}

/// Payments whose window closes before they are delivered. One of them stays open, so these cases come last.
pub(super) fn late() -> Vec<Case> {
    vec![
        case("14", "its window closed, and it is new")
            .pays(BASIC_GOODS, "late")
            .window(|window| window.valid_before = now() + 2)
            .refused_as_new(BASIC_GOODS, "payment_invalid")
            .of_the_moment(),
        case("16", "owed")
            .pays(BASIC_GOODS, "cut/late")
            .window(closing)
            .sold(200)
            .ledger(Ledger::Has("owed"))
            .and_counts(|tally, _| tally.failed_after_charge(BASIC))
            .of_the_moment(),
        case("16", "owed, and its window closed")
            .closed()
            .again("/basic/late")
            .redeemed(BASIC_GOODS)
            .of_the_moment(),
        case("15", "used, and its window closed")
            .again("/basic/late")
            .replayed(BASIC_GOODS, "settled")
            .of_the_moment(),
        case("30", "open")
            .fault_then("settle", "cut_after_headers", REFUSED_AFTER)
            .pays(BASIC_GOODS, "late")
            .window(closing)
            .left_open()
            .of_the_moment(),
        case("17", "open, and its window closed")
            .closed()
            .again("/basic/late")
            .still_open(BASIC_GOODS)
            .of_the_moment(),
    ]
}

/// Long enough to be taken, with some time for a slow machine.
fn closing(window: &mut farebox_testkit::wallet::Window) {
    window.valid_before = now() + 12;
}
