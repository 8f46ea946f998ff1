//! One settle call: what its reply means, and the one repeat a facilitator may ask for.

use super::Outcome;
use crate::protocol::{CallEnd, SettleReply, read_settle_reply};
use crate::rules::PaymentOption;

/// A settle call under way. Whoever makes it (filter, relay) hands in how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// The call is the repeat of one that was answered "pending", with this transaction.
    pending: Option<Option<String>>,
}

/// What the end of a call asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The same call once more, at once.
    Repeat(Settlement),
    /// Nothing: tell the machine.
    Over(Outcome),
}

// === impl Settlement ===

impl Settlement {
    /// Reads how a call ended. What a second call says of itself says nothing of the first, which may be on its way.
    pub fn ended(self, end: CallEnd<'_>, option: &PaymentOption) -> Reading {
        let unknown = |transaction: Option<String>, reason: &str| Outcome::Unknown {
            transaction: transaction.or_else(|| self.pending.clone().flatten()),
            reason: reason.to_owned(),
        };
        let outcome = match end {
            CallEnd::Reply { status, body } => match read_settle_reply(status, body, option) {
                SettleReply::Settled { transaction, .. } => Outcome::Settled { transaction },
                SettleReply::Pending { transaction } if self.pending.is_none() => {
                    return Reading::Repeat(Self { pending: Some(transaction) });
                }
                SettleReply::Pending { transaction } => unknown(transaction, "settlement_pending"),
                SettleReply::Unclear { transaction, reason } => unknown(transaction, &reason),
                SettleReply::Refused { reason, .. } if self.pending.is_some() => unknown(None, &reason),
                SettleReply::Malformed { words, .. } if self.pending.is_some() => unknown(None, &words),
                SettleReply::Refused { reason, detail } => Outcome::Refused { reason, detail },
                SettleReply::Malformed { words, .. } => Outcome::Malformed { words },
            },
            CallEnd::NotSent if self.pending.is_none() => Outcome::NotSent,
            CallEnd::NotSent | CallEnd::Unreachable => unknown(None, "the facilitator could not be reached"),
            CallEnd::TimedOut => unknown(None, "the facilitator did not answer in time"),
            CallEnd::Cut => unknown(None, "the facilitator's reply broke off"),
        };
        Reading::Over(outcome)
    }
}
