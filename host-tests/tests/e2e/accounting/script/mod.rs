//! The scripted run: every request has its expected answer and counts.

mod buying;
mod failing;

use std::collections::BTreeMap;
use std::time::Duration;

use farebox_testkit::facilitator::DevFacilitator;
use farebox_testkit::stack::Stack;
use farebox_testkit::wallet::{Wallet, header_value};
use reqwest::RequestBuilder;
use serde_json::Value;

use super::shop::{BASIC_GOODS, Goods};
use super::tally::{PREFIX, Tally, Tuple};
use crate::common::{Settlement, in_ledger};
use crate::support::{Answer, Buyer, PAYMENT, now, until};

/// A delivery is recorded at the end of the stream, a moment after the client has the answer.
const STREAM_END: Duration = Duration::from_millis(300);

/// The run.
pub(super) struct Script<'a> {
    stack: &'a Stack,
    buyer: Buyer,
    facilitator: DevFacilitator,
    pub(super) settlement: Settlement,
    pub(super) tally: Tally,
    /// Requests sent.
    pub(super) requests: u64,
    /// Requests the origin must have seen.
    pub(super) reached: u64,
    /// Payments that the relay knew, so that it asked no facilitator to verify them.
    pub(super) looked_up: u128,
    offers: BTreeMap<&'static str, Vec<Value>>,
}

// === impl Script ===

impl<'a> Script<'a> {
    pub(super) fn new(stack: &'a Stack, settlement: Settlement, tally: Tally) -> Self {
        Self {
            stack,
            buyer: Buyer::new(stack, Wallet::development()),
            facilitator: DevFacilitator::of(stack),
            settlement,
            tally,
            requests: 0,
            reached: 0,
            looked_up: 0,
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

    /// Makes a normal sale.
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

    /// Counts a call that the relay answers itself; without a relay there is no call.
    fn look_up(&mut self, outcome: &str) {
        if self.settlement == Settlement::Relay {
            self.tally.call("verify", outcome);
            self.looked_up += 1;
        }
    }

    /// Counts a payment that was used, or is in use.
    fn note_replay(&mut self, tuple: Tuple, state: &str) {
        self.look_up("refused");
        self.tally.replayed(tuple, tuple, state);
    }

    /// Counts an authentic payment that fails the checks of a new one, and that the relay does not know.
    fn note_unfit(&mut self, tuple: Tuple, reason: &str) {
        self.look_up("refused");
        self.tally.refused(tuple, tuple, reason);
    }

    /// Counts an owed answer that is fetched.
    fn note_redeemed(&mut self, goods: Goods, answer: &Answer) {
        assert_eq!((answer.whole, answer.receipt()), (true, Some(true)));
        self.reached += 1;
        self.look_up("success");
        self.tally.uncharged(goods.primary, goods.tuple, "redeemed");
    }

    /// Waits until the ledger knows how the request with a payment ended. Without one, the filter knows it by then.
    async fn is_known(&self, payment: &Value, state: &str) {
        if self.settlement == Settlement::Relay {
            let nonce = payment["payload"]["authorization"]["nonce"].as_str().expect("a text");
            in_ledger(self.stack, nonce, state).await;
        } else {
            tokio::time::sleep(STREAM_END).await;
        }
    }

    /// Leaves a settlement of unknown outcome, after these calls.
    async fn leave_open(&mut self, goods: Goods, payment: &Value, outcomes: &[&str]) {
        let answer = self.pay(goods, "open", payment, 503).await;
        assert_eq!(answer.receipt(), Some(false));
        assert_eq!(answer.header("payment-required"), None, "an open settlement asks for no new payment");
        outcomes.iter().for_each(|outcome| self.tally.call("settle", outcome));
        self.tally.refused(goods.primary, goods.tuple, "settlement_failed");
        self.tally.opened(goods.tuple);
    }

    /// Sends the payment of an open settlement again: it is settled first, then served. The relay may have found
    /// out the outcome before; then the payment is charged and fetches its answer.
    async fn resend(&mut self, goods: Goods, payment: &Value) {
        let answer = self.pay(goods, "open", payment, 200).await;
        assert_eq!(answer.receipt(), Some(true));
        self.reached += 1;
        match self.settlement {
            Settlement::Relay => self.look_up("success"),
            Settlement::Direct => self.tally.call("settle", "success"),
        }
        if self.settlement == Settlement::Relay && self.late(goods.tuple).await > self.tally.late(goods.tuple)
        {
            self.tally.settled_late(goods.tuple, goods.amount, now());
            self.tally.uncharged(goods.primary, goods.tuple, "redeemed");
        } else {
            self.tally.sold(goods.primary, goods.tuple, goods.amount, now());
            self.tally.closed(goods.tuple);
        }
    }

    /// Number of settlements of a tuple that the companion found out about.
    async fn late(&self, tuple: Tuple) -> u128 {
        let page = self.stack.metrics().await.expect("the companion serves metrics");
        let labels = [&tuple.labels()[..], &[("result", "settled")]].concat();
        page.sum(&format!("{PREFIX}settlements_resolved_late_total"), &labels).expect("it is an integer")
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
