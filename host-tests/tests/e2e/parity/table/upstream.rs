//! Rows 23 to 27 and 31 to 34: upstreams that fail or stream, and clients that leave.

use super::super::case::{Act, Case, Ledger, case};
use super::super::expectations::Unsold;
use super::super::form::Form;
use crate::accounting::shop::{BASIC, BASIC_GOODS, MULTI_ON_BASE_GOODS, UPFRONT, UPFRONT_GOODS};
use crate::common::{Answer, text};

/// Rows 23 to 27, and row 34 for payments that were settled first.
pub(super) fn failing() -> Vec<Case> {
    let failed =
        |case: Case, status| case.not_charged(BASIC_GOODS, status, Form::Upstream, Unsold::UpstreamFailed);
    let redirected = |name, path, status| {
        case("27", name).again(path).not_charged(BASIC_GOODS, status, Form::Upstream, Unsold::Redirect)
    };
    vec![
        case("23", "the connection breaks").pays(BASIC_GOODS, "close").not_charged(
            BASIC_GOODS,
            502,
            Form::Error("upstream_unavailable"),
            Unsold::UpstreamFailed,
        ),
        // A failed request is not charged, so one payment is enough for all of these.
        failed(case("24", "not found").again("/basic/status/404"), 404),
        failed(case("24", "a 402 of its own").again("/basic/status/402"), 402),
        failed(case("24", "too many").again("/basic/status/429"), 429),
        failed(case("24", "its own error").again("/basic/status/500"), 500),
        case("24", "second option").pays(MULTI_ON_BASE_GOODS, "status/503").not_charged(
            MULTI_ON_BASE_GOODS,
            503,
            Form::Upstream,
            Unsold::UpstreamFailed,
        ),
        case("26", "switches protocols unasked").pays(BASIC_GOODS, "socket").not_charged(
            BASIC_GOODS,
            502,
            Form::Error("upstream_unavailable"),
            Unsold::UpstreamFailed,
        ),
        redirected("moved", "/basic/redirect", 302),
        redirected("moved for now", "/basic/status/307", 307),
        redirected("not modified", "/basic/status/304", 304),
        case("28", "at last").again("/basic/at-last").sold_again(BASIC_GOODS, 200),
    ]
}

/// Row 34: settled first, and not answered. The money buys an answer, which can be fetched until there is one.
pub(super) fn failing_after_the_charge() -> Vec<Case> {
    let failed = |name, rest, status| case("34", name).pays(UPFRONT_GOODS, rest).sold(status);
    let fetched =
        |name| case("16", &format!("{name}, and fetched")).again("/upfront/fetched").redeemed(UPFRONT_GOODS);
    let used = |name| {
        let case = case("15", &format!("{name}, and fetched once"));
        case.again("/upfront/fetched").replayed(UPFRONT_GOODS, "settled").ledger(Ledger::Has("delivered"))
    };
    let lost = Form::Error("upstream_unavailable");
    vec![
        failed("not found", "status/404", 404).owed(UPFRONT_GOODS),
        fetched("not found"),
        used("not found"),
        failed("an error", "status/503", 503).owed(UPFRONT_GOODS),
        case("34", "an error, and another").again("/upfront/status/500").still_owed(UPFRONT_GOODS, 500),
        fetched("an error"),
        used("an error"),
        failed("moved", "redirect", 302).ledger(Ledger::Has("owed")).and(tells_it_is_owed),
        fetched("moved"),
        failed("switches protocols unasked", "socket", 502).form(lost).owed(UPFRONT_GOODS),
        fetched("switched protocols"),
        failed("the connection breaks", "close", 502).form(lost).owed(UPFRONT_GOODS),
        fetched("the connection broke"),
        used("the connection broke"),
    ]
}

/// Rows 25 and 33.
pub(super) fn streaming() -> Vec<Case> {
    vec![
        case("33", "events").pays(BASIC_GOODS, "events/3").sold(200).and(has_three_events),
        case("33", "events, settled first").pays(UPFRONT_GOODS, "events/3").sold(200).and(has_three_events),
        case("25", "hints before the answer").pays(BASIC_GOODS, "hints").sold(200),
        case("25", "hints before what is free").get("/free/hints").passes(200),
        expecting(),
    ]
}

fn tells_it_is_owed(answer: &Answer) -> bool {
    answer.header("x-payment-owed").is_some()
}

fn has_three_events(answer: &Answer) -> bool {
    text(&answer.body).matches("data: ").count() == 3
}

/// A client that waits for `100 Continue` before its body. The 100 settles nothing.
fn expecting() -> Case {
    let case = case("25", "leave to go on").pays(BASIC_GOODS, "upload").header("expect", "100-continue");
    case.by("POST").body(1_000).sold(200).and(|answer| answer.json()["bodyBytes"] == 1_000)
}

/// Rows 31 and 32.
pub(super) fn clients_that_leave() -> Vec<Case> {
    vec![
        case("31", "while the facilitator verifies")
            .fault("verify", "slow:700")
            .pays(BASIC_GOODS, "verifying")
            .act(Act::LeaveAt("verify"))
            .asks(&["verify"])
            .and_counts(|tally, _| {
                tally.refused(BASIC, BASIC, "client_disconnected");
            })
            .ledger(Ledger::Free),
        case("31", "while the upstream works")
            .pays(BASIC_GOODS, "hang")
            .act(Act::LeaveAtUpstream)
            .reaches(1)
            .asks(&["verify"])
            .and_counts(|tally, _| {
                tally.call("verify", "success");
                tally.refused(BASIC, BASIC, "client_disconnected");
            })
            .ledger(Ledger::Free),
        case("28", "and comes back").again("/basic/back").sold_again(BASIC_GOODS, 200),
        case("31", "while the upstream works, settled first")
            .pays(UPFRONT_GOODS, "hang")
            .act(Act::LeaveAtUpstream)
            .reaches(1)
            .ledger(Ledger::Has("owed"))
            .asks(&["verify", "settle"])
            .and_counts(|tally, at| {
                tally.call("verify", "success");
                tally.call("settle", "success");
                tally.sold(UPFRONT, UPFRONT, UPFRONT_GOODS.amount, at);
            }),
        case("16", "and comes back, once").again("/upfront/back").redeemed(UPFRONT_GOODS),
        case("15", "and not twice").again("/upfront/back").replayed(UPFRONT_GOODS, "settled"),
        // The companion still gets the end of the settlement.
        case("32", "while the facilitator settles")
            .fault("settle", "slow:700")
            .pays(BASIC_GOODS, "settling")
            .act(Act::LeaveAt("settle"))
            .reaches(1)
            .ledger(Ledger::Has("owed"))
            .asks(&["verify", "settle"])
            .and_counts(|tally, at| {
                tally.call("verify", "success");
                tally.refused(BASIC, BASIC, "client_disconnected");
                tally.opened(BASIC);
                tally.settled_late(BASIC, BASIC_GOODS.amount, at);
            }),
        case("16", "and comes back for what it paid").again("/basic/settling").redeemed(BASIC_GOODS),
    ]
}
