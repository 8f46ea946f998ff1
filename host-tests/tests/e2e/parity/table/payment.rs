//! Rows 11 to 16 and 28: payments, good and bad.

use farebox_testkit::wallet::Wallet;
use serde_json::{Value, json};

use super::super::case::{Act, Case, case};
use crate::accounting::shop::{
    BASIC_GOODS, Goods, MULTI_GOODS, MULTI_ON_BASE_GOODS, OBOL_GOODS, TWIN_GOODS, UNNAMED_GOODS,
    UPFRONT_GOODS,
};
use crate::support::{PAYMENT, X_PAYMENT};

const ELSEWHERE: &str = "0x00000000000000000000000000000000000000bb";

/// Row 12.
pub(super) fn no_payment_at_all() -> Vec<Case> {
    let too_long = "A".repeat(49 * 1024);
    let header = |name, header, value: &str| {
        case("12", name).get("/basic/1").header(header, value).malformed(BASIC_GOODS)
    };
    vec![
        header("not base64", PAYMENT, "not base64!"),
        header("not base64, version 1", X_PAYMENT, "not base64!"),
        header("base64 of URLs", PAYMENT, "eyJ4IjoiLV8-Pz8_In0-_"),
        header("not JSON", PAYMENT, "bm90IGpzb24="),
        header("a list", PAYMENT, "W10="),
        header("nothing in it", PAYMENT, "e30="),
        header("too long", PAYMENT, &too_long),
        case("12", "of a version to come")
            .pays(BASIC_GOODS, "1")
            .spoilt(|payment| payment["x402Version"] = json!(3))
            .malformed(BASIC_GOODS),
        case("12", "twice").pays(BASIC_GOODS, "1").copies(2).malformed(BASIC_GOODS),
        case("12", "twice, version 1").pays(BASIC_GOODS, "1").v1().copies(2).malformed(BASIC_GOODS),
    ]
}

/// Rows 13 and 14.
pub(super) fn bad() -> Vec<Case> {
    let no_match = |name, goods: Goods| case("13", name).pays(goods, "bad");
    let invalid = |name, goods: Goods| case("14", name).pays(goods, "bad");
    let (none, bad) = ("no_matching_requirement", "payment_invalid");
    vec![
        no_match("another amount", BASIC_GOODS)
            .signed(|terms| terms["amount"] = json!("999"))
            .accepted(|terms| terms["amount"] = json!("999"))
            .refused_as_new(BASIC_GOODS, none),
        no_match("another recipient", BASIC_GOODS)
            .signed(|terms| terms["payTo"] = json!(ELSEWHERE))
            .accepted(|terms| terms["payTo"] = json!(ELSEWHERE))
            .refused_as_new(BASIC_GOODS, none),
        no_match("a chain nobody takes here", BASIC_GOODS)
            .accepted(|terms| terms["network"] = json!("eip155:1"))
            .refused(BASIC_GOODS, none),
        no_match("another flow", UPFRONT_GOODS)
            .accepted(|terms| terms["extra"]["paymentFlow"] = json!("authorization"))
            .refused_as_new(UPFRONT_GOODS, none),
        no_match("another token", BASIC_GOODS)
            .accepted(|terms| terms["asset"] = json!(ELSEWHERE))
            .refused(BASIC_GOODS, none),
        no_match("no version 1 name of that chain", BASIC_GOODS)
            .v1()
            .spoilt(|payment| payment["network"] = json!("base"))
            .refused(BASIC_GOODS, none),
        invalid("signed for less", BASIC_GOODS)
            .signed(|terms| terms["amount"] = json!("999"))
            .refused_as_new(BASIC_GOODS, bad),
        invalid("signed for somebody else", BASIC_GOODS)
            .signed(|terms| terms["payTo"] = json!(ELSEWHERE))
            .refused_as_new(BASIC_GOODS, bad),
        invalid("signed by somebody else", BASIC_GOODS)
            .signed_by(1)
            .spoilt(from_the_rich)
            .refused(BASIC_GOODS, bad),
        invalid("signed by somebody else, version 1", BASIC_GOODS)
            .v1()
            .signed_by(1)
            .spoilt(from_the_rich)
            .refused(BASIC_GOODS, bad),
        invalid("signed by somebody else, second option", MULTI_ON_BASE_GOODS)
            .signed_by(1)
            .spoilt(from_the_rich)
            .refused(MULTI_ON_BASE_GOODS, bad),
        invalid("a permit signed by somebody else", OBOL_GOODS)
            .signed_by(1)
            .spoilt(from_the_rich)
            .refused(OBOL_GOODS, bad),
        invalid("signed by somebody else, upfront", UPFRONT_GOODS)
            .signed_by(1)
            .spoilt(from_the_rich)
            .refused(UPFRONT_GOODS, bad),
        invalid("a nonce nobody signed", BASIC_GOODS)
            .spoilt(|payment| {
                payment["payload"]["authorization"]["nonce"] = json!(format!("0x{}", "07".repeat(32)))
            })
            .refused(BASIC_GOODS, bad),
        invalid("too late", BASIC_GOODS)
            .window(|window| window.valid_before = window.valid_after + 1)
            .refused_as_new(BASIC_GOODS, bad),
        invalid("too early", BASIC_GOODS)
            .window(|window| window.valid_after += 400)
            .refused_as_new(BASIC_GOODS, bad),
    ]
}

/// Row 28.
pub(super) fn good() -> Vec<Case> {
    let sold = |name, goods: Goods, rest| case("28", name).pays(goods, rest);
    vec![
        sold("version 2", BASIC_GOODS, "1?who=me").sold(200).and(|answer| {
            let echo = answer.json();
            let headers = echo["headers"].to_string();
            let payer = Wallet::development().address().to_string().to_lowercase();
            headers.to_lowercase().contains(&payer)
                && !headers.contains("payment-signature")
                && echo["query"] == "who=me"
                && answer.header("cache-control").is_some_and(|value| value.contains("private"))
        }),
        sold("version 2 in the header of version 1", BASIC_GOODS, "2").in_header(X_PAYMENT).sold(200),
        sold("version 1", BASIC_GOODS, "3").v1().sold(200),
        sold("the first of two ways to pay", MULTI_GOODS, "1").sold(200),
        sold("the second of two ways to pay", MULTI_ON_BASE_GOODS, "1").sold(200),
        sold("a permit", OBOL_GOODS, "1").sold(200),
        sold("the same terms on another route", TWIN_GOODS, "1").sold(200),
        sold("an exact route without a name", UNNAMED_GOODS, "").sold(200),
        sold("a path that is put in plain form", BASIC_GOODS, "/x/%61")
            .sold(200)
            .and(|answer| answer.json()["path"] == "/basic/x/a"),
        sold("no content", BASIC_GOODS, "empty").sold(204),
        sold("compressed", BASIC_GOODS, "gzip")
            .header("accept-encoding", "gzip")
            .sold(200)
            .and(|answer| answer.header("content-encoding").as_deref() == Some("gzip")),
        sold("an upstream that asks caches to keep it", BASIC_GOODS, "cacheable")
            .sold(200)
            .and(|answer| answer.header("cache-control").is_some_and(|value| value.contains("private"))),
        sold("receipts of the upstream's own making", BASIC_GOODS, "forge")
            .sold(200)
            .and(|answer| answer.headers.iter().all(|(_, value)| value != b"Zm9yZ2Vk")),
        sold("20 MB", BASIC_GOODS, "large").sold(200).and(|answer| answer.body.len() == 20_000_000),
        posted(),
        sold("a name of a payer that is not the payer's", BASIC_GOODS, "named")
            .header("x-payment-payer", "0xforged")
            .sold(200)
            .and(|answer| {
                !answer.json()["headers"].to_string().contains("[\"x-payment-payer\",\"0xforged\"]")
            }),
        case("22", "upfront").pays(UPFRONT_GOODS, "1").sold(200),
        case("22", "a WebSocket").pays(UPFRONT_GOODS, "socket").upgrade().act(Act::Talk).sold(101),
    ]
}

fn posted() -> Case {
    let case = case("28", "100 kB sent").pays(BASIC_GOODS, "upload").by("POST").body(100_000).sold(200);
    case.and(|answer| answer.json()["bodyBytes"] == 100_000)
}

pub(super) fn from_the_rich(payment: &mut Value) {
    let payload = &mut payment["payload"];
    let signed = if payload["authorization"].is_object() { "authorization" } else { "permit2Authorization" };
    payload[signed]["from"] = json!(Wallet::development().address().to_string());
}
