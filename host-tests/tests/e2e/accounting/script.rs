//! The scripted run: every request says what it must be answered and how it must count.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use xtask::payer::{Payer, Window, header_value};
use xtask::stack::Stack;

use super::tally::{PREFIX, Tally, Tuple};
use crate::support::{Answer, Buyer, Facilitator, PAYMENT, X_PAYMENT, now, until};

pub(super) const BASIC: Tuple = Tuple::new("basic", "eip155:84532", "USDC");
pub(super) const TWIN: Tuple = Tuple::new("twin", "eip155:84532", "USDC");
pub(super) const MULTI: Tuple = Tuple::new("multi", "eip155:84532", "USDC");
pub(super) const MULTI_ON_BASE: Tuple = Tuple::new("multi", "eip155:8453", "USDC");
pub(super) const UPFRONT: Tuple = Tuple::new("upfront", "eip155:84532", "USDC");
pub(super) const OBOL: Tuple = Tuple::new("obol", "eip155:84532", "OBOL");
pub(super) const UNNAMED: Tuple = Tuple { namespace: "", name: "", chain: "eip155:84532", symbol: "USDC" };

pub(super) const TUPLES: [Tuple; 7] = [BASIC, TWIN, MULTI, MULTI_ON_BASE, UPFRONT, OBOL, UNNAMED];

/// What is sold. `twin` has the very terms of `basic`.
pub(super) const PRICING: &str = r#"
wallet: "0x00000000000000000000000000000000000000a0"
chain: base-sepolia
routes:
  - { pattern: /basic/*, price: 0.001, payTo: "0x00000000000000000000000000000000000000a1", offerNamespace: shop, offerName: basic }
  - { pattern: /twin/*, price: 0.001, payTo: "0x00000000000000000000000000000000000000a1", offerNamespace: shop, offerName: twin }
  - pattern: /multi/*
    offerNamespace: shop
    offerName: multi
    payments:
      - { price: 0.002, payTo: "0x00000000000000000000000000000000000000a2" }
      - { price: 0.0025, network: base, payTo: "0x00000000000000000000000000000000000000a3" }
      - { price: 0, network: polygon }
  - { pattern: /upfront/*, price: 0.003, paymentFlow: upfront, payTo: "0x00000000000000000000000000000000000000a4", offerNamespace: shop, offerName: upfront }
  - { pattern: /obol/*, price: 7, assetSymbol: OBOL, payTo: "0x00000000000000000000000000000000000000a5", offerNamespace: shop, offerName: obol }
  - { pattern: /unnamed, price: 0.004 }
  - { pattern: /member/*, gate: auth, offerNamespace: shop, offerName: member }
  - { pattern: /broken/*, price: 0, offerNamespace: shop, offerName: broken }
  - { pattern: /free/*, gate: free }
"#;

/// Who is paid, and for what.
pub(super) const RECIPIENTS: [(&str, &[Tuple]); 6] = [
    ("0x00000000000000000000000000000000000000a0", &[UNNAMED]),
    ("0x00000000000000000000000000000000000000a1", &[BASIC, TWIN]),
    ("0x00000000000000000000000000000000000000a2", &[MULTI]),
    ("0x00000000000000000000000000000000000000a3", &[MULTI_ON_BASE]),
    ("0x00000000000000000000000000000000000000a4", &[UPFRONT]),
    ("0x00000000000000000000000000000000000000a5", &[OBOL]),
];

/// One way to pay for one route.
#[derive(Debug, Clone, Copy)]
struct Goods {
    /// The path, or its prefix with the slash.
    route: &'static str,
    primary: Tuple,
    tuple: Tuple,
    amount: u128,
    /// Place in `accepts`.
    option: usize,
}

const BASIC_GOODS: Goods = Goods::of("/basic/", BASIC, 1_000);
const TWIN_GOODS: Goods = Goods::of("/twin/", TWIN, 1_000);
const MULTI_GOODS: Goods = Goods::of("/multi/", MULTI, 2_000);
const MULTI_ON_BASE_GOODS: Goods =
    Goods { route: "/multi/", primary: MULTI, tuple: MULTI_ON_BASE, amount: 2_500, option: 1 };
const UPFRONT_GOODS: Goods = Goods::of("/upfront/", UPFRONT, 3_000);
const OBOL_GOODS: Goods = Goods::of("/obol/", OBOL, 7_000_000_000_000_000_000);
const UNNAMED_GOODS: Goods = Goods::of("/unnamed", UNNAMED, 4_000);

/// What has been delivered is on record when the stream is over, which the client learns a moment earlier.
const STREAM_END: Duration = Duration::from_millis(300);

/// The run.
pub(super) struct Script<'a> {
    stack: &'a Stack,
    buyer: Buyer,
    facilitator: Facilitator,
    pub(super) tally: Tally,
    /// Requests sent.
    pub(super) requests: u64,
    /// Requests the origin must have seen.
    pub(super) reached: u64,
    offers: BTreeMap<&'static str, Vec<Value>>,
}

// === impl Goods ===

impl Goods {
    const fn of(route: &'static str, tuple: Tuple, amount: u128) -> Self {
        Self { route, primary: tuple, tuple, amount, option: 0 }
    }

    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.route)
    }
}

// === impl Script ===

impl<'a> Script<'a> {
    pub(super) fn new(stack: &'a Stack, tally: Tally) -> Self {
        Self {
            stack,
            buyer: Buyer::new(stack, Payer::development()),
            facilitator: Facilitator::of(stack),
            tally,
            requests: 0,
            reached: 0,
            offers: BTreeMap::new(),
        }
    }

    pub(super) async fn play(&mut self) {
        self.look_at_the_prices().await;
        self.ask_without_paying().await;
        self.ask_for_what_is_not_sold().await;
        self.buy_everything().await;
        self.pay_twice().await;
        self.pay_badly().await;
        self.send_headers_that_are_no_payment().await;
        self.meet_failing_upstreams().await;
        self.meet_a_facilitator_that_cannot_verify().await;
        self.meet_a_facilitator_that_cannot_settle().await;
        self.pay_upfront().await;
        self.go_away().await;
        self.lose_a_body_and_get_it_again().await;
        self.sell(BASIC_GOODS, "last").await;
    }

    // --- chapters ---

    async fn look_at_the_prices(&mut self) {
        for (route, path, primary) in [
            ("/basic/", "/basic/1", BASIC),
            ("/twin/", "/twin/1", TWIN),
            ("/multi/", "/multi/1", MULTI),
            ("/upfront/", "/upfront/1", UPFRONT),
            ("/obol/", "/obol/1", OBOL),
            ("/unnamed", "/unnamed", UNNAMED),
        ] {
            self.requests += 1;
            let offers = self.buyer.offers(path).await;
            self.tally.challenged(primary);
            self.offers.insert(route, offers);
        }
    }

    async fn ask_without_paying(&mut self) {
        for number in 0..30 {
            let request = self.buyer.get(&format!("/basic/{number}?n={number}"));
            let answer = self.send(request, 402).await;
            assert_eq!(answer.json()["accepts"][0]["amount"], "1000");
            self.tally.challenged(BASIC);
        }
        for goods in [TWIN_GOODS, MULTI_GOODS, UPFRONT_GOODS, OBOL_GOODS, UNNAMED_GOODS] {
            for _ in 0..3 {
                // An empty header is none.
                let request = self.buyer.get(goods.route).header(X_PAYMENT, "");
                self.send(request, 402).await;
                self.tally.challenged(goods.primary);
            }
        }
        for _ in 0..6 {
            let request = self.buyer.get("/basic/page").header("accept", "text/html,*/*;q=0.8");
            let request = request.header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)");
            let answer = self.send(request, 402).await;
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
            self.tally.challenged(BASIC);
        }
        for paid in [false, true, false, true] {
            let mut request = self.buyer.request(Method::HEAD, "/basic/1");
            if paid {
                request = request.header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
            }
            let answer = self.send(request, 402).await;
            assert!(answer.body.is_empty());
            self.tally.challenged(BASIC);
        }
    }

    async fn ask_for_what_is_not_sold(&mut self) {
        for _ in 0..4 {
            let request = self.buyer.request(Method::OPTIONS, "/basic/preflight");
            let request = request.header("origin", "https://shop.example");
            let request = request.header("access-control-request-method", "GET");
            self.send(request, 200).await;
            self.reached += 1;
        }
        for number in 0..12 {
            let mut request = self.buyer.get("/free/sample").header("x-payment-payer", "0xforged");
            if number % 2 == 0 {
                request = request.header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
            }
            let answer = self.send(request, 200).await;
            let headers = &answer.json()["headers"];
            assert_eq!(
                (&headers["x-payment-payer"], &headers["payment-signature"]),
                (&Value::Null, &Value::Null)
            );
            self.reached += 1;
        }
        let nobody = ("", "");
        for (path, status, offer, reason) in [
            ("/nowhere", 404, nobody, "unmatched"),
            ("/", 404, nobody, "unmatched"),
            ("/basics/1", 404, nobody, "unmatched"),
            ("/unnamed/below", 403, nobody, "protected_prefix"),
            ("/BASIC/1", 403, nobody, "protected_prefix"),
            ("/basic/%2541", 400, nobody, "ambiguous_path"),
            ("/free/%2561", 400, nobody, "ambiguous_path"),
            ("/basic/%ff", 400, nobody, "ambiguous_path"),
            ("/broken/1", 403, ("shop", "broken"), "route_skipped"),
            ("/member/1", 403, ("shop", "member"), "auth_unsupported"),
        ] {
            for paid in [false, true] {
                let mut request = self.buyer.get(path);
                if paid {
                    request = request.header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
                }
                self.send(request, status).await;
                self.tally.blocked(offer, reason);
            }
        }
        for _ in 0..2 {
            let request = self.buyer.get("/basic/socket").header("connection", "upgrade");
            let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
            self.send(request.header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="), 501).await;
            self.tally.blocked(("shop", "basic"), "upgrade_refused");
        }
    }

    async fn buy_everything(&mut self) {
        let mut buyers = JoinSet::new();
        for number in 0..24 {
            let header = if number % 3 == 0 { X_PAYMENT } else { PAYMENT };
            let payment = header_value(&self.payment(BASIC_GOODS));
            let request = self.buyer.get(&format!("/basic/{number}")).header(header, payment);
            buyers.spawn(Answer::to(request));
        }
        for answer in buyers.join_all().await {
            self.requests += 1;
            self.note_sale(BASIC_GOODS, &answer, 200);
        }
        for (goods, rest, status, times) in [
            (MULTI_GOODS, "1", 200, 5),
            (MULTI_ON_BASE_GOODS, "1", 200, 5),
            (TWIN_GOODS, "1", 200, 3),
            (OBOL_GOODS, "1", 200, 4),
            (UNNAMED_GOODS, "", 200, 3),
            (BASIC_GOODS, "empty", 204, 2),
            (BASIC_GOODS, "events/2", 200, 2),
        ] {
            for _ in 0..times {
                let payment = self.payment(goods);
                let answer = self.pay(goods, rest, &payment, status).await;
                self.note_sale(goods, &answer, status);
            }
        }
    }

    async fn pay_twice(&mut self) {
        let used = self.sell(BASIC_GOODS, "once").await;
        tokio::time::sleep(STREAM_END).await;
        for _ in 0..5 {
            let answer = self.pay(BASIC_GOODS, "once", &used, 402).await;
            assert_eq!(answer.receipt(), None);
            self.tally.replayed(BASIC, BASIC, "settled");
        }
        for _ in 0..3 {
            self.pay(TWIN_GOODS, "once", &used, 402).await;
            self.tally.replayed(TWIN, TWIN, "other_route");
        }
    }

    async fn pay_badly(&mut self) {
        let payer = Payer::development().address().to_string();
        for goods in [BASIC_GOODS, BASIC_GOODS, BASIC_GOODS, MULTI_ON_BASE_GOODS, OBOL_GOODS] {
            let thief = Buyer::new(self.stack, Payer::numbered(1));
            let mut forged = thief.payment(self.offer(goods));
            let signed = if goods.tuple == OBOL { "permit2Authorization" } else { "authorization" };
            forged["payload"][signed]["from"] = json!(payer);
            self.pay(goods, "forged", &forged, 402).await;
            self.tally.refused(goods.primary, goods.tuple, "payment_invalid");
        }
        let offer = self.offer(BASIC_GOODS).clone();
        let changed = |member: &str, value: &str| {
            let mut changed = offer.clone();
            changed[member] = json!(value);
            changed
        };
        let elsewhere = changed("payTo", "0x00000000000000000000000000000000000000bb");
        for (accepted, signed, reason) in [
            (&offer, &changed("amount", "999"), "payment_invalid"),
            (&offer, &changed("amount", "999"), "payment_invalid"),
            (&offer, &elsewhere, "payment_invalid"),
            (&changed("amount", "999"), &changed("amount", "999"), "no_matching_requirement"),
            (&changed("network", "eip155:1"), &offer, "no_matching_requirement"),
            (
                &changed("network", "eip155:8453"),
                &changed("network", "eip155:8453"),
                "no_matching_requirement",
            ),
            (&elsewhere, &elsewhere, "no_matching_requirement"),
        ] {
            let payment = self.buyer.payment_of(accepted, signed);
            self.pay(BASIC_GOODS, "bad", &payment, 402).await;
            self.tally.refused(BASIC, BASIC, reason);
        }
        for window in [
            Window { valid_before: now() - 5, ..Window::fresh(60) },
            Window { valid_after: now() + 100, ..Window::fresh(300) },
        ] {
            let payment = Payer::development().pay_v2(&offer, window).expect("it can be signed");
            self.pay(BASIC_GOODS, "untimely", &payment, 402).await;
            self.tally.refused(BASIC, BASIC, "payment_invalid");
        }
    }

    async fn send_headers_that_are_no_payment(&mut self) {
        let good = self.payment(BASIC_GOODS);
        let mut next_version = good.clone();
        next_version["x402Version"] = json!(3);
        let url_safe = header_value(&json!({ "x402Version": 2, "accepted": "\u{fffe}\u{3fff}???>>>" }));
        let url_safe = format!("{}-_", url_safe.trim_end_matches('='));
        let too_long = "A".repeat(49 * 1024);
        for value in [
            "not base64!",
            "bm90IGpzb24=",
            "W10=",
            "e30=",
            url_safe.as_str(),
            too_long.as_str(),
            header_value(&next_version).as_str(),
        ] {
            let request = self.buyer.get("/basic/1").header(PAYMENT, value);
            let answer = self.send(request, 400).await;
            assert_eq!(answer.json()["reason"], "invalid_payment_header");
            self.tally.refused(BASIC, BASIC, "invalid_payment_header");
        }
        for header in [PAYMENT, X_PAYMENT] {
            let value = header_value(&good);
            let request = self.buyer.get("/basic/1").header(header, &value).header(header, &value);
            self.send(request, 400).await;
            self.tally.refused(BASIC, BASIC, "invalid_payment_header");
        }
    }

    async fn meet_failing_upstreams(&mut self) {
        let again = self.payment(BASIC_GOODS);
        for (goods, rest, status) in [
            (BASIC_GOODS, "status/404", 404),
            (BASIC_GOODS, "status/402", 402),
            (BASIC_GOODS, "status/429", 429),
            (BASIC_GOODS, "status/500", 500),
            (MULTI_ON_BASE_GOODS, "status/503", 503),
            (BASIC_GOODS, "close", 502),
            (BASIC_GOODS, "close", 502),
        ] {
            // One payment survives them all: what failed is not charged, so it can be used again.
            let payment = if goods.tuple == BASIC { again.clone() } else { self.payment(goods) };
            let answer = self.pay(goods, rest, &payment, status).await;
            assert_eq!(answer.receipt(), None);
            self.reached += 1;
            self.tally.call("verify", "success");
            self.tally.upstream_failed(goods.primary, goods.tuple);
        }
        for (rest, status) in [("redirect", 302), ("redirect", 302), ("status/307", 307)] {
            let answer = self.pay(BASIC_GOODS, rest, &again, status).await;
            assert_eq!(answer.receipt(), None);
            self.reached += 1;
            self.tally.call("verify", "success");
            self.tally.uncharged(BASIC, BASIC, "redirect");
        }
        let answer = self.pay(BASIC_GOODS, "at-last", &again, 200).await;
        self.note_sale(BASIC_GOODS, &answer, 200);
    }

    async fn meet_a_facilitator_that_cannot_verify(&mut self) {
        let payment = self.payment(BASIC_GOODS);
        for (mode, status, reason, outcome) in [
            ("invalid", 402, "payment_invalid", "refused"),
            ("invalid:invalid_exact_evm_transaction_simulation_failed", 402, "payment_invalid", "refused"),
            ("invalid:permit2_allowance_required", 412, "payment_invalid", "refused"),
            ("http_500", 503, "facilitator_error", "http_error"),
            ("http_429", 503, "facilitator_error", "http_error"),
            ("success_503", 503, "facilitator_error", "http_error"),
            ("redirect_308", 503, "facilitator_error", "http_error"),
            ("garbage", 503, "facilitator_error", "bad_reply"),
            ("wrong_types", 503, "facilitator_error", "bad_reply"),
            ("html_200", 503, "facilitator_error", "bad_reply"),
            ("reset", 503, "facilitator_unreachable", "unreachable"),
            ("truncated", 503, "facilitator_unreachable", "unreachable"),
            ("hang", 503, "facilitator_unreachable", "timeout"),
        ] {
            self.facilitator.fail("verify", mode, 1).await;
            self.pay(BASIC_GOODS, "unverified", &payment, status).await;
            self.tally.call("verify", outcome);
            self.tally.refused(BASIC, BASIC, reason);
        }
        let answer = self.pay(BASIC_GOODS, "verified", &payment, 200).await;
        self.note_sale(BASIC_GOODS, &answer, 200);
    }

    async fn meet_a_facilitator_that_cannot_settle(&mut self) {
        for code in
            ["insufficient_funds", "invalid_exact_evm_insufficient_balance", "invalid_transaction_state"]
        {
            self.facilitator.fail("settle", &format!("invalid:{code}"), 1).await;
            let payment = self.payment(BASIC_GOODS);
            let answer = self.pay(BASIC_GOODS, "refused", &payment, 402).await;
            assert_eq!(answer.receipt(), Some(false));
            self.reached += 1;
            self.tally.call("verify", "success");
            self.tally.call("settle", "refused");
            self.tally.refused(BASIC, BASIC, "settlement_rejected");
        }
        // Each comes out well when the same payment is sent again.
        for (goods, mode, outcomes) in [
            (BASIC_GOODS, "http_500", &["http_error"][..]),
            (OBOL_GOODS, "http_503", &["http_error"]),
            (BASIC_GOODS, "unknown_code", &["bad_reply"]),
            (BASIC_GOODS, "garbage", &["bad_reply"]),
            (BASIC_GOODS, "wrong_network", &["bad_reply"]),
            (MULTI_ON_BASE_GOODS, "success_503", &["http_error"]),
            (BASIC_GOODS, "cut_after_headers", &["unreachable"]),
            (BASIC_GOODS, "success_but_hang", &["timeout"]),
            (BASIC_GOODS, "pending", &["refused", "refused"]),
        ] {
            self.facilitator.fail("settle", mode, outcomes.len() as u64).await;
            let payment = self.payment(goods);
            self.leave_open(goods, &payment, outcomes).await;
            self.reached += 1;
            self.tally.call("verify", "success");
            self.resend(goods, &payment).await;
        }
        for _ in 0..2 {
            self.facilitator.fail("settle", "pending_then_success", 2).await;
            self.sell(BASIC_GOODS, "patient").await;
            self.tally.call("settle", "refused");
        }
        // Nobody comes back for this one.
        self.facilitator.fail("settle", "http_500", 1).await;
        let payment = self.payment(TWIN_GOODS);
        self.leave_open(TWIN_GOODS, &payment, &["http_error"]).await;
        self.reached += 1;
        self.tally.call("verify", "success");
    }

    async fn pay_upfront(&mut self) {
        for (rest, status, failed) in [
            ("1", 200, false),
            ("2", 200, false),
            ("events/2", 200, false),
            ("redirect", 302, false),
            ("status/500", 500, true),
            ("status/404", 404, true),
            ("close", 502, true),
        ] {
            let payment = self.payment(UPFRONT_GOODS);
            let answer = self.pay(UPFRONT_GOODS, rest, &payment, status).await;
            assert_eq!(answer.receipt(), Some(true), "{rest}");
            self.reached += 1;
            self.tally.call("settle", "success");
            self.tally.sold(UPFRONT, UPFRONT, UPFRONT_GOODS.amount, now());
            if failed {
                self.tally.failed_after_charge(UPFRONT);
            }
            // It bought the attempt, whatever came of it.
            self.pay(UPFRONT_GOODS, rest, &payment, 402).await;
            self.tally.replayed(UPFRONT, UPFRONT, "settled");
        }
        self.facilitator.fail("settle", "invalid", 1).await;
        let payment = self.payment(UPFRONT_GOODS);
        self.pay(UPFRONT_GOODS, "refused", &payment, 402).await;
        self.tally.call("settle", "refused");
        self.tally.refused(UPFRONT, UPFRONT, "settlement_rejected");

        self.facilitator.fail("settle", "http_500", 1).await;
        let payment = self.payment(UPFRONT_GOODS);
        self.leave_open(UPFRONT_GOODS, &payment, &["http_error"]).await;
        self.resend(UPFRONT_GOODS, &payment).await;
    }

    async fn go_away(&mut self) {
        for number in 0..3 {
            let path = format!("/basic/hang/{number}");
            let request = self.buyer.get(&path).header(PAYMENT, header_value(&self.payment(BASIC_GOODS)));
            let asking = tokio::spawn(request.send());
            let origin = self.stack.origin().expect("the stack has its own origin");
            until("the origin is asked", async || origin.hits().of(&path) == 1).await;
            asking.abort();
            self.requests += 1;
            self.reached += 1;
            self.tally.call("verify", "success");
            self.tally.refused(BASIC, BASIC, "client_disconnected");
        }

        // The settlement goes on without the client; it is the payment again that shows how it ended.
        let settled_before = self.facilitator.calls("settle").await;
        self.facilitator.fail("settle", "slow:2000", 1).await;
        let payment = self.payment(BASIC_GOODS);
        let asking =
            tokio::spawn(self.buyer.get("/basic/left").header(PAYMENT, header_value(&payment)).send());
        let facilitator = &self.facilitator;
        until("the settlement begins", async || facilitator.calls("settle").await > settled_before).await;
        asking.abort();
        self.requests += 1;
        self.reached += 1;
        self.tally.call("verify", "success");
        self.tally.call("settle", "unreachable");
        self.tally.refused(BASIC, BASIC, "settlement_failed");
        self.tally.opened(BASIC);
        self.metric_reaches("settlements_unresolved", BASIC).await;
        self.resend(BASIC_GOODS, &payment).await;
    }

    async fn lose_a_body_and_get_it_again(&mut self) {
        for _ in 0..2 {
            let payment = self.payment(BASIC_GOODS);
            let answer = self.pay(BASIC_GOODS, "cut", &payment, 200).await;
            assert!(!answer.whole);
            self.note_sale(BASIC_GOODS, &answer, 200);
            self.tally.failed_after_charge(BASIC);
            self.metric_reaches("upstream_failed_after_charge_total", BASIC).await;

            let answer = self.pay(BASIC_GOODS, "instead", &payment, 200).await;
            assert!(answer.whole);
            assert_eq!(answer.receipt(), Some(true));
            self.reached += 1;
            self.tally.uncharged(BASIC, BASIC, "redeemed");
            tokio::time::sleep(STREAM_END).await;
            self.pay(BASIC_GOODS, "instead", &payment, 402).await;
            self.tally.replayed(BASIC, BASIC, "settled");
        }
    }

    // --- steps ---

    async fn send(&mut self, request: RequestBuilder, status: u16) -> Answer {
        self.requests += 1;
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        answer
    }

    async fn pay(&mut self, goods: Goods, rest: &str, payment: &Value, status: u16) -> Answer {
        let request = self.buyer.get(&goods.path(rest)).header(PAYMENT, header_value(payment));
        self.send(request, status).await
    }

    /// A sale as it should be.
    async fn sell(&mut self, goods: Goods, rest: &str) -> Value {
        let payment = self.payment(goods);
        let answer = self.pay(goods, rest, &payment, 200).await;
        self.note_sale(goods, &answer, 200);
        payment
    }

    fn note_sale(&mut self, goods: Goods, answer: &Answer, status: u16) {
        assert_eq!((answer.status, answer.receipt()), (status, Some(true)));
        assert!(answer.header("cache-control").is_some_and(|value| value.contains("private")));
        self.reached += 1;
        self.tally.call("verify", "success");
        self.tally.call("settle", "success");
        self.tally.sold(goods.primary, goods.tuple, goods.amount, now());
    }

    /// A settlement nobody knows the outcome of, after these calls.
    async fn leave_open(&mut self, goods: Goods, payment: &Value, outcomes: &[&str]) {
        let answer = self.pay(goods, "open", payment, 503).await;
        assert_eq!(answer.receipt(), Some(false));
        assert_eq!(answer.header("payment-required"), None, "an open settlement asks for no new payment");
        outcomes.iter().for_each(|outcome| self.tally.call("settle", outcome));
        self.tally.refused(goods.primary, goods.tuple, "settlement_failed");
        self.tally.opened(goods.tuple);
    }

    /// The payment of an open settlement again: it is settled first, then served.
    async fn resend(&mut self, goods: Goods, payment: &Value) {
        let answer = self.pay(goods, "open", payment, 200).await;
        assert_eq!(answer.receipt(), Some(true));
        self.reached += 1;
        self.tally.call("settle", "success");
        self.tally.sold(goods.primary, goods.tuple, goods.amount, now());
        self.tally.closed(goods.tuple);
    }

    fn offer(&self, goods: Goods) -> &Value {
        &self.offers[goods.route][goods.option]
    }

    fn payment(&self, goods: Goods) -> Value {
        self.buyer.payment(self.offer(goods))
    }

    /// Waits until the companion shows what the tally has of a series.
    async fn metric_reaches(&self, family: &str, tuple: Tuple) {
        let (name, expected) = (format!("{PREFIX}{family}"), self.tally.of(family, tuple));
        let stack = self.stack;
        until(&format!("{family} is {expected}"), async || {
            let page = stack.metrics().await.expect("the companion serves metrics");
            page.sum(&name, &tuple.labels()).expect("it is an integer") == expected
        })
        .await;
    }
}
