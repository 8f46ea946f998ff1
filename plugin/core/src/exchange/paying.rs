//! From a payment to the upstream: claim, verify, settle before the upstream, and the settle call after the upstream
//! answered.
//!
//! With a relay, each call goes to the relay, and the relay's reply decides. Without a relay, the shell's own store
//! steps the payment before and after each call to the facilitator.

use super::attempt::{Attempt, call_stamp};
use super::refusal::Cause;
use super::reply::{Told, push_receipts};
use super::strip::to_gateway;
use super::{Abandoned, Call, Delivering, HeaderEdits, Next, Note, Reply, RequestHead, Turn, Upstream};
use crate::Now;
use crate::evm::TransferMethod;
use crate::metrics::{CallOutcome, FailureReason, ReplayState, Stamp, TupleCounter};
use crate::payment::{Answer, Claim, Effect, End, Event, Expired, KeyDigest, Outcome, Reading, Settlement};
use crate::protocol::{
    CLOCK_TOLERANCE_SECONDS, CallEnd, Operation, RELAY_KNOWN, RelayReply, VerifyOutcome, read_verify_reply,
};

/// Waits for the shell's own store. The shell answers at once, so this state cannot be abandoned.
#[derive(Debug)]
pub struct Stepping {
    attempt: Box<Attempt>,
    event: Event,
    then: Then,
}

/// The purpose of a step.
#[derive(Debug)]
enum Then {
    /// To use the payment.
    Claim,
    /// To settle it.
    Begin(When),
    /// To record the outcome of the settle call.
    Ended(When),
}

/// Waits for the facilitator or the relay: to verify or to settle first, with the request held, or to settle after
/// the upstream answered, with the response held.
#[derive(Debug)]
pub struct Calling {
    attempt: Box<Attempt>,
    call: Call,
    started: Now,
    purpose: Purpose,
}

/// A settle call of a shell without a relay whose request has ended. Money may still move, and there is no client to
/// answer.
#[derive(Debug)]
pub struct Orphan {
    attempt: Box<Attempt>,
    started: Now,
    epoch: u32,
    settlement: Settlement,
}

/// How the call of an [`Orphan`] ended. Count `stamps`, pass `notes` to the store, and count `charged` if the store
/// returns [`Effect::Charged`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Late {
    /// What to count.
    pub stamps: Vec<Stamp>,
    /// What the store of payments is told.
    pub notes: Vec<Note>,
    /// What to count once the store has recorded that money moved.
    pub charged: [Stamp; 2],
}

#[derive(Debug)]
enum Purpose {
    Verify,
    Settle { when: When, epoch: u32, settlement: Settlement },
}

/// The point of a request at which a settle call is made.
#[derive(Debug)]
enum When {
    /// Before the upstream, because the route is `upfront`, or an earlier call with this payment has an unknown
    /// outcome.
    First,
    /// With the response held; the edits are for its release.
    AtResponse(HeaderEdits),
}

/// The first step of a payment: a claim at the relay or in the shell's own store.
pub(super) fn claim(attempt: Box<Attempt>, now: Now) -> Turn {
    if attempt.has_relay() {
        return call(Vec::new(), Calling::new(attempt, Operation::Verify, Purpose::Verify, now));
    }
    let event = Event::Claim(attempt.claim());
    step(Vec::new(), Stepping { attempt, event, then: Then::Claim })
}

/// Settles with the response held.
pub(super) fn settle_at_response(attempt: Box<Attempt>, edits: HeaderEdits, now: Now) -> Turn {
    begin_settlement(attempt, When::AtResponse(edits), Vec::new(), now)
}

fn begin_settlement(attempt: Box<Attempt>, when: When, stamps: Vec<Stamp>, now: Now) -> Turn {
    if attempt.has_relay() {
        let purpose = Purpose::Settle { when, epoch: 0, settlement: Settlement::default() };
        return call(stamps, Calling::new(attempt, Operation::Settle, purpose, now));
    }
    let event = Event::Begin(attempt.holder);
    step(stamps, Stepping { attempt, event, then: Then::Begin(when) })
}

fn step(stamps: Vec<Stamp>, stepping: Stepping) -> Turn {
    Turn { stamps, notes: Vec::new(), next: Next::Step(Box::new(stepping)) }
}

fn call(stamps: Vec<Stamp>, calling: Calling) -> Turn {
    Turn { stamps, notes: Vec::new(), next: Next::Call(Box::new(calling)) }
}

// === impl Stepping ===

impl Stepping {
    /// The key of the payment.
    pub fn key(&self) -> KeyDigest {
        self.attempt.key.digest()
    }
    /// [`crate::payment::tuple_hash`] of the tuple the payment is counted under.
    pub fn tuple(&self) -> u32 {
        self.attempt.tuple_hash()
    }
    /// The step.
    pub fn event(&self) -> &Event {
        &self.event
    }
    /// Continues with the store's answer and effects. The answer is `None` if the store has no room or cannot be read
    /// or written.
    pub fn stepped(self, answer: Option<Answer>, effects: &[Expired], now: Now) -> Turn {
        let Self { attempt, event, then } = self;
        match then {
            Then::Claim => claimed(attempt, answer, now),
            Then::Begin(when) => begun(attempt, when, answer, now),
            Then::Ended(when) => match event {
                Event::Ended { outcome, .. } => {
                    let is_charged = effects.iter().any(|effect| effect.effect == Effect::Charged);
                    let charged = if is_charged { attempt.charged(now).to_vec() } else { Vec::new() };
                    ended(attempt, when, outcome, answer, charged, now)
                }
                _ => internal(&attempt),
            },
        }
    }
}

fn claimed(attempt: Box<Attempt>, answer: Option<Answer>, now: Now) -> Turn {
    match answer {
        Some(Answer::Reserved) => {
            call(Vec::new(), Calling::new(attempt, Operation::Verify, Purpose::Verify, now))
        }
        Some(Answer::Call { epoch, call, .. }) => again(attempt, When::First, epoch, &call, now),
        Some(answer) => stands(attempt, RelayReply::from(answer), Vec::new()),
        None => stands(attempt, RelayReply::Unavailable, Vec::new()),
    }
}

fn begun(attempt: Box<Attempt>, when: When, answer: Option<Answer>, now: Now) -> Turn {
    match answer {
        Some(Answer::Call { epoch, call, .. }) => again(attempt, when, epoch, &call, now),
        Some(Answer::Settled { transaction }) => settled(attempt, when, &transaction, Vec::new(), Vec::new()),
        // The settlement was not begun, for any reason. A reservation that may still exist is released.
        None | Some(Answer::NotHeld) => given_up(attempt, RelayReply::NotBegun, Vec::new()),
        Some(answer) => stands(attempt, RelayReply::from(answer), Vec::new()),
    }
}

/// Makes the recorded settle call.
fn again(attempt: Box<Attempt>, when: When, epoch: u32, body: &[u8], now: Now) -> Turn {
    let purpose = Purpose::Settle { when, epoch, settlement: Settlement::default() };
    let mut calling = Calling::new(attempt, Operation::Settle, purpose, now);
    calling.call.body = body.to_vec();
    call(Vec::new(), calling)
}

/// Continues after the store has recorded the outcome of the call. The store's answer says whether this outcome is
/// final.
fn ended(
    attempt: Box<Attempt>,
    when: When,
    outcome: Outcome,
    answer: Option<Answer>,
    charged: Vec<Stamp>,
    now: Now,
) -> Turn {
    let reply = match (answer, outcome) {
        (Some(Answer::Settled { transaction }), _) => {
            return settled(attempt, when, &transaction, Vec::new(), charged);
        }
        // The settlement is proven, and no other request got it: the record belongs to this request until its lease
        // ends.
        (None, Outcome::Settled { transaction }) => {
            let charged = attempt.charged(now).to_vec();
            return settled(attempt, when, &transaction, Vec::new(), charged);
        }
        (Some(Answer::Noted), Outcome::Refused { reason, detail }) => RelayReply::Refused { reason, detail },
        (Some(Answer::Noted), Outcome::Malformed { words }) => {
            return unreadable(&attempt, Cause::SettlementMalformed, words, Vec::new());
        }
        (Some(Answer::Noted), Outcome::NotSent) => RelayReply::NotBegun,
        (Some(Answer::Noted), Outcome::Settled { transaction }) => {
            RelayReply::Open { transaction: Some(transaction) }
        }
        (None | Some(Answer::Noted), Outcome::Unknown { transaction, .. }) => {
            RelayReply::Open { transaction }
        }
        // A call that is not recorded may be made again.
        (None, _) => RelayReply::Open { transaction: None },
        // Another request continued with the payment.
        (Some(answer), _) => RelayReply::from(answer),
    };
    stands(attempt, reply, charged)
}

/// Ends a payment that this request may still hold.
fn given_up(attempt: Box<Attempt>, reply: RelayReply, stamps: Vec<Stamp>) -> Turn {
    let notes = attempt.over(End::Unheard);
    Turn { notes, ..stands(attempt, reply, stamps) }
}

fn internal(attempt: &Attempt) -> Turn {
    attempt.refuse(Cause::Internal, &Told { paid: true, ..Told::default() }, Vec::new(), Vec::new())
}

/// Ends a payment whose call the facilitator or the relay cannot read.
fn unreadable(attempt: &Attempt, cause: Cause, words: String, stamps: Vec<Stamp>) -> Turn {
    attempt.refuse(cause, &Told { detail: Some(words), ..Told::default() }, stamps, Vec::new())
}

/// Ends a payment, or serves it without a call, by the relay's reply.
fn stands(mut attempt: Box<Attempt>, reply: RelayReply, stamps: Vec<Stamp>) -> Turn {
    let refuse =
        |attempt: &Attempt, cause, told: Told, stamps| attempt.refuse(cause, &told, stamps, Vec::new());
    match reply {
        RelayReply::Redeem { transaction } => {
            let edits = attempt.take_edits();
            let upstream = Upstream::redeemed(attempt, transaction);
            Turn { stamps, notes: Vec::new(), next: Next::Serve(edits, Box::new(upstream)) }
        }
        RelayReply::New { .. } => {
            let Some(refusal) = attempt.refusal.take() else { return internal(&attempt) };
            attempt.tuple = refusal.tuple;
            refuse(&attempt, refusal.cause, refusal.told, stamps)
        }
        RelayReply::InFlight => used(&attempt, Cause::PaymentInFlight, ReplayState::InFlight, None, stamps),
        RelayReply::OtherTerms => {
            used(&attempt, Cause::PaymentInUseElsewhere, ReplayState::OtherRoute, None, stamps)
        }
        RelayReply::OtherPayment => used(&attempt, Cause::NonceInUse, ReplayState::InFlight, None, stamps),
        RelayReply::Used => used(&attempt, Cause::PaymentUsed, ReplayState::Settled, None, stamps),
        RelayReply::Twin { transaction } => {
            let message = transaction.map(|it| ["this purchase was paid with ", &it].concat());
            used(&attempt, Cause::PurchasePaid, ReplayState::Settled, message, stamps)
        }
        RelayReply::PaidFor { offer, route, transaction } => {
            let what = ["it is charged (", &transaction, ") and owed the answer of ", &route].concat();
            let what = if offer == "/" { what } else { [&what, " of the offer ", &offer].concat() };
            used(&attempt, Cause::PaymentPaidForElse, ReplayState::OtherRoute, Some(what), stamps)
        }
        RelayReply::Open { transaction } => {
            let known = transaction.as_deref();
            let reason = if known.is_some() { "settlement_pending" } else { "unexpected_settle_error" };
            let told = attempt.told_unknown(reason, known);
            refuse(&attempt, Cause::SettlementUnknown, told, stamps)
        }
        RelayReply::Refused { reason, detail } => {
            let receipt = Some(attempt.failed_receipt(&reason, None));
            refuse(
                &attempt,
                Cause::SettlementRejected,
                Told { receipt, detail, ..Told::code(&reason) },
                stamps,
            )
        }
        RelayReply::NotBegun => {
            let receipt = Some(attempt.failed_receipt("unexpected_settle_error", None));
            refuse(&attempt, Cause::SettlementNotSent, Told { receipt, ..Told::default() }, stamps)
        }
        RelayReply::Invalid { reason, detail } => {
            let needs_allowance = reason == "permit2_allowance_required";
            let cause = if needs_allowance { Cause::AllowanceRequired } else { Cause::PaymentInvalid };
            refuse(&attempt, cause, Told { detail, ..Told::code(&reason) }, stamps)
        }
        RelayReply::Malformed { words } => unreadable(&attempt, Cause::FacilitatorMalformed, words, stamps),
        RelayReply::NotTaken { reason } => {
            let told = Told::message([&reason, "; nothing was charged"].concat());
            refuse(&attempt, Cause::NotTaken, told, stamps)
        }
        RelayReply::Unreachable => refuse(&attempt, Cause::FacilitatorUnreachable, Told::default(), stamps),
        RelayReply::Busy => refuse(&attempt, Cause::FacilitatorBusy, Told::default(), stamps),
        RelayReply::NoVerdict => refuse(&attempt, Cause::FacilitatorError, Told::default(), stamps),
        RelayReply::Unavailable => refuse(&attempt, Cause::ReplayGuardUnavailable, Told::default(), stamps),
        // Neither reply is possible here.
        RelayReply::Valid | RelayReply::Settled { .. } => internal(&attempt),
    }
}

fn used(
    attempt: &Attempt,
    cause: Cause,
    state: ReplayState,
    message: Option<String>,
    mut stamps: Vec<Stamp>,
) -> Turn {
    // Only the first of these codes is about a nonce, because it makes a buyer sign with a new nonce.
    let code = match (cause, attempt.option.transfer_method) {
        (Cause::PaymentUsed | Cause::NonceInUse, TransferMethod::Eip3009) => {
            "invalid_exact_evm_nonce_already_used"
        }
        (Cause::PaymentUsed | Cause::NonceInUse, TransferMethod::Permit2) => "permit2_invalid_nonce",
        (Cause::PaymentInFlight | Cause::PaymentInUseElsewhere, _) => "payment_in_use",
        (Cause::PaymentPaidForElse, _) => "payment_owed_elsewhere",
        (_, _) => "purchase_already_paid",
    };
    let told = Told { code: Some(code.to_owned()), message, ..Told::default() };
    stamps.push(attempt.stamp(TupleCounter::ReplayRejected(state)));
    attempt.refuse(cause, &told, stamps, Vec::new())
}

/// Continues after money moved for this request, with the response held or before the upstream.
fn settled(
    mut attempt: Box<Attempt>,
    when: When,
    transaction: &str,
    mut stamps: Vec<Stamp>,
    charged: Vec<Stamp>,
) -> Turn {
    stamps.push(attempt.stamp(TupleCounter::PaymentVerified));
    stamps.extend(charged);
    let next = if let When::AtResponse(mut edits) = when {
        push_receipts(&mut edits.set, &attempt.receipt(transaction));
        Next::Release(edits, Some(Delivering::new(attempt)))
    } else {
        let edits = attempt.take_edits();
        Next::Serve(edits, Box::new(Upstream::settled(attempt, transaction.to_owned())))
    };
    Turn { stamps, notes: Vec::new(), next }
}

// === impl Calling ===

impl Calling {
    fn new(attempt: Box<Attempt>, operation: Operation, purpose: Purpose, started: Now) -> Self {
        let (timeout_ms, headers) = (attempt.timeout_ms(operation), attempt.relay_headers());
        let call = Call { operation, body: attempt.call.to_vec(), timeout_ms, headers };
        Self { attempt, call, started, purpose }
    }
    /// The call to make.
    pub fn call(&self) -> &Call {
        &self.call
    }
    /// The edits of [`Next::Serve`] if the payment is good. For a shell that passes the rest of the exchange to
    /// another program.
    pub fn edits_once_paid(&self) -> HeaderEdits {
        self.attempt.edits_once_paid()
    }
    /// The key and the claim of the payment, for such a shell.
    pub fn claim(&self) -> (KeyDigest, Claim) {
        (self.attempt.key.digest(), self.attempt.claim())
    }
    /// The answer of such a shell if the payment is not known, and fails the checks of a new payment.
    pub fn unless_known(&self) -> Option<Reply> {
        let refusal = self.attempt.refusal.as_deref()?;
        Some(self.attempt.reply(refusal.cause, &refusal.told))
    }
    /// Edits for a shell that passes the request to another shell of this core, which begins a new exchange. They say
    /// whether the payment fails the checks of a new payment under these rules.
    pub fn to_gateway(&self, head: &RequestHead<'_>) -> HeaderEdits {
        let mut edits = to_gateway(head);
        if self.attempt.refusal.is_some() {
            edits.set.push((RELAY_KNOWN.into(), "1".to_owned()));
        }
        edits
    }
    /// Continues after the end of the call.
    pub fn answered(self, end: CallEnd<'_>, now: Now) -> Turn {
        let Self { attempt, call, started, purpose } = self;
        let over = Over { operation: call.operation, end, started, now };
        match purpose {
            Purpose::Verify if attempt.has_relay() => over.relay_verified(attempt),
            Purpose::Verify => over.verified(attempt),
            Purpose::Settle { when, .. } if attempt.has_relay() => over.relay_settled(attempt, when),
            Purpose::Settle { when, epoch, settlement } => {
                match settlement.ended(end, &attempt.option, attempt.payer()) {
                    Reading::Repeat(settlement) => {
                        let stamps = over.stamps(without_reply(end));
                        let purpose = Purpose::Settle { when, epoch, settlement };
                        let repeat = Self { attempt, call, started: now, purpose };
                        Turn { stamps, notes: Vec::new(), next: Next::Call(Box::new(repeat)) }
                    }
                    Reading::Over(outcome) => {
                        let stamps = over.stamps(call_outcome(end, &outcome));
                        let (holder, claim) = (attempt.holder, Some(Box::new(attempt.claim())));
                        let event = Event::Ended { epoch, holder, outcome, claim };
                        step(stamps, Stepping { attempt, event, then: Then::Ended(when) })
                    }
                }
            }
        }
    }
    /// Ends the exchange of a client that left during a settle call whose end the shell will still get. The payment
    /// stays in this call, so a resend makes no second call meanwhile. Any other state is returned as the error, to
    /// be abandoned.
    pub fn orphaned(self: Box<Self>) -> Result<(Abandoned, Orphan), Box<Self>> {
        match self.purpose {
            Purpose::Settle { epoch, settlement, .. } if !self.attempt.has_relay() => {
                let stamps = vec![self.attempt.failed(FailureReason::ClientDisconnected)];
                let notes = self.attempt.over(End::Unheard);
                let orphan = Orphan { attempt: self.attempt, started: self.started, epoch, settlement };
                Ok((Abandoned { stamps, notes }, orphan))
            }
            _ => Err(self),
        }
    }
    /// Ends the exchange of a client that left, if the end of the call cannot be received any more. The call itself
    /// continues, so it is not counted, and the outcome of a settle call is unknown from now on.
    pub fn abandoned(self) -> Abandoned {
        let Self { attempt, purpose, .. } = self;
        match purpose {
            Purpose::Settle { epoch, .. } if !attempt.has_relay() => {
                let outcome = Outcome::Unknown { transaction: None, reason: "the client left".to_owned() };
                let event = Event::Ended { epoch, holder: attempt.holder, outcome, claim: None };
                let stamps = vec![attempt.failed(FailureReason::ClientDisconnected)];
                Abandoned { stamps, notes: vec![attempt.note(event)] }
            }
            _ => attempt.client_gone(End::Unheard),
        }
    }
}

// === impl Orphan ===

impl Orphan {
    /// Reads the end of the call. A pending call is not repeated; the next resend does that.
    pub fn answered(self, end: CallEnd<'_>, now: Now) -> Late {
        let Self { attempt, started, epoch, settlement } = self;
        let outcome = match settlement.ended(end, &attempt.option, attempt.payer()) {
            Reading::Over(outcome) => outcome,
            Reading::Repeat(settlement) => settlement.given_up(),
        };
        let stamps = vec![call_stamp(Operation::Settle, call_outcome(end, &outcome), started, now)];
        let (holder, claim) = (attempt.holder, Some(Box::new(attempt.claim())));
        let ended = attempt.note(Event::Ended { epoch, holder, outcome, claim });
        // If the record was gone, the end has made a new one; this request no longer waits for it.
        let notes = [vec![ended], attempt.over(End::Unheard)].concat();
        Late { stamps, notes, charged: attempt.charged(now) }
    }
}

/// The end of a call.
struct Over<'a> {
    operation: Operation,
    end: CallEnd<'a>,
    started: Now,
    now: Now,
}

// === impl Over ===

impl Over<'_> {
    /// The relay's reply, or `None`.
    fn word(&self) -> Option<RelayReply> {
        match self.end {
            CallEnd::Reply { body, .. } => RelayReply::read(body),
            CallEnd::TimedOut | CallEnd::Unreachable | CallEnd::Cut | CallEnd::NotSent => None,
        }
    }

    /// Continues after the relay's reply to a verify call.
    fn relay_verified(self, mut attempt: Box<Attempt>) -> Turn {
        let Some(word) = self.word() else {
            // The relay may know that the payment is open or charged.
            let (stamps, notes) = (self.stamps(without_reply(self.end)), attempt.over(End::Unheard));
            return attempt.refuse(Cause::RelaySilent, &Told::default(), stamps, notes);
        };
        if let (RelayReply::New { now: Some(theirs) }, Some(refusal)) = (&word, &mut attempt.refusal)
            && refusal.cause == Cause::PaymentUntimely
            && theirs.abs_diff(self.now.unix_seconds()) > CLOCK_TOLERANCE_SECONDS
        {
            (refusal.cause, refusal.told) = (Cause::ClockWrong, Told::default());
        }
        match word {
            RelayReply::Valid => vouched(attempt, self.stamps(CallOutcome::Success), Vec::new(), self.now),
            RelayReply::Settled { transaction } => {
                let charged = attempt.charged(self.now).to_vec();
                settled(attempt, When::First, &transaction, self.stamps(CallOutcome::Success), charged)
            }
            RelayReply::Redeem { .. } => stands(attempt, word, self.stamps(CallOutcome::Success)),
            RelayReply::Unreachable => stands(attempt, word, self.stamps(CallOutcome::Unreachable)),
            RelayReply::Busy | RelayReply::NoVerdict | RelayReply::Malformed { .. } => {
                stands(attempt, word, self.stamps(CallOutcome::HttpError))
            }
            _ => stands(attempt, word, self.stamps(CallOutcome::Refused)),
        }
    }

    /// Continues after the relay's reply to a settle call.
    fn relay_settled(self, attempt: Box<Attempt>, when: When) -> Turn {
        let Some(word) = self.word() else {
            let stamps = self.stamps(without_reply(self.end));
            // The relay may have begun the settlement.
            let not_sent = self.end == CallEnd::NotSent;
            let word = if not_sent { RelayReply::NotBegun } else { RelayReply::Open { transaction: None } };
            return given_up(attempt, word, stamps);
        };
        match word {
            RelayReply::Settled { transaction } => {
                let charged = attempt.charged(self.now).to_vec();
                settled(attempt, when, &transaction, self.stamps(CallOutcome::Success), charged)
            }
            RelayReply::Malformed { words } => {
                let (stamps, notes) = (self.stamps(CallOutcome::HttpError), attempt.over(End::Unsent));
                Turn { notes, ..unreadable(&attempt, Cause::SettlementMalformed, words, stamps) }
            }
            // The relay could not call the facilitator; nothing was charged.
            RelayReply::Unreachable => {
                given_up(attempt, RelayReply::NotBegun, self.stamps(CallOutcome::Unreachable))
            }
            RelayReply::Open { .. } => given_up(attempt, word, self.stamps(CallOutcome::HttpError)),
            _ => given_up(attempt, word, self.stamps(CallOutcome::Refused)),
        }
    }

    /// Continues after the facilitator's reply to a verify call.
    fn verified(self, attempt: Box<Attempt>) -> Turn {
        let CallEnd::Reply { status, body } = self.end else {
            let stamps = self.stamps(without_reply(self.end));
            let notes = attempt.over(End::Unsent);
            return attempt.refuse(Cause::FacilitatorUnreachable, &Told::default(), stamps, notes);
        };
        let (word, outcome) = match read_verify_reply(status, body, attempt.payer()) {
            VerifyOutcome::Valid => {
                let notes = vec![attempt.note(Event::Verified(attempt.holder))];
                return vouched(attempt, self.stamps(CallOutcome::Success), notes, self.now);
            }
            VerifyOutcome::Invalid { reason, detail } => {
                (RelayReply::Invalid { reason, detail }, CallOutcome::Refused)
            }
            VerifyOutcome::Malformed { words, .. } => (RelayReply::Malformed { words }, bad_reply(status)),
            VerifyOutcome::Failed { retriable: true } => (RelayReply::Busy, bad_reply(status)),
            VerifyOutcome::Failed { retriable: false } => (RelayReply::NoVerdict, bad_reply(status)),
        };
        given_up(attempt, word, self.stamps(outcome))
    }

    fn stamps(&self, outcome: CallOutcome) -> Vec<Stamp> {
        vec![call_stamp(self.operation, outcome, self.started, self.now)]
    }
}

/// Continues with a valid payment: to the upstream, or to the settlement on an `upfront` route.
fn vouched(mut attempt: Box<Attempt>, stamps: Vec<Stamp>, notes: Vec<Note>, now: Now) -> Turn {
    if attempt.upfront() {
        let mut turn = begin_settlement(attempt, When::First, stamps, now);
        turn.notes = notes;
        return turn;
    }
    let edits = attempt.take_edits();
    Turn { stamps, notes, next: Next::Serve(edits, Box::new(Upstream::verified(attempt))) }
}

const fn without_reply(end: CallEnd<'_>) -> CallOutcome {
    match end {
        CallEnd::TimedOut => CallOutcome::Timeout,
        CallEnd::Reply { status, .. } => bad_reply(status),
        CallEnd::Unreachable | CallEnd::Cut | CallEnd::NotSent => CallOutcome::Unreachable,
    }
}

const fn call_outcome(end: CallEnd<'_>, outcome: &Outcome) -> CallOutcome {
    match (outcome, end) {
        (Outcome::Settled { .. }, _) => CallOutcome::Success,
        (Outcome::Refused { .. }, _) => CallOutcome::Refused,
        (_, end) => without_reply(end),
    }
}

const fn bad_reply(status: u16) -> CallOutcome {
    if matches!(status, 200..=299) { CallOutcome::BadReply } else { CallOutcome::HttpError }
}
