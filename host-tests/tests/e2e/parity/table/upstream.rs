//! Rows 23 to 27 and 31 to 34: upstreams that fail or stream, and clients that leave.

use super::super::case::{Act, Case, Ledger, case};
use super::super::expectations::{Settled, Unsold};
use super::super::form::Form;
use crate::accounting::shop::{BASIC, BASIC_GOODS, MULTI_ON_BASE_GOODS, UPFRONT, UPFRONT_GOODS};
use crate::common::{Answer, text};

/// Rows 23 to 27, and 34 of what was settled first.
pub(super) fn failing() -> Vec<Case> {
    let failed =
        |case: Case, status| case.not_charged(BASIC_GOODS, status, Form::Upstream, Unsold::UpstreamFailed);
    let redirected = |name, path, status| {
        case("27", name).again(path).not_charged(BASIC_GOODS, status, Form::Upstream, Unsold::Redirect)
    };
    let upfront = |name, rest, status| {
        case("34", name)
            .pays(UPFRONT_GOODS, rest)
            .sold_upfront(status)
            .and_counts(|tally, _| tally.failed_after_charge(UPFRONT))
    };
    vec![
        case("23", "the connection breaks").pays(BASIC_GOODS, "close").not_charged(
            BASIC_GOODS,
            502,
            Form::Error("upstream_unavailable"),
            Unsold::UpstreamFailed,
        ),
        // What failed is not charged, so one payment survives all of these.
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
        case("27", "settled first, and moved").pays(UPFRONT_GOODS, "redirect").sold_upfront(302),
        upfront("settled, and not found", "status/404", 404),
        upfront("settled, and an error", "status/500", 500),
        upfront("settled, and switches protocols unasked", "socket", 502)
            .form(Form::Error("upstream_unavailable")),
        upfront("settled, and the connection breaks", "close", 502).form(Form::Error("upstream_unavailable")),
    ]
}

/// Rows 25 and 33.
pub(super) fn streaming() -> Vec<Case> {
    vec![
        case("33", "events").pays(BASIC_GOODS, "events/3").sold(200).and(has_three_events),
        case("33", "events, settled first")
            .pays(UPFRONT_GOODS, "events/3")
            .sold_upfront(200)
            .and(has_three_events),
        case("25", "hints before the answer").pays(BASIC_GOODS, "hints").sold(200),
        case("25", "hints before what is free").get("/free/hints").passes(200),
        expecting(),
    ]
}

fn has_three_events(answer: &Answer) -> bool {
    text(&answer.body).matches("data: ").count() == 3
}

/// A client that waits for leave to send its body. The 100 it gets settles nothing.
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
                tally.call("verify", "unreachable");
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
            .ledger(Ledger::Has("settled"))
            .asks(&["settle"])
            .and_counts(|tally, at| {
                tally.call("settle", "success");
                tally.sold(UPFRONT, UPFRONT, UPFRONT_GOODS.amount, at);
            }),
        // The companion hears the end of it all the same.
        case("32", "while the facilitator settles")
            .fault("settle", "slow:700")
            .pays(BASIC_GOODS, "settling")
            .act(Act::LeaveAt("settle"))
            .reaches(1)
            .ledger(Ledger::Unasked)
            .asks(&["verify", "settle"])
            .and_counts(|tally, at| {
                tally.call("verify", "success");
                tally.call("settle", "unreachable");
                tally.refused(BASIC, BASIC, "settlement_failed");
                tally.opened(BASIC);
                tally.settled_late(BASIC, BASIC_GOODS.amount, at);
            }),
        case("16", "and comes back for what it paid")
            .again("/basic/settling")
            .redeemed(BASIC_GOODS, Settled::ByTheRelay),
    ]
}
