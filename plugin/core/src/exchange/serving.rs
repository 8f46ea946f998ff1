//! From the upstream to the client: settle at the response head, release, delivery.

use super::attempt::Attempt;
use super::paying::settle_at_response;
use super::refusal::Cause;
use super::reply::{Told, push_receipts};
use super::{Next, ResponseHead, ResponseOrigin, Turn, response};
use crate::Now;
use crate::metrics::{Stamp, TupleCounter, UnchargedReason};
use crate::replay::{KeyChange, ReplayKey};

/// A forwarded request that costs nothing. Its response needs no attention.
#[derive(Debug)]
pub struct Passing {
    _private: (),
}

/// A paid request at the upstream, verified or already settled.
#[derive(Debug)]
pub struct Upstream {
    attempt: Box<Attempt>,
    paid: Paid,
}

#[derive(Debug)]
enum Paid {
    /// Not yet: the body of the calls, for the settlement.
    Verified { body: Vec<u8> },
    /// In this request, before the upstream.
    Settled { transaction: String },
    /// By an earlier request that was not served.
    Redeemed { transaction: String },
}

/// A settled response being streamed to the client.
#[derive(Debug)]
pub struct Delivering {
    attempt: Box<Attempt>,
    transaction: String,
}

/// A payment whose client is gone, or that is not charged after all. A relay keeps it for this proxy until it is
/// told, and would count a settlement nobody hears of as told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// Body of the last call about it.
    pub body: Vec<u8>,
    /// Headers of that call.
    pub headers: Vec<(&'static str, String)>,
}

/// Effects of an end nobody is left to answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Abandoned {
    /// What to count.
    pub stamps: Vec<Stamp>,
    /// Changes to reservations.
    pub keys: Vec<(ReplayKey, KeyChange)>,
}

/// What a response head means for money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// 2xx: what was paid for.
    Good,
    /// 3xx: passed on, not charged.
    Redirect,
    /// 101.
    Upgraded,
    /// An answer that says it failed.
    Failed,
    /// No answer: ours to give.
    Missing(Cause),
}

// === impl Passing ===

impl Passing {
    pub(super) const fn new() -> Self {
        Self { _private: () }
    }
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn verified(attempt: Box<Attempt>, body: Vec<u8>) -> Self {
        Self { attempt, paid: Paid::Verified { body } }
    }
    pub(super) fn settled(attempt: Box<Attempt>, transaction: String) -> Self {
        Self { attempt, paid: Paid::Settled { transaction } }
    }
    pub(super) fn redeemed(attempt: Box<Attempt>, transaction: String) -> Self {
        Self { attempt, paid: Paid::Redeemed { transaction } }
    }
    /// The response head arrived. The answer is a `Call` (hold the response), a `Release` or a `Reply`. What is
    /// [`Unused`] is to be told to the relay, without waiting for an answer, once the turn is carried out.
    pub fn response(self, head: &ResponseHead<'_>, now: Now) -> (Turn, Option<Unused>) {
        let verdict = Verdict::of(head);
        let unused = if verdict == Verdict::Good { None } else { self.unused() };
        let Self { attempt, paid } = self;
        let turn = match paid {
            Paid::Verified { body } => unsettled(attempt, body, verdict, head, now),
            Paid::Settled { transaction } => settled_before(attempt, transaction, verdict, head),
            Paid::Redeemed { transaction } => redeemed(attempt, transaction, verdict, head),
        };
        (turn, unused)
    }
    /// The client went away before a response head. What is [`Unused`] is to be told to the relay.
    pub fn abandoned(self, now: Now) -> (Abandoned, Option<Unused>) {
        let _ = now;
        let unused = self.unused();
        let Self { attempt, paid } = self;
        let abandoned = match paid {
            Paid::Verified { .. } => attempt.client_gone(Vec::new(), KeyChange::Free),
            Paid::Redeemed { transaction } => {
                attempt.client_gone(Vec::new(), KeyChange::Owed { transaction })
            }
            // Counted when it was settled. Only an upfront payment buys the mere attempt.
            Paid::Settled { .. } if attempt.upfront() => Abandoned::default(),
            Paid::Settled { transaction } => {
                let keys = vec![attempt.key(KeyChange::Owed { transaction })];
                Abandoned { stamps: Vec::new(), keys }
            }
        };
        (abandoned, unused)
    }

    fn unused(&self) -> Option<Unused> {
        match &self.paid {
            Paid::Verified { body } if self.attempt.rules.has_relay() => {
                Some(Unused { body: body.clone(), headers: self.attempt.relay_headers() })
            }
            _ => None,
        }
    }
}

/// Verified, not settled.
fn unsettled(
    attempt: Box<Attempt>,
    body: Vec<u8>,
    verdict: Verdict,
    head: &ResponseHead<'_>,
    now: Now,
) -> Turn {
    let free = vec![attempt.key(KeyChange::Free)];
    match verdict {
        Verdict::Good => {
            let edits = response::paid(head, attempt.asker.cors);
            settle_at_response(attempt, body, edits, now)
        }
        Verdict::Redirect => {
            let stamps = uncharged(&attempt, UnchargedReason::Redirect);
            let next = Next::Release(response::unpaid(head, attempt.asker.cors), None);
            Turn { stamps, keys: free, next }
        }
        Verdict::Failed => {
            let stamps = vec![attempt.stamp(TupleCounter::UpstreamFailedAfterVerify)];
            let next = Next::Release(response::unpaid(head, attempt.asker.cors), None);
            Turn { stamps, keys: free, next }
        }
        Verdict::Upgraded => attempt.refuse(Cause::UnexpectedUpgrade, &Told::default(), Vec::new(), free),
        Verdict::Missing(cause) => attempt.refuse(cause, &Told::default(), Vec::new(), free),
    }
}

/// The settlement before the upstream went well, so the charge is counted; the answer decides what is owed.
fn settled_before(
    attempt: Box<Attempt>,
    transaction: String,
    verdict: Verdict,
    head: &ResponseHead<'_>,
) -> Turn {
    let failed = vec![attempt.stamp(TupleCounter::UpstreamFailedAfterCharge)];
    let owed = owed_unless_upfront(&attempt, &transaction);
    match verdict {
        Verdict::Good => release_paid(attempt, transaction, head, Vec::new()),
        Verdict::Upgraded if attempt.upfront() && attempt.asker.upgrade => {
            Turn { stamps: Vec::new(), keys: owed, next: passed_on(&attempt, &transaction, head) }
        }
        Verdict::Redirect => {
            Turn { stamps: Vec::new(), keys: owed, next: passed_on(&attempt, &transaction, head) }
        }
        Verdict::Failed => Turn { stamps: failed, keys: owed, next: passed_on(&attempt, &transaction, head) },
        Verdict::Upgraded => not_served(&attempt, &transaction, Cause::UnexpectedUpgrade, failed, owed),
        Verdict::Missing(cause) => not_served(&attempt, &transaction, cause, failed, owed),
    }
}

/// Paid earlier, so only a good answer uses the payment up.
fn redeemed(attempt: Box<Attempt>, transaction: String, verdict: Verdict, head: &ResponseHead<'_>) -> Turn {
    let failed = vec![attempt.stamp(TupleCounter::UpstreamFailedAfterVerify)];
    let owed = vec![attempt.key(KeyChange::Owed { transaction: transaction.clone() })];
    match verdict {
        Verdict::Good => {
            let stamps = uncharged(&attempt, UnchargedReason::Redeemed);
            release_paid(attempt, transaction, head, stamps)
        }
        Verdict::Redirect => {
            let stamps = uncharged(&attempt, UnchargedReason::Redirect);
            Turn { stamps, keys: owed, next: passed_on(&attempt, &transaction, head) }
        }
        Verdict::Failed => Turn { stamps: failed, keys: owed, next: passed_on(&attempt, &transaction, head) },
        Verdict::Upgraded => not_served(&attempt, &transaction, Cause::UnexpectedUpgrade, failed, owed),
        Verdict::Missing(cause) => not_served(&attempt, &transaction, cause, failed, owed),
    }
}

fn uncharged(attempt: &Attempt, reason: UnchargedReason) -> Vec<Stamp> {
    vec![attempt.stamp(TupleCounter::PaymentVerified), attempt.stamp(TupleCounter::VerifiedUncharged(reason))]
}

/// An upfront payment buys the attempt, whatever comes of it; any other buys a good answer.
fn owed_unless_upfront(attempt: &Attempt, transaction: &str) -> Vec<(ReplayKey, KeyChange)> {
    if attempt.upfront() {
        return Vec::new();
    }
    vec![attempt.key(KeyChange::Owed { transaction: transaction.to_owned() })]
}

fn release_paid(
    attempt: Box<Attempt>,
    transaction: String,
    head: &ResponseHead<'_>,
    stamps: Vec<Stamp>,
) -> Turn {
    let mut edits = response::paid(head, attempt.asker.cors);
    push_receipts(&mut edits.set, &attempt.receipt(&transaction));
    let next = Next::Release(edits, Some(Delivering::new(attempt, transaction)));
    Turn { stamps, keys: Vec::new(), next }
}

/// A response that is not what was paid for, with the proof that it was paid for.
fn passed_on(attempt: &Attempt, transaction: &str, head: &ResponseHead<'_>) -> Next {
    let mut edits = response::paid(head, attempt.asker.cors);
    push_receipts(&mut edits.set, &attempt.receipt(transaction));
    Next::Release(edits, None)
}

/// Our own answer in place of one that never came, with the proof of payment.
fn not_served(
    attempt: &Attempt,
    transaction: &str,
    cause: Cause,
    stamps: Vec<Stamp>,
    keys: Vec<(ReplayKey, KeyChange)>,
) -> Turn {
    let receipt = Some(attempt.receipt(transaction));
    let reply = attempt.reply(cause, &Told { paid: true, receipt, ..Told::default() });
    Turn { stamps, keys, next: Next::Reply(reply) }
}

// === impl Verdict ===

impl Verdict {
    fn of(head: &ResponseHead<'_>) -> Self {
        match (head.origin, head.status) {
            (ResponseOrigin::ProxyUnavailable, _) => Self::Missing(Cause::UpstreamUnavailable),
            (ResponseOrigin::ProxyTimeout, _) => Self::Missing(Cause::UpstreamTimeout),
            (ResponseOrigin::ProxyRefusedSwitch, _) => Self::Missing(Cause::UnexpectedUpgrade),
            (ResponseOrigin::Upstream, 200..=299) if grpc_failed(head.headers) => Self::Failed,
            (ResponseOrigin::Upstream, 200..=299) => Self::Good,
            (ResponseOrigin::Upstream, 300..=399) => Self::Redirect,
            (ResponseOrigin::Upstream, ..=199) => Self::Upgraded,
            (ResponseOrigin::Upstream, 400..) => Self::Failed,
        }
    }
}

/// A gRPC answer that is only trailers says in its head that it failed, under status 200.
fn grpc_failed(headers: &[(&str, &[u8])]) -> bool {
    headers.iter().any(|(name, value)| *name == "grpc-status" && value.trim_ascii() != b"0")
}

// === impl Delivering ===

impl Delivering {
    pub(super) fn new(attempt: Box<Attempt>, transaction: String) -> Self {
        Self { attempt, transaction }
    }
    /// The stream is over. `broken` says that the upstream cut the body short; a client that went away
    /// is not broken, or it could have itself served again and again.
    pub fn ended(self, broken: bool, now: Now) -> Abandoned {
        let _ = now;
        let Self { attempt, transaction } = self;
        let change = match (broken, attempt.upfront()) {
            (_, true) => None,
            (true, false) => Some(KeyChange::Owed { transaction }),
            (false, false) => Some(KeyChange::Delivered),
        };
        let failed = broken.then(|| attempt.stamp(TupleCounter::UpstreamFailedAfterCharge));
        Abandoned {
            stamps: failed.into_iter().collect(),
            keys: change.map(|change| attempt.key(change)).into_iter().collect(),
        }
    }
}
