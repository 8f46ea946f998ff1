//! The expected results of a case.

use farebox_testkit::stack::Shell;

use super::case::{Act, Case, Ledger};
use super::form::Form;
use crate::accounting::shop::{BASIC_GOODS, Goods};
use crate::accounting::tally::{Tally, Tuple};
use crate::common::Answer;

// === impl Case ===

impl Case {
    fn expects(mut self, status: u16, form: Form) -> Self {
        (self.expected.status, self.expected.form) = (status, form);
        self
    }

    fn counts(mut self, counted: impl Fn(&mut Tally, u64) + Send + Sync + 'static) -> Self {
        let before = std::mem::replace(&mut self.expected.counted, Box::new(|_, _| {}));
        self.expected.counted = Box::new(move |tally, at| {
            before(tally, at);
            counted(tally, at);
        });
        self
    }

    /// Adds a further count.
    pub(super) fn and_counts(self, counted: fn(&mut Tally, u64)) -> Self {
        self.counts(counted)
    }

    pub(super) const fn reaches(mut self, requests: u64) -> Self {
        self.expected.reached = requests;
        self
    }

    /// Expects these calls to the facilitator.
    pub(super) fn asks(mut self, operations: &[&'static str]) -> Self {
        self.expected.asked = Some(operations.to_vec());
        self
    }

    /// Does not check the number of calls to the facilitator.
    pub(super) fn asks_at_will(mut self) -> Self {
        self.expected.asked = None;
        self
    }

    /// Expects that one host refuses before the rules, with this status, and that nothing is counted.
    pub(super) const fn answers_itself(mut self, host: Shell, status: u16) -> Self {
        self.expected.answers_itself = Some((host, status));
        self
    }

    pub(super) const fn form(mut self, form: Form) -> Self {
        self.expected.form = form;
        self
    }

    /// Does not compare the hosts, because the result depends on the clock.
    pub(super) const fn of_the_moment(mut self) -> Self {
        self.expected.is_compared = false;
        self
    }

    pub(super) const fn ledger(mut self, ledger: Ledger) -> Self {
        self.expected.ledger = ledger;
        self
    }

    pub(super) fn and(mut self, check: fn(&Answer) -> bool) -> Self {
        self.expected.checks.push(check);
        self
    }

    /// Goes to the upstream and is not about money.
    pub(super) fn passes(self, status: u16) -> Self {
        self.expects(status, Form::Upstream).reaches(1)
    }

    pub(super) fn challenged(self, primary: Tuple, form: Form) -> Self {
        self.expects(402, form).counts(move |tally, _| tally.challenged(primary))
    }

    /// Refused before anything is priced.
    pub(super) fn blocked(self, status: u16, reason: &'static str, offer: &'static str) -> Self {
        self.blocked_as(status, reason, offer, reason)
    }

    /// The same with a label that differs from the reason in the body.
    pub(super) fn blocked_as(
        self,
        status: u16,
        reason: &'static str,
        offer: &'static str,
        label: &'static str,
    ) -> Self {
        let offer = if offer.is_empty() { ("", "") } else { ("shop", offer) };
        self.expects(status, Form::Error(reason)).counts(move |tally, _| tally.blocked(offer, label))
    }

    /// A payment that is refused without any call.
    pub(super) fn refused(self, goods: Goods, reason: &'static str) -> Self {
        self.expects(402, Form::Refusal(reason))
            .counts(move |tally, _| tally.refused(goods.primary, goods.tuple, reason))
    }

    /// A payment that is refused because the relay does not know it.
    pub(super) fn refused_as_new(self, goods: Goods, reason: &'static str) -> Self {
        self.refused(goods, reason).counts(|tally, _| tally.call("verify", "refused")).ledger(Ledger::Free)
    }

    /// HEAD with a payment.
    pub(super) fn buys_nothing(self, goods: Goods) -> Self {
        self.malformed(goods).expects(400, Form::Bare)
    }

    /// A header that is no payment.
    pub(super) fn malformed(self, goods: Goods) -> Self {
        let reason = "invalid_payment_header";
        self.expects(400, Form::Error(reason))
            .counts(move |tally, _| tally.refused(goods.primary, goods.primary, reason))
    }

    /// A payment that is in use or used, as the relay knows.
    pub(super) fn replayed(self, goods: Goods, state: &'static str) -> Self {
        let this = if state == "settled" {
            self.expects(402, Form::Refusal("payment_replayed"))
        } else {
            self.expects(409, Form::Error("payment_replayed"))
        };
        this.counts(move |tally, _| {
            tally.call("verify", "refused");
            tally.replayed(goods.primary, goods.tuple, state);
        })
    }

    /// A payment of a purchase that another one paid.
    pub(super) fn paid_by_another(self) -> Self {
        let goods = self.goods();
        let this = self.replayed(goods, "settled").expects(409, Form::Error("payment_replayed"));
        this.ledger(Ledger::Free)
    }

    /// Verified or not by the facilitator, with this outcome; not taken.
    pub(super) fn unverified(self, status: u16, reason: &'static str, outcome: &'static str) -> Self {
        let (goods, form) =
            (self.goods(), if status == 503 { Form::Error(reason) } else { Form::Refusal(reason) });
        self.expects(status, form).asks(&["verify"]).ledger(Ledger::Free).counts(move |tally, _| {
            tally.call("verify", outcome);
            tally.refused(goods.primary, goods.tuple, reason);
        })
    }

    /// Paid, charged, served.
    pub(super) fn sold(self, status: u16) -> Self {
        let goods = self.goods();
        self.sold_again(goods, status)
    }

    /// The same with a payment of an earlier case that was given back.
    pub(super) fn sold_again(self, goods: Goods, status: u16) -> Self {
        self.served(status).asks(&["verify", "settle"]).counts(move |tally, at| {
            tally.call("verify", "success");
            tally.call("settle", "success");
            tally.sold(goods.primary, goods.tuple, goods.amount, at);
        })
    }

    /// The request that was begun with the latest payment is charged and served.
    pub(super) fn served_at_last(self) -> Self {
        self.served(200).reaches(0).asks(&["settle"]).counts(|tally, at| {
            tally.call("settle", "success");
            tally.sold_presented(BASIC_GOODS.tuple, BASIC_GOODS.amount, at);
        })
    }

    /// Served for a charge made before.
    pub(super) fn redeemed(self, goods: Goods) -> Self {
        self.served(200).counts(move |tally, _| {
            tally.call("verify", "success");
            tally.uncharged(goods.primary, goods.tuple, "redeemed");
        })
    }

    fn served(mut self, status: u16) -> Self {
        self.expected.receipt = Some(true);
        self.expects(status, Form::Upstream).reaches(1).ledger(Ledger::Has("delivered"))
    }

    /// The upstream's answer is not the paid one: the answer says so, and the paid one can be fetched once.
    pub(super) fn owed(self, goods: Goods) -> Self {
        self.ledger(Ledger::Has("owed"))
            .counts(move |tally, _| tally.failed_after_charge(goods.tuple))
            .and(tells_it_is_owed)
    }

    /// The upstream fails once more, and the answer is owed as before.
    pub(super) fn still_owed(mut self, goods: Goods, status: u16) -> Self {
        self.expected.receipt = Some(true);
        let this = self.expects(status, Form::Upstream).reaches(1).ledger(Ledger::Has("owed"));
        this.and(tells_it_is_owed).counts(move |tally, _| {
            tally.call("verify", "success");
            tally.upstream_failed(goods.primary, goods.tuple);
        })
    }

    /// Verified, but the upstream's answer is not charged.
    pub(super) fn not_charged(self, goods: Goods, status: u16, form: Form, what: Unsold) -> Self {
        self.expects(status, form).reaches(1).asks(&["verify"]).ledger(Ledger::Free).counts(
            move |tally, _| {
                tally.call("verify", "success");
                match what {
                    Unsold::UpstreamFailed => tally.upstream_failed(goods.primary, goods.tuple),
                    Unsold::Redirect => tally.uncharged(goods.primary, goods.tuple, "redirect"),
                }
            },
        )
    }

    /// Served by the upstream, and the facilitator refuses to settle.
    pub(super) fn settlement_refused(mut self) -> Self {
        let goods = self.goods();
        self.expected.receipt = Some(false);
        let this = self.expects(402, Form::Refusal("settlement_rejected")).ledger(Ledger::Has("refused"));
        this.reaches(u64::from(!goods.is_upfront())).asks(&["verify", "settle"]).counts(move |tally, _| {
            tally.call("verify", "success");
            tally.call("settle", "refused");
            tally.refused(goods.primary, goods.tuple, "settlement_rejected");
        })
    }

    /// The outcome of the settlement is unknown.
    pub(super) fn left_open(mut self) -> Self {
        let goods = self.goods();
        self.expected.receipt = Some(false);
        let this = self.expects(503, Form::Error("settlement_failed")).ledger(Ledger::Has("unknown"));
        this.reaches(u64::from(!goods.is_upfront())).asks_at_will().counts(move |tally, _| {
            tally.call("verify", "success");
            // In every case the relay has no outcome for the proxy.
            tally.call("settle", "http_error");
            tally.refused(goods.primary, goods.tuple, "settlement_failed");
            tally.opened(goods.tuple);
        })
    }

    /// The payment of an open settlement, which stays open.
    pub(super) fn still_open(mut self, goods: Goods) -> Self {
        self.expected.receipt = Some(false);
        let this = self.expects(503, Form::Error("settlement_failed")).ledger(Ledger::Has("unknown"));
        this.asks_at_will().counts(move |tally, _| {
            tally.call("verify", "refused");
            tally.refused(goods.primary, goods.tuple, "settlement_failed");
        })
    }

    /// The companion finds out that an open settlement was made.
    pub(super) fn found_settled(self, goods: Goods) -> Self {
        self.act(Act::Wait)
            .asks_at_will()
            .ledger(Ledger::Has("owed"))
            .counts(move |tally, at| tally.settled_late(goods.tuple, goods.amount, at))
    }

    /// The ledger cannot be written.
    pub(super) fn unguarded(self) -> Self {
        let goods = self.goods();
        let reason = "replay_guard_unavailable";
        self.expects(503, Form::Error(reason)).counts(move |tally, _| {
            tally.call("verify", "refused");
            tally.refused(goods.primary, goods.tuple, reason);
        })
    }
}

/// Whether an answer says that the paid answer can still be fetched.
fn tells_it_is_owed(answer: &Answer) -> bool {
    let hint = answer.header("x-payment-owed").unwrap_or_else(|| answer.json()["hint"].to_string());
    hint.contains("with the same payment again")
}

/// Why an answer was not charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsold {
    UpstreamFailed,
    Redirect,
}
