//! The state machine of a payment; its table is in [`super`].

use std::sync::Arc;

use super::{Fingerprint, Hold, Holder, Record, State, Terms, Trust};
use crate::Now;
use crate::metrics::{LateResult, TupleCounter};

/// How long a request may hold a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leases {
    /// Time until the settlement, and again until the end of the answer, milliseconds.
    pub hold_ms: u64,
    /// Time for one settle call with its repeat, milliseconds.
    pub settle_ms: u64,
}

/// A request's wish to use a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What was signed.
    pub fingerprint: Fingerprint,
    /// The terms of the request.
    pub terms: Terms,
    /// The request with the payment.
    pub holder: Holder,
    /// The body of its settle calls.
    pub call: Arc<[u8]>,
    /// When the authorization ends, Unix seconds.
    pub ends: u64,
    /// Whether the signer of the payment was recovered.
    pub proven: bool,
    /// Whether the payment did not pass the checks of a new payment, so that it is used only if it is known.
    pub only_known: bool,
    /// Whether its holder can repeat a settle call.
    pub can_settle: bool,
    /// Another payment for the same purchase that is in use, open or charged.
    pub twin: Option<Twin>,
}

/// Another payment for one purchase, by the `payment-identifier` extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// Its transaction, if one is known.
    pub transaction: Option<String>,
}

/// What happens to a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request wants to use the payment.
    Claim(Claim),
    /// The facilitator says that the payment is valid.
    Verified(Holder),
    /// The holder is about to settle.
    Begin(Holder),
    /// A settle call is over.
    Ended {
        /// The number of the call, from [`Answer::Call`].
        epoch: u32,
        /// The holder of the call: the request that claimed or began it, or the reconciliation that asked. The number
        /// alone is not enough, because numbers begin again when a nonce gets a second record.
        holder: Holder,
        /// The outcome.
        outcome: Outcome,
        /// The claim of the call ([`Claim::behind`]), in case the record is gone or now belongs to another payment.
        claim: Option<Box<Claim>>,
    },
    /// The request that held the payment ended.
    Over(Holder, End),
    /// The reconciliation wants to ask the facilitator again.
    Ask(Holder),
    /// An operator found out the outcome.
    Resolve(Resolution),
    /// Time passed.
    Sweep {
        /// How long charged payments and payments of unknown outcome are kept, seconds.
        retention: u64,
    },
}

/// The outcome of a settle call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Money moved.
    Settled {
        /// Transaction hash.
        transaction: String,
    },
    /// This call moved no money, and will not.
    Refused {
        /// Code of the facilitator.
        reason: String,
        /// The facilitator's message.
        detail: Option<String>,
    },
    /// This call moved no money either: the facilitator cannot read it.
    Malformed {
        /// What it says.
        words: String,
    },
    /// The call was not made.
    NotSent,
    /// The outcome is unknown.
    Unknown {
        /// Transaction if one is known.
        transaction: Option<String>,
        /// The reason, for logs and answers.
        reason: String,
    },
}

/// How a request ended for its payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The buyer got the whole answer.
    Whole,
    /// The answer began and broke off, or the buyer left while the upstream was working.
    Broken,
    /// No byte of an answer went out.
    Unsent,
    /// The same, and the request did not hear the end of its settle call, so it counted no sale.
    Unheard,
    /// The request still runs and needs its hold for longer.
    NotYet,
}

// === impl Claim ===

impl Claim {
    /// The claim of the call that is made now. The end of the call carries this claim, in case the record is gone by
    /// then. `None` for a record without a fingerprint, and if no call is made.
    pub fn behind(record: &Record) -> Option<Self> {
        let State::Settling { hold: Hold { holder, .. }, .. } = record.state else { return None };
        Some(Self {
            fingerprint: record.fingerprint?,
            terms: record.terms.clone(),
            holder,
            call: Arc::clone(&record.call),
            ends: record.ends,
            proven: false,
            only_known: true,
            can_settle: true,
            twin: None,
        })
    }
}

// === impl End ===

impl End {
    /// The word for this end, for the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken => "broken",
            Self::Unsent => "unsent",
            Self::Unheard => "unheard",
            Self::NotYet => "not_yet",
        }
    }
    /// The end with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Whole, Self::Broken, Self::Unsent, Self::Unheard, Self::NotYet]
            .into_iter()
            .find(|end| end.as_str() == word)
    }
}

/// What an operator found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The payment was settled.
    Settled {
        /// Transaction hash.
        transaction: String,
    },
    /// The payment was not settled, and cannot be settled any more.
    Refused,
}

/// The answer to an event. The answer to the end of a settle call depends on the next record: [`Answer::Settled`] only
/// if the holder of the call is the request to serve, [`Answer::Noted`] if the outcome of the call is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The payment is reserved for the holder, who has it verified now.
    Reserved,
    /// The holder makes the settle call of the record, under this epoch.
    Call {
        /// Number of the call.
        epoch: u32,
        /// Its body.
        call: Arc<[u8]>,
        /// Transaction of an earlier call.
        transaction: Option<String>,
    },
    /// The payment is charged and owed: the holder serves it without a call.
    Redeem {
        /// Of the settlement.
        transaction: String,
    },
    /// Another request uses the payment.
    InFlight,
    /// The payment is in use for other terms.
    OtherTerms,
    /// Another authorization of the same nonce is in use.
    OtherPayment,
    /// Money may have moved.
    Open {
        /// Transaction if one is known.
        transaction: Option<String>,
    },
    /// The payment is charged, for another offer or route.
    PaidFor {
        /// The terms that it was paid for.
        terms: Box<Terms>,
        /// Of the settlement.
        transaction: String,
    },
    /// The payment has bought its answer.
    Used,
    /// The purchase that the payment names was paid by another payment.
    Twin {
        /// Of that payment.
        transaction: Option<String>,
    },
    /// The payment is not known.
    New,
    /// The payment is charged already: the answer to a holder that begins to settle.
    Settled {
        /// Of the settlement.
        transaction: String,
    },
    /// The holder does not hold the payment, so nothing was done.
    NotHeld,
    /// A settle call of the same holder is under way.
    Begun,
    /// The event was recorded.
    Noted,
}

/// A further effect of a step. A store counts and logs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The outcome of a settlement became unknown.
    Opened,
    /// The outcome of an open settlement became known.
    Closed,
    /// Money moved: counted once.
    Charged,
    /// Money moved, and no request waited for it.
    SettledLate,
    /// An open settlement was refused.
    RefusedLate,
    /// The outcome will never be known.
    NeverKnown,
    /// An owed answer is being fetched.
    Redeemed,
    /// The settle call of a payment was refused, with this reason. The record is removed; the ledger keeps the reason.
    Refused(String),
    /// The event contradicts the record. The text says how.
    Contradicted(String),
}

/// A step of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The answer to the event.
    pub answer: Answer,
    /// The next record.
    pub record: Option<Record>,
    /// Whether the record changed.
    pub changed: bool,
    /// Further effects.
    pub effects: Vec<Effect>,
}

/// Pause after the first settle call of unknown outcome, doubled for each further one.
const FIRST_PAUSE_MS: u64 = 2_000;
/// Longest pause.
const MAX_PAUSE_MS: u64 = 300_000;
/// After so many settle calls the reconciliation stops; with the pauses that takes about two hours.
const MAX_CALLS: u32 = 32;

/// A request loses its hold if it does not renew it for so long, milliseconds.
const HOLD_MS: u64 = 600_000;
/// How often a shell renews the hold of a request, milliseconds: one or two renewals may be lost.
pub const GOES_ON_EVERY_MS: u64 = HOLD_MS / 4;
/// Time to record the end of a settlement, milliseconds. The settlement itself takes two calls at most, because a
/// pending call is repeated once.
const SETTLE_SLACK_MS: u64 = 10_000;

// === impl Effect ===

impl Effect {
    /// The counter of the effect, if the store counts it, independently of the request.
    pub const fn counter(&self) -> Option<TupleCounter> {
        match self {
            Self::Opened => Some(TupleCounter::UnresolvedOpened),
            Self::Closed => Some(TupleCounter::UnresolvedClosed),
            Self::SettledLate => Some(TupleCounter::ResolvedLate(LateResult::Settled)),
            Self::RefusedLate => Some(TupleCounter::ResolvedLate(LateResult::Refused)),
            Self::NeverKnown => Some(TupleCounter::ResolvedLate(LateResult::Expired)),
            Self::Charged | Self::Redeemed | Self::Refused(_) | Self::Contradicted(_) => None,
        }
    }
}

// === impl Leases ===

impl Leases {
    /// The leases for this timeout of a settle call, milliseconds.
    pub const fn of_timeout(settle_timeout_ms: u64) -> Self {
        let settle_ms = settle_timeout_ms.saturating_mul(2).saturating_add(SETTLE_SLACK_MS);
        Self { hold_ms: HOLD_MS, settle_ms }
    }
}

/// Makes one step of a payment's life. Every event has an answer in every state.
pub fn step(record: Option<Record>, event: Event, leases: &Leases, now: Now) -> Step {
    let mut step = decide(record, event, leases, now);
    if let Some(record) = step.record.as_mut().filter(|_| step.changed) {
        record.since_ms = now.unix_ms;
    }
    step
}

fn decide(record: Option<Record>, event: Event, leases: &Leases, now: Now) -> Step {
    let now_ms = now.unix_ms;
    match event {
        Event::Claim(claim) => match record {
            None => first_claim(claim, leases, now_ms),
            Some(record) => claim_known(record, claim, leases, now_ms),
        },
        Event::Verified(holder) => verified(record, holder),
        Event::Begin(holder) => begin(record, holder, leases, now_ms),
        Event::Ended { holder, outcome: Outcome::Settled { transaction }, claim, .. } => {
            ended_settled(record, holder, transaction, claim.map(|claim| *claim), leases, now_ms)
        }
        Event::Ended { epoch, holder, outcome, .. } => ended_otherwise(record, epoch, holder, outcome),
        Event::Over(holder, End::NotYet) => goes_on(record, holder, leases, now_ms),
        Event::Over(holder, end) => over(record, holder, end),
        Event::Ask(holder) => match record {
            Some(record) if due(&record).is_none_or(|due| due > now_ms) => {
                kept(Some(record), Answer::NotHeld)
            }
            Some(record) if record.epoch >= MAX_CALLS => unknown(record, None),
            Some(record) => call_again(record, holder, false, leases, now_ms),
            None => kept(None, Answer::NotHeld),
        },
        Event::Resolve(resolution) => resolve(record, resolution, leases, now_ms),
        Event::Sweep { retention } => sweep(record, retention, now),
    }
}

/// When the reconciliation has to step a record, Unix milliseconds. `None` if never.
pub fn due(record: &Record) -> Option<u64> {
    match record.state {
        State::Settling { hold, .. } => Some(hold.until_ms),
        State::Unknown if record.epoch < MAX_CALLS => {
            let doublings = record.epoch.saturating_sub(1).min(16);
            Some(record.since_ms.saturating_add((FIRST_PAUSE_MS << doublings).min(MAX_PAUSE_MS)))
        }
        State::Unknown | State::Reserved { .. } | State::Owed { .. } | State::Delivered => None,
    }
}

fn first_claim(claim: Claim, leases: &Leases, now_ms: u64) -> Step {
    match claim.twin {
        Some(Twin { transaction }) => kept(None, Answer::Twin { transaction }),
        None if claim.only_known => kept(None, Answer::New),
        None => became(reserved(claim, leases, now_ms), Answer::Reserved),
    }
}

fn claim_known(record: Record, claim: Claim, leases: &Leases, now_ms: u64) -> Step {
    let same = record.fingerprint == Some(claim.fingerprint);
    let same_terms = record.terms == claim.terms;
    match &record.state {
        // The answer to a claim can be lost; then the same request claims again.
        State::Reserved { hold, .. } if same && same_terms && hold.holder == claim.holder => {
            kept(Some(record), Answer::Reserved)
        }
        State::Owed { hold: Some(hold) } if same && same_terms && hold.holder == claim.holder => {
            let answer = Answer::Redeem { transaction: hash_of(&record) };
            kept(Some(record), answer)
        }
        State::Reserved { hold, trust }
            if claim.only_known
                // A reservation whose signature nobody could check does not stop a proven payment.
                || hold.runs(now_ms) && (same || *trust != Trust::Claimed || !claim.proven) =>
        {
            let answer = in_use(same, same_terms);
            kept(Some(record), answer)
        }
        State::Reserved { .. } => match claim.twin {
            Some(Twin { transaction }) => kept(Some(record), Answer::Twin { transaction }),
            None => first_claim(claim, leases, now_ms),
        },
        State::Settling { hold, .. } if hold.runs(now_ms) || !same || !same_terms => {
            let answer = in_use(same, same_terms);
            kept(Some(record), answer)
        }
        State::Unknown if !same => kept(Some(record), Answer::OtherPayment),
        State::Unknown if !same_terms => {
            let answer = Answer::Open { transaction: record.transaction.clone() };
            kept(Some(record), answer)
        }
        State::Settling { .. } | State::Unknown if !claim.can_settle => {
            let answer = Answer::Open { transaction: record.transaction.clone() };
            kept(Some(record), answer)
        }
        State::Settling { .. } | State::Unknown => call_again(record, claim.holder, true, leases, now_ms),
        State::Owed { .. } | State::Delivered if !same => kept(Some(record), Answer::Used),
        State::Delivered => kept(Some(record), Answer::Used),
        State::Owed { .. } if !same_terms => {
            let terms = Box::new(record.terms.clone());
            let answer = Answer::PaidFor { terms, transaction: hash_of(&record) };
            kept(Some(record), answer)
        }
        State::Owed { hold: Some(hold) } if hold.runs(now_ms) => kept(Some(record), Answer::InFlight),
        State::Owed { .. } if record.redeemed => kept(Some(record), Answer::Used),
        State::Owed { hold: lapsed } => {
            let answer = Answer::Redeem { transaction: hash_of(&record) };
            let before = lapsed.map(|lapsed| lapsed.holder).or(record.before);
            let hold = Some(hold(claim.holder, leases.hold_ms, now_ms));
            let record = Record { redeemed: true, before, state: State::Owed { hold }, ..record };
            Step { effects: vec![Effect::Redeemed], ..became(record, answer) }
        }
    }
}

/// The answer to a further claim of a payment that is in use.
const fn in_use(same: bool, same_terms: bool) -> Answer {
    match (same, same_terms) {
        (false, _) => Answer::OtherPayment,
        (true, false) => Answer::OtherTerms,
        (true, true) => Answer::InFlight,
    }
}

fn verified(record: Option<Record>, holder: Holder) -> Step {
    match record {
        Some(Record { state: State::Reserved { hold, .. }, .. }) if hold.holder == holder => {
            let state = State::Reserved { hold, trust: Trust::Vouched };
            let record = record.map(|record| Record { state, ..record });
            Step { record, changed: true, ..kept(None, Answer::Noted) }
        }
        record => kept(record, Answer::NotHeld),
    }
}

fn begin(record: Option<Record>, holder: Holder, leases: &Leases, now_ms: u64) -> Step {
    let Some(record) = record else { return kept(None, Answer::NotHeld) };
    let answer = match record.state {
        State::Reserved { hold, trust: Trust::Vouched } if hold.holder == holder => {
            return call_again(record, holder, true, leases, now_ms);
        }
        State::Reserved { hold, .. } if hold.holder == holder => Answer::NotHeld,
        State::Settling { hold, .. } if hold.holder == holder => Answer::Begun,
        State::Owed { hold: Some(hold) } if hold.holder == holder => {
            Answer::Settled { transaction: hash_of(&record) }
        }
        State::Settling { .. } | State::Unknown => Answer::Open { transaction: record.transaction.clone() },
        State::Reserved { .. } | State::Owed { .. } | State::Delivered => Answer::InFlight,
    };
    kept(Some(record), answer)
}

/// Begins the next settle call.
fn call_again(record: Record, holder: Holder, waits: bool, leases: &Leases, now_ms: u64) -> Step {
    let epoch = record.epoch.saturating_add(1);
    let hold = hold(holder, leases.settle_ms, now_ms);
    let was_open = record.is_open();
    let record = Record { epoch, state: State::Settling { hold, waits }, ..record };
    // A first call without an end was not counted as open before.
    let effects = if record.is_open() && !was_open { vec![Effect::Opened] } else { Vec::new() };
    let (call, transaction) = (Arc::clone(&record.call), record.transaction.clone());
    Step { effects, ..became(record, Answer::Call { epoch, call, transaction }) }
}

/// Handles a proven settlement of any call: money moved for the claimed payment.
fn ended_settled(
    record: Option<Record>,
    holder: Holder,
    transaction: String,
    claim: Option<Claim>,
    leases: &Leases,
    now_ms: u64,
) -> Step {
    let is_other = |record: &Record, claim: &Claim| {
        record.fingerprint.is_some_and(|fingerprint| fingerprint != claim.fingerprint)
    };
    let (record, contradicts) = match (record, claim) {
        (Some(record), Some(claim)) if is_other(&record, &claim) => {
            if record.is_charged() {
                let text = "settled, though another authorization of its nonce is";
                return contradicted(Some(record), Answer::Used, text);
            }
            // The nonce is used, so the other authorization can never be charged.
            let effect = record.is_open().then_some(Effect::Closed);
            let text = "settled, though another authorization of its nonce is on record";
            (lost(claim, leases, now_ms), [effect, Some(contradiction(text))])
        }
        (Some(record), _) => {
            let surprises = matches!(record.state, State::Reserved { .. });
            let effect = surprises.then(|| contradiction("settled, though no call of it is on record"));
            (record, [effect, None])
        }
        (None, Some(claim)) => {
            let effect = contradiction("settled, though there is no record of it");
            (lost(claim, leases, now_ms), [Some(effect), None])
        }
        (None, None) => {
            return contradicted(None, Answer::Noted, "settled, though nothing at all is known of it");
        }
    };
    let mut step = settled(record, transaction, leases, now_ms);
    step.effects.extend(contradicts.into_iter().flatten());
    Step { answer: standing(step.record.as_ref(), holder), ..step }
}

/// Makes the record of a payment that has none when its settle call ends; its request may still wait.
fn lost(claim: Claim, leases: &Leases, now_ms: u64) -> Record {
    let hold = hold(claim.holder, leases.settle_ms, now_ms);
    let state = State::Settling { hold, waits: true };
    Record { epoch: 1, state, ..reserved(claim, leases, now_ms) }
}

fn ended_otherwise(record: Option<Record>, epoch: u32, holder: Holder, outcome: Outcome) -> Step {
    let Some(record) = record else { return kept(None, Answer::Noted) };
    let is_first = epoch == 1;
    match (&record.state, outcome) {
        (State::Settling { hold, .. }, outcome) if record.epoch == epoch && hold.holder == holder => {
            match outcome {
                Outcome::Unknown { transaction, .. } => unknown(record, transaction),
                _ if !is_first => unknown(record, None),
                outcome => {
                    let effects = vec![Effect::Refused(reason_of(outcome))];
                    Step { changed: true, effects, ..kept(None, Answer::Noted) }
                }
            }
        }
        // A later call is refused because an earlier one settled. Only a refusal of the first call is a contradiction.
        (State::Owed { .. } | State::Delivered, Outcome::Refused { reason, .. })
            if is_first && record.epoch == epoch =>
        {
            let answer = standing(Some(&record), holder);
            contradicted(Some(record), answer, &format!("refused ({reason}), though it is settled"))
        }
        _ => {
            let answer = standing(Some(&record), holder);
            kept(Some(record), answer)
        }
    }
}

/// The answer to the end of a settle call, if the record and not the call decides.
fn standing(record: Option<&Record>, holder: Holder) -> Answer {
    let Some(record) = record else { return Answer::Noted };
    match record.state {
        State::Owed { hold: Some(hold) } if hold.holder == holder => {
            Answer::Settled { transaction: hash_of(record) }
        }
        State::Owed { hold: None } | State::Settling { .. } | State::Unknown => {
            Answer::Open { transaction: record.transaction.clone() }
        }
        State::Owed { hold: Some(_) } | State::Reserved { .. } => Answer::InFlight,
        State::Delivered => Answer::Used,
    }
}

/// Why nothing was charged, for the ledger.
fn reason_of(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused { reason, .. } => reason,
        Outcome::Malformed { words } => words,
        Outcome::NotSent => "the call was not sent".to_owned(),
        Outcome::Settled { .. } | Outcome::Unknown { .. } => String::new(),
    }
}

fn unknown(record: Record, transaction: Option<String>) -> Step {
    let effects = if record.is_open() { Vec::new() } else { vec![Effect::Opened] };
    let transaction = transaction.or(record.transaction);
    let answer = Answer::Open { transaction: transaction.clone() };
    let record = Record { transaction, state: State::Unknown, ..record };
    Step { effects, ..became(record, answer) }
}

/// Records that money moved. This is proven, from any source and at any time.
fn settled(record: Record, transaction: String, leases: &Leases, now_ms: u64) -> Step {
    let was_open = record.is_open();
    let hold = match record.state {
        State::Settling { hold: made, waits: true } => Some(hold(made.holder, leases.hold_ms, now_ms)),
        State::Settling { waits: false, .. } | State::Unknown | State::Reserved { .. } => None,
        State::Owed { .. } | State::Delivered => {
            let answer = Answer::Settled { transaction: hash_of(&record) };
            return kept(Some(record), answer);
        }
    };
    let mut effects = vec![Effect::Charged];
    if was_open {
        effects.push(Effect::Closed);
    }
    if hold.is_none() {
        effects.push(Effect::SettledLate);
    }
    let answer = Answer::Settled { transaction: transaction.clone() };
    // No further call is made for this payment.
    let call = Arc::default();
    let record = Record { transaction: Some(transaction), call, state: State::Owed { hold }, ..record };
    Step { effects, ..became(record, answer) }
}

fn over(record: Option<Record>, holder: Holder, end: End) -> Step {
    let Some(record) = record else { return kept(None, Answer::NotHeld) };
    match record.state {
        State::Reserved { hold, .. } if hold.holder == holder => {
            Step { changed: true, ..kept(None, Answer::Noted) }
        }
        State::Settling { hold, waits: true } if hold.holder == holder => {
            became(Record { state: State::Settling { hold, waits: false }, ..record }, Answer::Noted)
        }
        State::Owed { .. } if end == End::Whole && record.before == Some(holder) => {
            became(Record { before: None, state: State::Delivered, ..record }, Answer::Noted)
        }
        State::Owed { hold: Some(hold) } if hold.holder == holder => {
            // If no byte went out, the answer was not fetched.
            let is_used = end == End::Whole || record.redeemed && end == End::Broken;
            let redeemed = record.redeemed && is_used;
            let state = if is_used { State::Delivered } else { State::Owed { hold: None } };
            let before = record.before.filter(|_| !is_used);
            // It was charged as if somebody waited.
            let is_late = end == End::Unheard && !record.redeemed;
            let effects = if is_late { vec![Effect::SettledLate] } else { Vec::new() };
            Step { effects, ..became(Record { state, redeemed, before, ..record }, Answer::Noted) }
        }
        State::Reserved { .. }
        | State::Settling { .. }
        | State::Unknown
        | State::Owed { .. }
        | State::Delivered => kept(Some(record), Answer::NotHeld),
    }
}

/// Extends the hold of a request that still runs. The hold of a settle call is not extended, because the call has its
/// own timeout.
fn goes_on(record: Option<Record>, holder: Holder, leases: &Leases, now_ms: u64) -> Step {
    let Some(record) = record else { return kept(None, Answer::NotHeld) };
    let longer = hold(holder, leases.hold_ms, now_ms);
    let state = match record.state {
        State::Reserved { hold, trust } if hold.holder == holder => State::Reserved { hold: longer, trust },
        State::Owed { hold: Some(hold) } if hold.holder == holder => State::Owed { hold: Some(longer) },
        _ => return kept(Some(record), Answer::NotHeld),
    };
    became(Record { state, ..record }, Answer::Noted)
}

fn resolve(record: Option<Record>, resolution: Resolution, leases: &Leases, now_ms: u64) -> Step {
    let Some(record) = record else { return kept(None, Answer::New) };
    if record.is_charged() {
        return kept(Some(record), Answer::Used);
    }
    // The running call may still end with another transaction, or with none.
    if matches!(record.state, State::Settling { hold, .. } if hold.runs(now_ms)) {
        return kept(Some(record), Answer::InFlight);
    }
    match resolution {
        Resolution::Settled { transaction } => settled(record, transaction, leases, now_ms),
        Resolution::Refused => {
            let mut effects = vec![Effect::Refused("said by an operator".to_owned())];
            if record.is_open() {
                effects.extend([Effect::Closed, Effect::RefusedLate]);
            }
            Step { changed: true, effects, ..kept(None, Answer::Noted) }
        }
    }
}

fn sweep(record: Option<Record>, retention: u64, now: Now) -> Step {
    let Some(record) = record else { return kept(None, Answer::Noted) };
    let window_over = record.ends < now.unix_seconds();
    let kept_until = record.since_ms.saturating_add(retention.saturating_mul(1000));
    let retention_over = kept_until < now.unix_ms;
    // While an authorization runs, it would be taken for a new one.
    let forgotten = retention_over && window_over;
    let (gone, effects) = match record.state {
        State::Reserved { hold, trust } => (
            !hold.runs(now.unix_ms) && (trust != Trust::Vouched || window_over || retention_over),
            Vec::new(),
        ),
        State::Unknown => (forgotten, vec![Effect::Closed, Effect::NeverKnown]),
        // A call may be under way. The reconciliation or the next claim ends this state.
        State::Settling { .. } => (false, Vec::new()),
        State::Owed { .. } | State::Delivered => (forgotten, Vec::new()),
    };
    if gone {
        Step { changed: true, effects, ..kept(None, Answer::Noted) }
    } else {
        kept(Some(record), Answer::Noted)
    }
}

fn reserved(claim: Claim, leases: &Leases, now_ms: u64) -> Record {
    Record {
        fingerprint: Some(claim.fingerprint),
        terms: claim.terms,
        call: claim.call,
        ends: claim.ends,
        epoch: 0,
        redeemed: false,
        before: None,
        transaction: None,
        since_ms: now_ms,
        state: State::Reserved {
            hold: hold(claim.holder, leases.hold_ms, now_ms),
            trust: if claim.proven { Trust::Proven } else { Trust::Claimed },
        },
    }
}

const fn hold(holder: Holder, lease_ms: u64, now_ms: u64) -> Hold {
    Hold { holder, until_ms: now_ms.saturating_add(lease_ms) }
}

fn hash_of(record: &Record) -> String {
    record.transaction.clone().unwrap_or_default()
}

fn contradiction(text: &str) -> Effect {
    Effect::Contradicted(text.to_owned())
}

fn contradicted(record: Option<Record>, answer: Answer, text: &str) -> Step {
    Step { effects: vec![contradiction(text)], ..kept(record, answer) }
}

const fn kept(record: Option<Record>, answer: Answer) -> Step {
    Step { answer, record, changed: false, effects: Vec::new() }
}

const fn became(record: Record, answer: Answer) -> Step {
    Step { answer, record: Some(record), changed: true, effects: Vec::new() }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
