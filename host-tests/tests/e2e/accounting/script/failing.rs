//! Failures of payments, upstreams, the facilitator and clients.

use farebox_testkit::wallet::{Wallet, Window, header_value};
use serde_json::{Value, json};

use super::super::shop::{
    BASIC, BASIC_GOODS, Goods, MULTI_ON_BASE_GOODS, OBOL, OBOL_GOODS, TWIN, TWIN_GOODS, UPFRONT,
    UPFRONT_GOODS,
};
use super::{PREFIX, Script};
use crate::common::Settlement;
use crate::support::{Buyer, PAYMENT, X_PAYMENT, now, until};

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The facilitator got this call.
    CallOf(&'static str),
    /// The origin was asked.
    Origin,
}

// === impl Script ===

impl Script<'_> {
    pub(super) async fn pay_badly(&mut self) {
        let payer = Wallet::development().address().to_string();
        for goods in [BASIC_GOODS, BASIC_GOODS, BASIC_GOODS, MULTI_ON_BASE_GOODS, OBOL_GOODS] {
            let thief = Buyer::new(self.stack, Wallet::numbered(1));
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
            (&elsewhere, &elsewhere, "no_matching_requirement"),
        ] {
            let payment = self.buyer.payment_of(accepted, signed);
            self.pay(BASIC_GOODS, "bad", &payment, 402).await;
            self.note_unfit(BASIC, reason);
        }
        // The chains have no known token, so the payment cannot be authentic for any option.
        for (accepted, signed) in [
            (&changed("network", "eip155:1"), &offer),
            (&changed("network", "eip155:8453"), &changed("network", "eip155:8453")),
        ] {
            let payment = self.buyer.payment_of(accepted, signed);
            self.pay(BASIC_GOODS, "bad", &payment, 402).await;
            self.tally.refused(BASIC, BASIC, "no_matching_requirement");
        }
        for window in [
            Window { valid_before: now() - 5, ..Window::fresh(60) },
            Window { valid_after: now() + 100, ..Window::fresh(300) },
        ] {
            let payment = Wallet::development().pay_v2(&offer, window).expect("it can be signed");
            self.pay(BASIC_GOODS, "untimely", &payment, 402).await;
            self.note_unfit(BASIC, "payment_invalid");
        }
    }

    pub(super) async fn send_headers_that_are_no_payment(&mut self) {
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

    pub(super) async fn meet_failing_upstreams(&mut self) {
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
            // The same payment is used for all cases, because a failed request is not charged.
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

    pub(super) async fn meet_a_facilitator_that_cannot_verify(&mut self) {
        let payment = self.payment(BASIC_GOODS);
        // The relay follows a redirect to the same server, and reports only whether a reply is a verdict.
        let redirect = self.settlement.pick("redirect_302", "redirect_308");
        let (garbage, hung) = self.settlement.pick(("http_error", "unreachable"), ("bad_reply", "timeout"));
        for (mode, status, reason, outcome) in [
            ("invalid", 402, "payment_invalid", "refused"),
            ("invalid:invalid_exact_evm_transaction_simulation_failed", 402, "payment_invalid", "refused"),
            ("invalid:permit2_allowance_required", 412, "payment_invalid", "refused"),
            ("http_500", 503, "facilitator_error", "http_error"),
            ("http_429", 503, "facilitator_overloaded", "http_error"),
            ("success_503", 503, "facilitator_overloaded", "http_error"),
            (redirect, 503, "facilitator_error", "http_error"),
            ("garbage", 503, "facilitator_error", garbage),
            ("wrong_types", 503, "facilitator_error", garbage),
            ("html_200", 503, "facilitator_error", garbage),
            ("reset", 503, "facilitator_unreachable", "unreachable"),
            ("truncated", 503, "facilitator_unreachable", "unreachable"),
            ("hang", 503, "facilitator_unreachable", hung),
        ] {
            self.facilitator.fail_next("verify", mode, 1).await;
            self.pay(BASIC_GOODS, "unverified", &payment, status).await;
            self.tally.call("verify", outcome);
            self.tally.refused(BASIC, BASIC, reason);
        }
        let answer = self.pay(BASIC_GOODS, "verified", &payment, 200).await;
        self.note_sale(BASIC_GOODS, &answer, 200);
    }

    pub(super) async fn meet_a_facilitator_that_cannot_settle(&mut self) {
        for code in [
            "insufficient_funds",
            "invalid_exact_evm_insufficient_balance",
            "invalid_exact_evm_payload_signature",
        ] {
            self.facilitator.fail_next("settle", &format!("invalid:{code}"), 1).await;
            let payment = self.payment(BASIC_GOODS);
            let answer = self.pay(BASIC_GOODS, "refused", &payment, 402).await;
            assert_eq!(answer.receipt(), Some(false));
            self.reached += 1;
            self.tally.call("verify", "success");
            self.tally.call("settle", "refused");
            self.tally.refused(BASIC, BASIC, "settlement_rejected");
        }
        // Each payment is served when it is sent again. The relay reports only that the payment is open, and itself
        // repeats the call of a transaction that is not final.
        let open = self.settlement.pick(Some(&["http_error"][..]), None);
        let direct = |outcomes: &'static [&'static str]| open.unwrap_or(outcomes);
        for (goods, mode, outcomes, count) in [
            (BASIC_GOODS, "http_500", direct(&["http_error"]), 1),
            (OBOL_GOODS, "http_503", direct(&["http_error"]), 1),
            (BASIC_GOODS, "unknown_code", direct(&["bad_reply"]), 1),
            (BASIC_GOODS, "garbage", direct(&["bad_reply"]), 1),
            (BASIC_GOODS, "wrong_network", direct(&["bad_reply"]), 1),
            (MULTI_ON_BASE_GOODS, "success_503", direct(&["http_error"]), 1),
            (BASIC_GOODS, "cut_after_headers", direct(&["unreachable"]), 1),
            (BASIC_GOODS, "success_but_hang", direct(&["timeout"]), 1),
            (BASIC_GOODS, "pending", direct(&["bad_reply", "bad_reply"]), 2),
            (BASIC_GOODS, "settled_but:invalid_exact_evm_transaction_failed", direct(&["bad_reply"]), 1),
        ] {
            self.facilitator.fail_next("settle", mode, count).await;
            let payment = self.payment(goods);
            self.leave_open(goods, &payment, outcomes).await;
            self.reached += 1;
            self.tally.call("verify", "success");
            self.resend(goods, &payment).await;
        }
        for _ in 0..2 {
            self.facilitator.fail_next("settle", "pending_then_success", 2).await;
            self.sell(BASIC_GOODS, "patient").await;
            // The relay repeats the call itself.
            if self.settlement == Settlement::Direct {
                self.tally.call("settle", "bad_reply");
            }
        }
        // The buyer does not come back for this payment. The relay still finds out its outcome.
        self.facilitator.fail_next("settle", "http_500", 1).await;
        let payment = self.payment(TWIN_GOODS);
        self.leave_open(TWIN_GOODS, &payment, &["http_error"]).await;
        self.reached += 1;
        self.tally.call("verify", "success");
        if self.settlement == Settlement::Relay {
            self.tally.settled_late(TWIN, TWIN_GOODS.amount, now());
            self.metric_reaches("charged_requests_total", TWIN).await;
            self.tally.charged_at.insert(TWIN, now());
        }
    }

    pub(super) async fn pay_upfront(&mut self) {
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
            self.tally.call("verify", "success");
            self.tally.call("settle", "success");
            self.tally.sold(UPFRONT, UPFRONT, UPFRONT_GOODS.amount, now());
            if failed {
                self.tally.failed_after_charge(UPFRONT);
            }
            // The payment bought an answer, even if the attempt failed.
            if status != 200 {
                self.is_known(&payment, "owed").await;
                let answer = self.pay(UPFRONT_GOODS, "fetched", &payment, 200).await;
                self.note_redeemed(UPFRONT_GOODS, &answer);
            }
            self.is_known(&payment, "delivered").await;
            self.pay(UPFRONT_GOODS, rest, &payment, 402).await;
            self.note_replay(UPFRONT, "settled");
        }
        self.facilitator.fail_next("settle", "invalid", 1).await;
        let payment = self.payment(UPFRONT_GOODS);
        self.pay(UPFRONT_GOODS, "refused", &payment, 402).await;
        self.tally.call("verify", "success");
        self.tally.call("settle", "refused");
        self.tally.refused(UPFRONT, UPFRONT, "settlement_rejected");

        self.facilitator.fail_next("settle", "http_500", 1).await;
        let payment = self.payment(UPFRONT_GOODS);
        self.leave_open(UPFRONT_GOODS, &payment, &["http_error"]).await;
        self.tally.call("verify", "success");
        self.resend(UPFRONT_GOODS, &payment).await;
    }

    pub(super) async fn go_away(&mut self) {
        // While the facilitator verifies.
        self.facilitator.fail_next("verify", "slow:2000", 1).await;
        self.leave(BASIC_GOODS, "verifying", &self.payment(BASIC_GOODS), Moment::CallOf("verify")).await;
        self.tally.refused(BASIC, BASIC, "client_disconnected");

        // While the upstream works.
        for _ in 0..3 {
            self.leave(BASIC_GOODS, "hang", &self.payment(BASIC_GOODS), Moment::Origin).await;
            self.tally.call("verify", "success");
            self.tally.refused(BASIC, BASIC, "client_disconnected");
        }
        let payment = self.payment(UPFRONT_GOODS);
        self.leave(UPFRONT_GOODS, "hang", &payment, Moment::Origin).await;
        self.tally.call("verify", "success");
        self.tally.call("settle", "success");
        self.tally.sold(UPFRONT, UPFRONT, UPFRONT_GOODS.amount, now());
        self.is_known(&payment, "owed").await;
        let answer = self.pay(UPFRONT_GOODS, "fetched", &payment, 200).await;
        self.note_redeemed(UPFRONT_GOODS, &answer);

        // While the facilitator settles. The settlement continues without the client, and its outcome is not known
        // until the same payment comes again.
        self.facilitator.fail_next("settle", "slow:2000", 1).await;
        let payment = self.payment(BASIC_GOODS);
        self.leave(BASIC_GOODS, "settling", &payment, Moment::CallOf("settle")).await;
        self.reached += 1;
        self.tally.call("verify", "success");
        // A filter does not get the end of its call to the relay.
        if self.settlement == Settlement::Direct {
            self.tally.call("settle", "success");
        }
        self.tally.refused(BASIC, BASIC, "client_disconnected");
        // The caller gets the end of the call: a charge, for which the buyer gets the answer with the same payment.
        until("the charge is written down", async || {
            let page = self.stack.metrics().await.expect("the companion serves metrics");
            let name = format!("{PREFIX}charged_requests_total");
            page.sum(&name, &BASIC.labels()).expect("it is an integer")
                > self.tally.of("charged_requests_total", BASIC)
        })
        .await;
        self.tally.opened(BASIC);
        if self.settlement == Settlement::Relay {
            return self.resend(BASIC_GOODS, &payment).await;
        }
        self.tally.settled_late(BASIC, BASIC_GOODS.amount, now());
        let answer = self.pay(BASIC_GOODS, "open", &payment, 200).await;
        self.note_redeemed(BASIC_GOODS, &answer);
    }

    /// Sends a request with a payment, and leaves at a moment of it.
    async fn leave(&mut self, goods: Goods, rest: &str, payment: &Value, moment: Moment) {
        let before = self.seen(moment).await;
        let request = self.buyer.get(&goods.path(rest)).header(PAYMENT, header_value(payment));
        let asking = tokio::spawn(request.send());
        until("the moment to leave has come", async || self.seen(moment).await > before).await;
        asking.abort();
        self.requests += 1;
        self.reached += u64::from(moment == Moment::Origin);
    }

    async fn seen(&self, moment: Moment) -> u64 {
        match moment {
            Moment::CallOf(operation) => self.facilitator.calls(operation).await,
            Moment::Origin => self.stack.origin().expect("the stack has its own origin").hits().total(),
        }
    }

    pub(super) async fn lose_a_body_and_get_it_again(&mut self) {
        for _ in 0..2 {
            let payment = self.payment(BASIC_GOODS);
            let answer = self.pay(BASIC_GOODS, "cut", &payment, 200).await;
            assert!(!answer.whole);
            self.note_sale(BASIC_GOODS, &answer, 200);
            self.tally.failed_after_charge(BASIC);
            self.metric_reaches("upstream_failed_after_charge_total", BASIC).await;
            self.is_known(&payment, "owed").await;

            let answer = self.pay(BASIC_GOODS, "instead", &payment, 200).await;
            self.note_redeemed(BASIC_GOODS, &answer);
            self.is_known(&payment, "delivered").await;
            self.pay(BASIC_GOODS, "instead", &payment, 402).await;
            self.note_replay(BASIC, "settled");
        }
    }
}
