//! One payment that is brought: what its record says of it, and, where it is new, what the facilitator says.

use farebox_core::payment::{Answer, End, Event};
use farebox_core::protocol::RelayReply;
use tokio::time::Instant;
use tracing::warn;

use super::Relay;
use super::books::{Entry, Happening};
use super::facilitators::{NoVerdict, Verdict};
use super::order::Order;
use super::settling::{Making, Origin};
use super::told::Waiting;
use crate::clock::unix_seconds;
use crate::ledger::Stepped;

/// Claims a payment and answers. What was claimed for a proxy that stops waiting is given back.
pub(super) async fn verify(relay: Relay, order: Order, mut waiting: Waiting) {
    let began = Instant::now();
    let claim = Event::Claim(order.claim.clone());
    let step = relay.ledger.step(&order.key, claim, Some(&order.sale), None).await;
    let Ok(Stepped { answer, facilitator, behind, .. }) = relay.noted(step) else {
        // It may be on disk all the same.
        relay.give_up(&order.key, order.claim.holder);
        return waiting.send(RelayReply::Unavailable);
    };
    let reply = match answer {
        Answer::Reserved => {
            relay.state.ledger.lock().works();
            match relay.verify_new(&order, &mut waiting).await {
                Some(reply) => reply,
                None => return,
            }
        }
        Answer::Call { epoch, call, transaction } => {
            relay.state.ledger.lock().works();
            let under_way = relay.under_way.begin(&order.key);
            let origin = behind.map(Origin::from);
            let making = Making::of(order, began, epoch, call, facilitator, origin, under_way);
            let deadline = began + relay.deadlines.verify;
            match relay.settle_again(making, deadline, &mut waiting).await {
                Some(reply) => reply,
                None => RelayReply::Open { transaction },
            }
        }
        Answer::Redeem { transaction } => {
            Entry::of(&order, began).write(Happening::Redeemed, Some(&transaction), "");
            RelayReply::Redeem { transaction }
        }
        // By its own clock the proxy may have taken it for too old or too new.
        Answer::New => order.refusal.unwrap_or_else(|| RelayReply::New { now: Some(unix_seconds()) }),
        answer => RelayReply::from(answer),
    };
    waiting.send(reply);
}

// === impl Relay ===

impl Relay {
    /// Has a new payment verified. `None` if nobody waits any more.
    async fn verify_new(&self, order: &Order, waiting: &mut Waiting) -> Option<RelayReply> {
        let verdict = tokio::select! {
            verdict = self.ask_to_verify(&order.call, &order.claim.call, order.key.payer) => verdict,
            () = waiting.gone() => {
                self.release(order).await;
                return None;
            }
        };
        let none = match verdict {
            Verdict::Valid { facilitator } => {
                let verified = Event::Verified(order.claim.holder);
                let step = self.ledger.step(&order.key, verified, None, Some(&facilitator)).await;
                return Some(match self.noted(step).map(|stepped| stepped.answer) {
                    Ok(Answer::Noted) => RelayReply::Valid,
                    // It took so long that another request has it now.
                    Ok(_) => RelayReply::InFlight,
                    Err(_) => {
                        self.give_up(&order.key, order.claim.holder);
                        RelayReply::Unavailable
                    }
                });
            }
            Verdict::Invalid { facilitator, reason, detail } => {
                let (payer, nonce) = (order.key.payer.to_string(), order.key.nonce.to_string());
                let words = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
                self.quietly(&facilitator, |more| {
                    warn!(payer, nonce, "{facilitator} refuses a payment: {reason}{words}{more}");
                });
                // Terms are told only if nobody else has the payment by now: it may be settled.
                return Some(if self.release(order).await {
                    RelayReply::Invalid { reason, detail }
                } else {
                    RelayReply::InFlight
                });
            }
            Verdict::None(none) => none,
        };
        self.release(order).await;
        Some(match none {
            NoVerdict::Unreachable => RelayReply::Unreachable,
            NoVerdict::Busy => RelayReply::Busy,
            NoVerdict::Malformed { words } => RelayReply::Malformed { words },
            NoVerdict::Unusable => RelayReply::NoVerdict,
        })
    }

    /// Nothing came of a claim: on disk before its buyer can come back. Whether it was this request's until then. If it
    /// fails, the lease ends the claim.
    async fn release(&self, order: &Order) -> bool {
        let over = Event::Over(order.claim.holder, End::Unsent);
        let step = self.noted(self.ledger.step(&order.key, over, None, None).await);
        matches!(step.map(|stepped| stepped.answer), Ok(Answer::Noted))
    }

    /// Settles an open payment once more, as it is on record. `None` if that is not over in time: it goes on.
    async fn settle_again(
        &self,
        making: Making,
        deadline: Instant,
        waiting: &mut Waiting,
    ) -> Option<RelayReply> {
        let (ended, mut told) = self.waiting(&making.key, making.holder);
        let relay = self.clone();
        tokio::spawn(async move { making.make(&relay, Some(ended)).await });
        tokio::select! {
            reply = told.reply() => reply,
            () = waiting.gone() => None,
            () = tokio::time::sleep_until(deadline) => None,
        }
    }
}
