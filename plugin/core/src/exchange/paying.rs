//! From a checked payment to the upstream: reservation, verify, settle-first, and the
//! call that settles after the upstream answered.

use super::attempt::{Attempt, Keys, call_stamp};
use super::refusal::Cause;
use super::reply::{Told, push_receipts};
use super::{Abandoned, Call, Delivering, HeaderEdits, Next, Turn, Unused, Upstream};
use crate::Now;
use crate::evm::TransferMethod;
use crate::metrics::{CallOutcome, FailureReason, ReplayState, Stamp, TupleCounter};
use crate::protocol::{
    CallBody, Operation, RelayRefusal, SettleReply, VerifyOutcome, is_nonce_used, read_settle_reply,
    read_verify_reply,
};
use crate::replay::{KeyChange, Reservation, Reserve};

/// Waits for a reservation. A shell answers it at once, so there is no way to abandon it.
#[derive(Debug)]
pub struct Reserving {
    attempt: Box<Attempt>,
    body: CallBody,
}

/// What came of a facilitator call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// A whole reply.
    Reply {
        /// HTTP status.
        status: u16,
        /// Body.
        body: &'a [u8],
    },
    /// No reply in time.
    TimedOut,
    /// No connection, or none that carried a reply. The call may have arrived.
    Unreachable,
    /// The reply broke off.
    Cut,
    /// The host refused to make the call: not a byte of it left.
    NotSent,
}

/// Waits for the facilitator: to verify or to settle first, with the request held, or to settle after the
/// upstream answered, with the response held.
#[derive(Debug)]
pub struct Calling {
    attempt: Box<Attempt>,
    call: Call,
    started: Now,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Verify,
    Settle {
        when: When,
        /// The transaction of a first reply that said pending: this call repeats the one it answered.
        pending: Option<String>,
    },
}

/// At which point of a request a settle call is made.
#[derive(Debug)]
enum When {
    /// Before the upstream, because the route says so.
    Upfront,
    /// Before the upstream, because an earlier attempt with this payment has an unknown outcome.
    Again { transaction: Option<String> },
    /// With the response held; the edits are for its release.
    AtResponse(HeaderEdits),
}

// === impl Reserving ===

impl Reserving {
    pub(super) fn new(attempt: Attempt, body: CallBody) -> Self {
        Self { attempt: Box::new(attempt), body }
    }
    /// What to reserve.
    pub fn request(&self) -> Reserve {
        self.attempt.reserve()
    }
    /// The edits [`Next::Serve`] will carry if the payment is good: for a shell that hands the rest of the
    /// exchange to somebody else.
    pub fn edits_once_paid(&self) -> HeaderEdits {
        self.attempt.edits_once_paid()
    }
    /// The answer of the replay table.
    pub fn reserved(self, reservation: Reservation, now: Now) -> Turn {
        let Self { attempt, body } = self;
        match reservation {
            Reservation::Fresh if attempt.upfront() => {
                let settling = vec![attempt.key(KeyChange::Settling)];
                settle(attempt, body.0, When::Upfront, Vec::new(), settling, now)
            }
            Reservation::Fresh => {
                let purpose = Purpose::Verify;
                let calling = Calling::new(attempt, Operation::Verify, body.0, purpose, now);
                Turn { stamps: Vec::new(), keys: Vec::new(), next: Next::Call(Box::new(calling)) }
            }
            Reservation::Unresolved { transaction, first_seen } => {
                let opened = first_seen.then(|| attempt.stamp(TupleCounter::UnresolvedOpened));
                let stamps = opened.into_iter().collect();
                settle(attempt, body.0, When::Again { transaction }, stamps, Vec::new(), now)
            }
            Reservation::Redeem { transaction } => {
                let mut attempt = attempt;
                let edits = attempt.take_edits();
                let upstream = Upstream::redeemed(attempt, transaction);
                Turn { stamps: Vec::new(), keys: Vec::new(), next: Next::Serve(edits, Box::new(upstream)) }
            }
            Reservation::InFlight => {
                replayed(&attempt, Cause::PaymentInFlight, ReplayState::InFlight, Vec::new(), Vec::new())
            }
            Reservation::Delivered => {
                replayed(&attempt, Cause::PaymentUsed, ReplayState::Settled, Vec::new(), Vec::new())
            }
            Reservation::OtherRoute => {
                let state = ReplayState::OtherRoute;
                replayed(&attempt, Cause::PaymentBoundElsewhere, state, Vec::new(), Vec::new())
            }
            Reservation::Full | Reservation::Unavailable => {
                attempt.refuse(Cause::ReplayGuardUnavailable, &Told::default(), Vec::new(), Vec::new())
            }
        }
    }
}

/// The relay knows of a use of the payment at another proxy, which this one's table cannot.
fn used_elsewhere(attempt: &Attempt, known: RelayRefusal, stamps: Vec<Stamp>, keys: Keys) -> Turn {
    match known {
        RelayRefusal::InFlight => {
            replayed(attempt, Cause::PaymentInFlight, ReplayState::InFlight, stamps, keys)
        }
        RelayRefusal::Used => replayed(attempt, Cause::PaymentUsed, ReplayState::Settled, stamps, keys),
        RelayRefusal::Unknown => {
            let told = attempt.told_unknown("settlement_pending", None);
            attempt.refuse(Cause::SettlementUnknown, &told, stamps, keys)
        }
        RelayRefusal::Unavailable => {
            attempt.refuse(Cause::ReplayGuardUnavailable, &Told::default(), stamps, keys)
        }
    }
}

fn replayed(attempt: &Attempt, cause: Cause, state: ReplayState, mut stamps: Vec<Stamp>, keys: Keys) -> Turn {
    let code = match attempt.option.transfer_method {
        TransferMethod::Eip3009 => "invalid_exact_evm_nonce_already_used",
        TransferMethod::Permit2 => "permit2_invalid_nonce",
    };
    let told = Told { code: Some(code.to_owned()), ..Told::default() };
    stamps.push(attempt.stamp(TupleCounter::ReplayRejected(state)));
    attempt.refuse(cause, &told, stamps, keys)
}

/// Settles with the response held.
pub(super) fn settle_at_response(attempt: Box<Attempt>, body: Vec<u8>, edits: HeaderEdits, now: Now) -> Turn {
    let settling = vec![attempt.key(KeyChange::Settling)];
    settle(attempt, body, When::AtResponse(edits), Vec::new(), settling, now)
}

fn settle(
    attempt: Box<Attempt>,
    body: Vec<u8>,
    when: When,
    stamps: Vec<Stamp>,
    keys: Keys,
    now: Now,
) -> Turn {
    let purpose = Purpose::Settle { when, pending: None };
    let calling = Calling::new(attempt, Operation::Settle, body, purpose, now);
    Turn { stamps, keys, next: Next::Call(Box::new(calling)) }
}

// === impl Calling ===

impl Calling {
    fn new(
        attempt: Box<Attempt>,
        operation: Operation,
        body: Vec<u8>,
        purpose: Purpose,
        started: Now,
    ) -> Self {
        let (timeout_ms, headers) = (attempt.timeout_ms(operation), attempt.relay_headers());
        let call = Call { operation, body, timeout_ms, headers };
        Self { attempt, call, started, purpose }
    }
    /// The call to make.
    pub fn call(&self) -> &Call {
        &self.call
    }
    /// The facilitator answered, or did not.
    pub fn answered(self, answer: Answer<'_>, now: Now) -> Turn {
        let Self { attempt, call, started, purpose } = self;
        match purpose {
            Purpose::Verify => verified(attempt, call.body, answer, started, now),
            Purpose::Settle { when, pending } => {
                Settling { attempt, body: call.body, when, pending, started, now }.answered(answer)
            }
        }
    }
    /// The client went away and no answer can reach this state any more. A settle call goes on without
    /// us, so its outcome is unknown from here on. What is [`Unused`] is to be told to the relay.
    pub fn abandoned(self, now: Now) -> (Abandoned, Option<Unused>) {
        let Self { attempt, started, purpose, call } = self;
        let has_relay = attempt.rules.has_relay();
        let unused = has_relay.then_some(Unused { body: call.body, headers: call.headers });
        let mut stamps = vec![call_stamp(call.operation, CallOutcome::Unreachable, started, now)];
        let abandoned = match purpose {
            Purpose::Verify => attempt.client_gone(stamps, KeyChange::Free),
            Purpose::Settle { when, pending } => {
                if !matches!(when, When::Again { .. }) {
                    stamps.push(attempt.stamp(TupleCounter::UnresolvedOpened));
                }
                stamps.push(attempt.failed(FailureReason::SettlementFailed));
                Abandoned { stamps, keys: vec![attempt.key(KeyChange::Unknown { transaction: pending })] }
            }
        };
        (abandoned, unused)
    }
}

fn verified(mut attempt: Box<Attempt>, body: Vec<u8>, answer: Answer<'_>, started: Now, now: Now) -> Turn {
    let stamps = |outcome| vec![call_stamp(Operation::Verify, outcome, started, now)];
    let free = vec![attempt.key(KeyChange::Free)];
    let (status, reply) = match answer {
        Answer::Reply { status, body } => (status, body),
        Answer::TimedOut | Answer::Unreachable | Answer::Cut | Answer::NotSent => {
            let stamps = stamps(without_reply(answer));
            return attempt.refuse(Cause::FacilitatorUnreachable, &Told::default(), stamps, free);
        }
    };
    match read_verify_reply(status, reply) {
        VerifyOutcome::Valid => {
            let edits = attempt.take_edits();
            let upstream = Box::new(Upstream::verified(attempt, body));
            Turn {
                stamps: stamps(CallOutcome::Success),
                keys: Vec::new(),
                next: Next::Serve(edits, upstream),
            }
        }
        VerifyOutcome::Invalid { reason, detail } => {
            let needs_allowance = reason == "permit2_allowance_required";
            let cause = if needs_allowance { Cause::AllowanceRequired } else { Cause::PaymentInvalid };
            if let Some(known) = RelayRefusal::parse(&reason).filter(|_| attempt.rules.has_relay()) {
                return used_elsewhere(&attempt, known, stamps(CallOutcome::Refused), free);
            }
            let told = Told { detail, ..Told::code(&reason) };
            attempt.refuse(cause, &told, stamps(CallOutcome::Refused), free)
        }
        VerifyOutcome::Malformed { .. } => {
            let stamps = stamps(bad_reply(status));
            attempt.refuse(Cause::FacilitatorMalformed, &Told::default(), stamps, free)
        }
        VerifyOutcome::Failed { retriable } => {
            let cause = if retriable { Cause::FacilitatorBusy } else { Cause::FacilitatorError };
            attempt.refuse(cause, &Told::default(), stamps(bad_reply(status)), free)
        }
    }
}

/// A settle call that is over.
struct Settling {
    attempt: Box<Attempt>,
    body: Vec<u8>,
    when: When,
    pending: Option<String>,
    started: Now,
    now: Now,
}

// === impl Settling ===

impl Settling {
    fn answered(self, answer: Answer<'_>) -> Turn {
        let Answer::Reply { status, body } = answer else {
            let stamps = self.stamps(without_reply(answer));
            // Nothing can have been broadcast, unless by the call this one was to repeat.
            return if answer == Answer::NotSent && !self.has_history() {
                self.not_settled(Cause::SettlementNotSent, stamps)
            } else {
                self.unknown(None, stamps)
            };
        };
        let reply = read_settle_reply(status, body, &self.attempt.option);
        match reply {
            SettleReply::Settled { transaction, payer: _ } => self.settled(transaction),
            // What an earlier call did, this one cannot say.
            SettleReply::Refused { .. } | SettleReply::Malformed { .. } if self.has_history() => {
                let stamps = self.stamps(CallOutcome::Refused);
                self.unknown(None, stamps)
            }
            SettleReply::Refused { reason, .. } => self.refused(&reason),
            SettleReply::Malformed { .. } => {
                let stamps = self.stamps(bad_reply(status));
                self.not_settled(Cause::SettlementMalformed, stamps)
            }
            SettleReply::Pending { transaction: Some(transaction) } if self.pending.is_none() => {
                let stamps = self.stamps(CallOutcome::Refused);
                self.repeat(transaction, stamps)
            }
            SettleReply::Pending { transaction } => {
                let stamps = self.stamps(CallOutcome::Refused);
                self.unknown(transaction, stamps)
            }
            // A relay says so of its own ledger only: another use of this payment is in the way.
            SettleReply::Unclear { transaction: None, reason }
                if is_nonce_used(&reason) && self.attempt.rules.has_relay() && !self.has_history() =>
            {
                self.refused(&reason)
            }
            SettleReply::Unclear { transaction, .. } => {
                let stamps = self.stamps(bad_reply(status));
                self.unknown(transaction, stamps)
            }
        }
    }

    /// With the response held, or before the upstream where settlement comes first.
    fn settled(self, transaction: String) -> Turn {
        let mut stamps = self.stamps(CallOutcome::Success);
        let Self { mut attempt, when, now, .. } = self;
        stamps.push(attempt.stamp(TupleCounter::PaymentVerified));
        stamps.extend(attempt.charged(now));
        if matches!(when, When::Again { .. }) {
            stamps.push(attempt.stamp(TupleCounter::UnresolvedClosed));
        }
        // Upfront, the payment buys the attempt; else it buys a response, which is still owed.
        let change = if attempt.upfront() {
            KeyChange::Delivered
        } else {
            KeyChange::Delivering { transaction: transaction.clone() }
        };
        let keys = vec![attempt.key(change)];
        let next = if let When::AtResponse(mut edits) = when {
            push_receipts(&mut edits.set, &attempt.receipt(&transaction));
            Next::Release(edits, Some(Delivering::new(attempt, transaction)))
        } else {
            let edits = attempt.take_edits();
            Next::Serve(edits, Box::new(Upstream::settled(attempt, transaction)))
        };
        Turn { stamps, keys, next }
    }

    /// A definite no: the payment is free again.
    fn refused(self, reason: &str) -> Turn {
        let mut stamps = self.stamps(CallOutcome::Refused);
        let Self { attempt, when, .. } = self;
        if matches!(when, When::Again { .. }) {
            stamps.push(attempt.stamp(TupleCounter::UnresolvedClosed));
        }
        let told = Told { receipt: Some(attempt.failed_receipt(reason, None)), ..Told::code(reason) };
        let keys = vec![attempt.key(KeyChange::Free)];
        attempt.refuse(Cause::SettlementRejected, &told, stamps, keys)
    }

    /// The one identical repeat of a call that was answered "pending".
    fn repeat(self, transaction: String, stamps: Vec<Stamp>) -> Turn {
        let Self { attempt, body, when, now, .. } = self;
        let keys = vec![attempt.key(KeyChange::Settling)];
        let purpose = Purpose::Settle { when, pending: Some(transaction) };
        let calling = Calling::new(attempt, Operation::Settle, body, purpose, now);
        Turn { stamps, keys, next: Next::Call(Box::new(calling)) }
    }

    /// Nobody knows whether money moved. Counted as unresolved once for each key: a repeat of an earlier attempt was counted then.
    fn unknown(self, answered: Option<String>, mut stamps: Vec<Stamp>) -> Turn {
        let Self { attempt, when, pending, .. } = self;
        let mut transaction = answered.or(pending);
        match when {
            When::Again { transaction: earlier } => transaction = transaction.or(earlier),
            When::Upfront | When::AtResponse(_) => {
                stamps.push(attempt.stamp(TupleCounter::UnresolvedOpened));
            }
        }
        let known = transaction.as_deref();
        let reason = if known.is_some() { "settlement_pending" } else { "unexpected_settle_error" };
        let told = attempt.told_unknown(reason, known);
        let keys = vec![attempt.key(KeyChange::Unknown { transaction })];
        attempt.refuse(Cause::SettlementUnknown, &told, stamps, keys)
    }

    /// Nothing was broadcast, and the buyer is not to blame.
    fn not_settled(self, cause: Cause, stamps: Vec<Stamp>) -> Turn {
        let Self { attempt, .. } = self;
        let receipt = Some(attempt.failed_receipt("unexpected_settle_error", None));
        let keys = vec![attempt.key(KeyChange::Free)];
        attempt.refuse(cause, &Told { receipt, ..Told::default() }, stamps, keys)
    }

    /// Whether an earlier settle call with this payment may have moved money.
    fn has_history(&self) -> bool {
        self.pending.is_some() || matches!(self.when, When::Again { .. })
    }
    fn stamps(&self, outcome: CallOutcome) -> Vec<Stamp> {
        vec![call_stamp(Operation::Settle, outcome, self.started, self.now)]
    }
}

const fn without_reply(answer: Answer<'_>) -> CallOutcome {
    match answer {
        Answer::TimedOut => CallOutcome::Timeout,
        _ => CallOutcome::Unreachable,
    }
}

const fn bad_reply(status: u16) -> CallOutcome {
    if matches!(status, 200..=299) { CallOutcome::BadReply } else { CallOutcome::HttpError }
}
