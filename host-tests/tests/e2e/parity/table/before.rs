//! Rows 1 to 10: decisions before any payment is read.

use farebox_testkit::stack::Shell;

use super::super::case::{Case, case};
use super::super::form::Form;
use crate::accounting::shop::{BASIC, BASIC_GOODS, MULTI, OBOL, UNNAMED, UPFRONT};
use crate::common::text;
use crate::support::{PAYMENT, X_PAYMENT};

/// Row 1, and row 4 with `unmatched: pass`.
pub(in super::super) fn facilitator_not_ready() -> Vec<Case> {
    vec![
        case("1", "terms need nothing of a facilitator").get("/basic/1").challenged(BASIC, Form::Terms),
        case("1", "a payment does, and no other is asked for")
            .pays(BASIC_GOODS, "unknown")
            .unverified(503, "facilitator_unreachable", "unreachable")
            .asks(&[]),
        case("6", "what is free is served all the same").get("/free/sample").passes(200),
        // Farebox publishes no router for such paths: in Traefik the operator needs an own router.
        case("4", "what nobody sells passes, where it may")
            .get("/nowhere?a=%2F&b")
            .passes(200)
            .answers_itself(Shell::Traefik, 404),
        case("3", "but not below what is sold").get("/unnamed/below").blocked(403, "protected_prefix", ""),
        case("2", "nor ambiguously")
            .get("/nowhere/%2541")
            .blocked(400, "ambiguous_path", "")
            .answers_itself(Shell::Traefik, 404),
    ]
}

/// Rows 2 to 9.
pub(super) fn payment_stage() -> Vec<Case> {
    vec![
        case("2", "encoded twice")
            .get("/basic/%2541")
            .blocked(400, "ambiguous_path", "")
            .answers_itself(Shell::Traefik, 400),
        case("2", "no text").get("/basic/%ff").blocked(400, "ambiguous_path", ""),
        case("2", "free, and encoded twice")
            .get("/free/%2561")
            .blocked(400, "ambiguous_path", "")
            .answers_itself(Shell::Traefik, 400),
        case("3", "below an exact route").get("/unnamed/below").blocked(403, "protected_prefix", ""),
        case("3", "in other letters").get("/BASIC/1").blocked(403, "protected_prefix", ""),
        case("4", "nothing is there").get("/nowhere").blocked(404, "unmatched", ""),
        case("4", "the root").get("/").blocked(404, "unmatched", ""),
        case("4", "a longer name").get("/basics/1").blocked(404, "unmatched", ""),
        case("5", "a route left out at load").get("/broken/1").blocked_as(
            403,
            "route_misconfigured",
            "broken",
            "route_skipped",
        ),
        case("6", "free").get("/free/sample?q=1").passes(200).and(|answer| {
            let echo = answer.json();
            (&echo["path"], &echo["query"]) == (&"/free/sample".into(), &"q=1".into())
        }),
        case("6", "free, with a payment and forged names of a payer")
            .pays(BASIC_GOODS, "")
            .get("/free/sample")
            .header("x-payment-payer", "0xforged")
            .header("X-Verified-Wallet", "0xforged")
            .header("x-obol-upstream-auth", "forged")
            .passes(200)
            .and(|answer| {
                let seen = answer.json()["headers"].to_string();
                !["forged", "x-payment", "payment-signature"].iter().any(|name| seen.contains(name))
            }),
        case("6", "free, 100 kB sent")
            .get("/free/upload")
            .by("POST")
            .body(100_000)
            .passes(200)
            .and(|answer| answer.json()["bodyBytes"] == 100_000),
        case("7", "for members").get("/member/1").blocked_as(
            403,
            "auth_gate_unsupported",
            "member",
            "auth_unsupported",
        ),
        case("8", "an upgrade nobody could pay for").get("/basic/socket").upgrade().blocked_as(
            501,
            "upgrade_unsupported",
            "basic",
            "upgrade_refused",
        ),
        case("9", "a preflight")
            .get("/basic/preflight")
            .by("OPTIONS")
            .header("origin", "https://shop.example")
            .header("access-control-request-method", "GET")
            .passes(204)
            .reaches(0)
            .and(|answer| answer.body.is_empty() && answer.header("access-control-allow-origin").is_none()),
    ]
}

/// Row 10.
pub(super) fn no_payment() -> Vec<Case> {
    let ask = |name, path| case("10", name).get(path);
    vec![
        ask("no payment", "/basic/1").challenged(BASIC, Form::Terms).and(|answer| {
            let body = answer.json();
            body["resource"]["url"] == "https://shop.example/basic/1"
                && body["accepts"][0]["maxAmountRequired"] == "1000"
        }),
        ask("a query is part of the resource", "/basic/1?a=b&c=%2F")
            .challenged(BASIC, Form::Terms)
            .and(|answer| answer.json()["resource"]["url"] == "https://shop.example/basic/1?a=b&c=%2F"),
        ask("several ways to pay", "/multi/1").challenged(MULTI, Form::Terms).and(|answer| {
            answer.decoded("payment-required")["accepts"].as_array().is_some_and(|all| all.len() == 2)
        }),
        ask("payment first", "/upfront/1").challenged(UPFRONT, Form::Terms).and(|answer| {
            answer.decoded("payment-required")["accepts"][0]["extra"]["paymentFlow"] == "upfront"
        }),
        ask("a permit", "/obol/1")
            .challenged(OBOL, Form::Terms)
            .and(|answer| answer.json()["extensions"]["eip2612GasSponsoring"].is_object()),
        ask("an exact route", "/unnamed").challenged(UNNAMED, Form::Terms),
        ask("an empty header is none", "/basic/1").header(X_PAYMENT, "").challenged(BASIC, Form::Terms),
        ask("two empty headers", "/basic/1")
            .header(X_PAYMENT, "")
            .header(PAYMENT, "")
            .challenged(BASIC, Form::Terms),
        ask("another method", "/basic/1").by("DELETE").challenged(BASIC, Form::Terms),
        ask("100 kB that nobody reads", "/basic/1").by("POST").body(100_000).challenged(BASIC, Form::Terms),
        ask("a browser", "/basic/page")
            .header("accept", "text/html,*/*;q=0.8")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
            .challenged(BASIC, Form::Page)
            .and(|answer| text(&answer.body).contains("<html")),
        ask("a browser's script", "/basic/page")
            .header("accept", "application/json")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
            .challenged(BASIC, Form::Terms),
        ask("HEAD", "/basic/1").by("HEAD").challenged(BASIC, Form::Head),
        head_with_payment(),
        ask("an upgrade that could be paid for", "/upfront/socket")
            .upgrade()
            .challenged(UPFRONT, Form::Terms),
    ]
}

/// HEAD buys nothing: the payment is not read, so a charged payment gets no price.
fn head_with_payment() -> Case {
    case("10", "HEAD with a payment").pays(BASIC_GOODS, "1").by("HEAD").buys_nothing(BASIC_GOODS)
}
