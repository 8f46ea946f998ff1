//! From the upstream to the client: settle at the response head, release, delivery.

use super::attempt::Attempt;
use super::paying::settle_at_response;
use super::refusal::Cause;
use super::reply::NO_RETRY;
use super::reply::{Told, push_receipts};
use super::strip::OWED;
use super::{Next, Note, ResponseHead, ResponseOrigin, Turn, response};
use crate::Now;
use crate::metrics::{Stamp, TupleCounter, UnchargedReason};
use crate::payment::End;

/// A forwarded free request. Its response needs no decision.
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
    /// Not settled yet.
    Verified,
    /// Settled in this request, before the upstream.
    Settled { transaction: String },
    /// Settled by an earlier request that was not served.
    Redeemed { transaction: String },
}

/// A settled response being streamed to the client.
#[derive(Debug)]
pub struct Delivering {
    attempt: Box<Attempt>,
}

/// Effects after the client has left or got its answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Abandoned {
    /// What to count.
    pub stamps: Vec<Stamp>,
    /// What the store of payments is told.
    pub notes: Vec<Note>,
}

/// Value of the header [`OWED`].
const FETCH: &str =
    "charged, but not answered: send the same request with the same payment again to get the answer";

/// What a response head means for the payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// 2xx: the answer that was paid for.
    Good,
    /// 3xx: passed on, not charged.
    Redirect,
    /// 101.
    Upgraded,
    /// An answer that reports a failure.
    Failed,
    /// No answer, so Farebox answers.
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
    pub(super) const fn verified(attempt: Box<Attempt>) -> Self {
        Self { attempt, paid: Paid::Verified }
    }
    pub(super) const fn settled(attempt: Box<Attempt>, transaction: String) -> Self {
        Self { attempt, paid: Paid::Settled { transaction } }
    }
    pub(super) const fn redeemed(attempt: Box<Attempt>, transaction: String) -> Self {
        Self { attempt, paid: Paid::Redeemed { transaction } }
    }
    /// Continues with the response head. The turn has a `Call` or a `Step` (hold the response), a `Release` or a
    /// `Reply`.
    pub fn response(self, head: &ResponseHead<'_>, now: Now) -> Turn {
        let verdict = Verdict::of(head);
        let Self { attempt, paid } = self;
        match paid {
            Paid::Verified => unsettled(attempt, verdict, head, now),
            Paid::Settled { transaction } => {
                let failed = match verdict {
                    Verdict::Redirect => Vec::new(),
                    _ => vec![attempt.stamp(TupleCounter::UpstreamFailedAfterCharge)],
                };
                paid_before(attempt, &transaction, true, verdict, head, Vec::new(), failed)
            }
            Paid::Redeemed { transaction } => {
                let failed = match verdict {
                    Verdict::Redirect => uncharged(&attempt, UnchargedReason::Redirect),
                    _ => vec![attempt.stamp(TupleCounter::UpstreamFailedAfterVerify)],
                };
                let served = uncharged(&attempt, UnchargedReason::Redeemed);
                paid_before(attempt, &transaction, false, verdict, head, served, failed)
            }
        }
    }
    /// What the store of payments is told now and then: see [`crate::payment::GOES_ON_EVERY_MS`].
    pub fn goes_on(&self) -> Vec<Note> {
        self.attempt.over(End::NotYet)
    }
    /// Ends the exchange of a client that left before the response head. The upstream has already worked, so a payment
    /// that was charged before counts as fetched. Otherwise a client could have any number of requests processed with
    /// one payment by leaving each in time.
    pub fn abandoned(self) -> Abandoned {
        let Self { attempt, paid } = self;
        match paid {
            Paid::Verified | Paid::Redeemed { .. } => attempt.client_gone(End::Broken),
            // The payment was counted at the settlement.
            Paid::Settled { .. } => Abandoned { stamps: Vec::new(), notes: attempt.over(End::Broken) },
        }
    }
}

/// Handles the response to a verified payment that is not settled.
fn unsettled(attempt: Box<Attempt>, verdict: Verdict, head: &ResponseHead<'_>, now: Now) -> Turn {
    let notes = attempt.over(End::Unsent);
    match verdict {
        Verdict::Good => {
            let edits = response::paid(head, &attempt.rules.settings, attempt.asker);
            settle_at_response(attempt, edits, now)
        }
        Verdict::Redirect => {
            let stamps = uncharged(&attempt, UnchargedReason::Redirect);
            Turn {
                stamps,
                notes,
                next: Next::Release(response::unpaid(head, &attempt.rules.settings, attempt.asker), None),
            }
        }
        Verdict::Failed => {
            let stamps = vec![attempt.stamp(TupleCounter::UpstreamFailedAfterVerify)];
            Turn {
                stamps,
                notes,
                next: Next::Release(response::unpaid(head, &attempt.rules.settings, attempt.asker), None),
            }
        }
        Verdict::Upgraded => attempt.refuse(Cause::UnexpectedUpgrade, &Told::default(), Vec::new(), notes),
        Verdict::Missing(cause) => attempt.refuse(cause, &Told::default(), Vec::new(), notes),
    }
}

/// Handles the response to a payment that is charged, so that a good answer is owed. A failure of the upstream (5xx)
/// never uses the payment. Any other answer does; `again` says that a good answer can still be fetched once.
fn paid_before(
    attempt: Box<Attempt>,
    transaction: &str,
    again: bool,
    verdict: Verdict,
    head: &ResponseHead<'_>,
    served: Vec<Stamp>,
    failed: Vec<Stamp>,
) -> Turn {
    let switches = verdict == Verdict::Upgraded && attempt.upfront() && attempt.asker.upgrade;
    if verdict == Verdict::Good || switches {
        let mut edits = response::paid(head, &attempt.rules.settings, attempt.asker);
        push_receipts(&mut edits.set, &attempt.receipt(transaction));
        let next = Next::Release(edits, Some(Delivering::new(attempt)));
        return Turn { stamps: served, notes: Vec::new(), next };
    }
    let is_none = matches!(verdict, Verdict::Missing(_) | Verdict::Upgraded) || head.status >= 500;
    let notes = attempt.over(if is_none { End::Unsent } else { End::Broken });
    let hint = (again || is_none).then_some(FETCH);
    let cause = match verdict {
        Verdict::Missing(cause) => cause,
        Verdict::Upgraded => Cause::UnexpectedUpgrade,
        // A response that may not be the paid answer, with the receipt of the payment.
        Verdict::Good | Verdict::Redirect | Verdict::Failed => {
            let mut edits = response::paid(head, &attempt.rules.settings, attempt.asker);
            push_receipts(&mut edits.set, &attempt.receipt(transaction));
            if let Some(hint) = hint {
                edits.set.push((OWED.into(), hint.to_owned()));
                edits.set.push((NO_RETRY.into(), "false".to_owned()));
            }
            return Turn { stamps: failed, notes, next: Next::Release(edits, None) };
        }
    };
    // Farebox's own answer in place of the upstream's.
    let receipt = Some(attempt.receipt(transaction));
    let reply = attempt.reply(cause, &Told { paid: true, hint, receipt, ..Told::default() });
    Turn { stamps: failed, notes, next: Next::Reply(reply) }
}

fn uncharged(attempt: &Attempt, reason: UnchargedReason) -> Vec<Stamp> {
    vec![attempt.stamp(TupleCounter::PaymentVerified), attempt.stamp(TupleCounter::VerifiedUncharged(reason))]
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

/// Whether a gRPC answer of trailers only reports a failure in its head, under status 200.
fn grpc_failed(headers: &[(&str, &[u8])]) -> bool {
    headers.iter().any(|(name, value)| *name == "grpc-status" && value.trim_ascii() != b"0")
}

// === impl Delivering ===

impl Delivering {
    pub(super) const fn new(attempt: Box<Attempt>) -> Self {
        Self { attempt }
    }
    /// What the store of payments is told now and then: see [`crate::payment::GOES_ON_EVERY_MS`].
    pub fn goes_on(&self) -> Vec<Note> {
        self.attempt.over(End::NotYet)
    }
    /// Ends the exchange at the end of the stream. `broken` says that the upstream cut the body short. It is false if
    /// the client left, because otherwise a client could have itself served again.
    pub fn ended(self, broken: bool, now: Now) -> Abandoned {
        let _ = now;
        let attempt = self.attempt;
        let failed = broken.then(|| attempt.stamp(TupleCounter::UpstreamFailedAfterCharge));
        let end = if broken { End::Broken } else { End::Whole };
        Abandoned { stamps: failed.into_iter().collect(), notes: attempt.over(end) }
    }
}
