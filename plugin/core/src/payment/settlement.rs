//! One settle call: the meaning of its reply, and the one repeat that a facilitator may ask for.

use super::Outcome;
use crate::evm::Address;
use crate::protocol::{CallEnd, SettleReply, read_settle_reply};
use crate::terms::PaymentOption;

/// A settle call under way. The caller (filter or relay) passes its end to [`Settlement::ended`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Set if the call is a repeat: the first call was answered "pending", with this transaction.
    pending: Option<Option<String>>,
}

/// What the caller does after a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Repeat the same call at once.
    Repeat(Settlement),
    /// Pass this outcome to the machine.
    Over(Outcome),
}

// === impl Settlement ===

impl Settlement {
    /// Reads how a call for a payment of `payer` ended. The reply to a second call says nothing about the first call,
    /// which may still be under way.
    pub fn ended(self, end: CallEnd<'_>, option: &PaymentOption, payer: Address) -> Reading {
        match end {
            CallEnd::Reply { status, body } => self.answered(read_settle_reply(status, body, option, payer)),
            CallEnd::NotSent if self.pending.is_none() => Reading::Over(Outcome::NotSent),
            CallEnd::NotSent | CallEnd::Unreachable => {
                self.unknown(None, "the facilitator could not be reached".to_owned())
            }
            CallEnd::TimedOut => self.unknown(None, "the facilitator did not answer in time".to_owned()),
            CallEnd::Cut => self.unknown(None, "the facilitator's reply broke off".to_owned()),
        }
    }

    /// The outcome if the repeat is not made.
    pub fn given_up(self) -> Outcome {
        let reason = "settlement_pending".to_owned();
        Outcome::Unknown { transaction: self.pending.flatten(), reason }
    }

    fn answered(self, reply: SettleReply) -> Reading {
        let outcome = match reply {
            SettleReply::Settled { transaction } => Outcome::Settled { transaction },
            SettleReply::Pending { transaction } if self.pending.is_none() => {
                return Reading::Repeat(Self { pending: Some(transaction) });
            }
            SettleReply::Pending { transaction } => {
                return self.unknown(transaction, "settlement_pending".to_owned());
            }
            SettleReply::Unclear { transaction, reason } => return self.unknown(transaction, reason),
            SettleReply::Refused { reason, .. } if self.pending.is_some() => {
                return self.unknown(None, reason);
            }
            SettleReply::Malformed { words, .. } if self.pending.is_some() => {
                return self.unknown(None, words);
            }
            SettleReply::Refused { reason, detail } => Outcome::Refused { reason, detail },
            SettleReply::Malformed { words, .. } => Outcome::Malformed { words },
        };
        Reading::Over(outcome)
    }

    /// An unknown outcome with the transaction of this reply, or of the reply "pending".
    fn unknown(self, transaction: Option<String>, reason: String) -> Reading {
        let transaction = transaction.or_else(|| self.pending.flatten());
        Reading::Over(Outcome::Unknown { transaction, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fixtures::usdc;

    const PAYER: Address = Address([7; 20]);

    fn hash() -> Option<String> {
        Some("0x1".to_owned())
    }
    /// The first call; `repeat` makes the repeat after "pending", with or without a transaction.
    fn first() -> Settlement {
        Settlement::default()
    }
    fn repeat(transaction: Option<String>) -> Settlement {
        let pending = SettleReply::Pending { transaction };
        let Reading::Repeat(settlement) = first().answered(pending) else { panic!("no repeat") };
        settlement
    }
    fn unknown(transaction: Option<String>, reason: &str) -> Reading {
        Reading::Over(Outcome::Unknown { transaction, reason: reason.to_owned() })
    }
    fn text() -> String {
        "words".to_owned()
    }

    #[test]
    fn a_settlement_is_one_at_the_first_call_and_at_the_repeat() {
        let reply = || SettleReply::Settled { transaction: "0x2".to_owned() };
        let settled = Reading::Over(Outcome::Settled { transaction: "0x2".to_owned() });
        for settlement in [first(), repeat(None), repeat(hash())] {
            assert_eq!(settlement.answered(reply()), settled);
        }
    }

    #[test]
    fn a_refusal_is_one_only_if_no_call_is_pending() {
        let refused = || SettleReply::Refused { reason: text(), detail: hash() };
        let malformed = || SettleReply::Malformed { words: text(), correlation: None };
        let outcome = Outcome::Refused { reason: text(), detail: hash() };
        assert_eq!(first().answered(refused()), Reading::Over(outcome));
        assert_eq!(first().answered(malformed()), Reading::Over(Outcome::Malformed { words: text() }));
        for reply in [refused(), malformed()] {
            assert_eq!(repeat(None).answered(reply.clone()), unknown(None, "words"));
            assert_eq!(repeat(hash()).answered(reply), unknown(hash(), "words"));
        }
    }

    #[test]
    fn a_pending_call_is_repeated_once_and_its_transaction_is_kept() {
        let pending = |transaction| SettleReply::Pending { transaction };
        let other = || Some("0x2".to_owned());
        assert_eq!(repeat(None).answered(pending(None)), unknown(None, "settlement_pending"));
        assert_eq!(repeat(hash()).answered(pending(None)), unknown(hash(), "settlement_pending"));
        assert_eq!(repeat(hash()).answered(pending(other())), unknown(other(), "settlement_pending"));
    }

    #[test]
    fn an_unclear_reply_is_unknown_with_the_newest_transaction() {
        let unclear = |transaction| SettleReply::Unclear { transaction, reason: text() };
        let other = || Some("0x2".to_owned());
        assert_eq!(first().answered(unclear(None)), unknown(None, "words"));
        assert_eq!(first().answered(unclear(other())), unknown(other(), "words"));
        assert_eq!(repeat(hash()).answered(unclear(None)), unknown(hash(), "words"));
        assert_eq!(repeat(hash()).answered(unclear(other())), unknown(other(), "words"));
    }

    #[test]
    fn a_call_without_a_reply_is_unknown_unless_not_a_byte_of_it_left() {
        let away = "the facilitator could not be reached";
        let ends = [
            (CallEnd::Unreachable, away),
            (CallEnd::TimedOut, "the facilitator did not answer in time"),
            (CallEnd::Cut, "the facilitator's reply broke off"),
        ];
        for (end, reason) in ends {
            assert_eq!(first().ended(end, &usdc(), PAYER), unknown(None, reason));
            assert_eq!(repeat(hash()).ended(end, &usdc(), PAYER), unknown(hash(), reason));
        }
        assert_eq!(first().ended(CallEnd::NotSent, &usdc(), PAYER), Reading::Over(Outcome::NotSent));
        assert_eq!(repeat(None).ended(CallEnd::NotSent, &usdc(), PAYER), unknown(None, away));
        let garbage = CallEnd::Reply { status: 200, body: b"<html>" };
        let Reading::Over(Outcome::Unknown { transaction, .. }) =
            repeat(hash()).ended(garbage, &usdc(), PAYER)
        else {
            panic!("garbage is no outcome")
        };
        assert_eq!(transaction, hash());
    }
}
