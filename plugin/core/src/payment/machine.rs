//! The machine: see the table of [`super`].

use std::sync::Arc;

use super::{Fingerprint, Hold, Holder, Record, State, Terms, Trust};
use crate::Now;
use crate::metrics::{LateResult, TupleCounter};

/// How long a request may hold a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leases {
    /// Until it settles, and again until its answer is out, milliseconds.
    pub hold_ms: u64,
    /// One settle call with its repeat, milliseconds.
    pub settle_ms: u64,
}

/// A payment somebody wants to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What was signed.
    pub fingerprint: Fingerprint,
    /// What it is to buy.
    pub terms: Terms,
    /// The request that brings it.
    pub holder: Holder,
    /// The body of its settle calls.
    pub call: Arc<[u8]>,
    /// When the authorization ends, Unix seconds.
    pub ends: u64,
    /// Its signer was recovered.
    pub proven: bool,
    /// It did not pass the checks of a new payment, so it is used only if it is known.
    pub only_known: bool,
    /// Whether its holder can repeat a settle call.
    pub can_settle: bool,
    /// Another payment, at work, open or charged, that names the same purchase.
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
    /// A request brings it.
    Claim(Claim),
    /// The facilitator vouches for it.
    Verified(Holder),
    /// Its holder is about to settle.
    Begin(Holder),
    /// A settle call is over.
    Ended {
        /// Which: what [`Answer::Call`] said.
        epoch: u32,
        /// Whose: the request that claimed or began it, or the one that asked. Numbers alone repeat when a nonce
        /// has a second life.
        holder: Holder,
        /// What came of it.
        outcome: Outcome,
        /// The claim behind it, in case the record is gone or another payment's: [`Claim::behind`] the call, whatever
        /// the request brought.
        claim: Option<Box<Claim>>,
    },
    /// The request that held it is over.
    Over(Holder, End),
    /// The reconciliation asks what became of it.
    Ask(Holder),
    /// An operator found out.
    Resolve(Resolution),
    /// Time went by.
    Sweep {
        /// How long what is over, and what nobody can find out, is kept, seconds.
        retention: u64,
    },
}

/// What came of a settle call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Money moved.
    Settled {
        /// Transaction hash.
        transaction: String,
    },
    /// By this call none did, and none will.
    Refused {
        /// Code of the facilitator.
        reason: String,
        /// What it says beside it.
        detail: Option<String>,
    },
    /// Nor here: the facilitator cannot read what it is sent.
    Malformed {
        /// What it says.
        words: String,
    },
    /// The call was not made.
    NotSent,
    /// Nobody knows.
    Unknown {
        /// Transaction if one is known.
        transaction: Option<String>,
        /// For people.
        reason: String,
    },
}

/// How a request ended for its payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The buyer got the whole answer.
    Whole,
    /// The answer began and broke off, or the buyer left while the upstream was at work for it.
    Broken,
    /// No byte of an answer went out.
    Unsent,
    /// It has not ended: its request goes on, and needs its hold for longer.
    NotYet,
}

// === impl Claim ===

impl Claim {
    /// The claim behind a call that is made: what the call's end brings, in case the record is gone by then. `None` for
    /// a record without a fingerprint, and where no call is made.
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
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken => "broken",
            Self::Unsent => "unsent",
            Self::NotYet => "not_yet",
        }
    }
    /// The end with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Whole, Self::Broken, Self::Unsent, Self::NotYet].into_iter().find(|end| end.as_str() == word)
    }
}

/// What an operator found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// It was settled.
    Settled {
        /// Transaction hash.
        transaction: String,
    },
    /// It was not, and cannot be any more.
    Refused,
}

/// What whoever brought an event is told. The end of a settle call is answered by the record that follows:
/// [`Answer::Settled`] only if its holder is the one to serve, [`Answer::Noted`] if its own outcome stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The payment is the holder's: have it verified.
    Reserved,
    /// Make the settle call of the record, as that of this epoch.
    Call {
        /// Number of the call.
        epoch: u32,
        /// Its body.
        call: Arc<[u8]>,
        /// Transaction of an earlier call.
        transaction: Option<String>,
    },
    /// It is charged and owed: serve, without a call.
    Redeem {
        /// Of the settlement.
        transaction: String,
    },
    /// Another request is at work on it.
    InFlight,
    /// It is in use for other terms.
    OtherTerms,
    /// Another authorization of its nonce is in use.
    OtherPayment,
    /// Money may have moved.
    Open {
        /// Transaction if one is known.
        transaction: Option<String>,
    },
    /// It is charged, for something else.
    PaidFor {
        /// What it was paid for.
        terms: Box<Terms>,
        /// Of the settlement.
        transaction: String,
    },
    /// It is used up.
    Used,
    /// The purchase it names was paid by another payment.
    Twin {
        /// Of that payment.
        transaction: Option<String>,
    },
    /// Nobody has seen it.
    New,
    /// It is charged already: what a holder that begins to settle is told.
    Settled {
        /// Of the settlement.
        transaction: String,
    },
    /// The holder has nothing here: whatever it wanted is not done.
    NotHeld,
    /// A settle call of the same holder is under way.
    Begun,
    /// Taken note of.
    Noted,
}

/// What else follows from a step. A store counts and logs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A settlement became open.
    Opened,
    /// An open settlement is known.
    Closed,
    /// Money moved: counted once.
    Charged,
    /// Money moved, and nobody was there to hear of it.
    SettledLate,
    /// An open settlement was refused.
    RefusedLate,
    /// Nobody will ever know.
    NeverKnown,
    /// An owed answer is being fetched.
    Redeemed,
    /// The settle call of a payment was refused. For the books: the record is gone.
    Refused(String),
    /// What came contradicts the record. The text says what.
    Contradicted(String),
}

/// A step of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// For whoever brought the event.
    pub answer: Answer,
    /// The record from here on.
    pub record: Option<Record>,
    /// Whether it is another than before.
    pub changed: bool,
    /// What else follows.
    pub effects: Vec<Effect>,
}

/// Pause after the first settle call of unknown outcome, doubled for each further one.
const FIRST_PAUSE_MS: u64 = 2_000;
/// Longest pause.
const MAX_PAUSE_MS: u64 = 300_000;
/// After so many settle calls nobody asks any more by itself: about two hours.
const MAX_CALLS: u32 = 32;

/// A request that gives no sign of life is given up after so long.
const HOLD_MS: u64 = 600_000;
/// How often a shell says of a request that it goes on, milliseconds: one or two of these may be lost.
pub const GOES_ON_EVERY_MS: u64 = HOLD_MS / 4;
/// A settlement repeats a pending call once, so it lasts two calls at most; then some slack to write down its end.
const SETTLE_SLACK_MS: u64 = 10_000;

// === impl Effect ===

impl Effect {
    /// The counter it adds to, if whoever keeps the record counts it whatever the request does.
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
    /// Those of whoever waits so long for the reply to a settle call, milliseconds.
    pub const fn of_timeout(settle_timeout_ms: u64) -> Self {
        let settle_ms = settle_timeout_ms.saturating_mul(2).saturating_add(SETTLE_SLACK_MS);
        Self { hold_ms: HOLD_MS, settle_ms }
    }
}

/// One step of a payment's life. Total: every event has an answer in every state.
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

/// When the reconciliation has to look at a record, Unix milliseconds. `None` if never.
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
        // A request whose claim was answered and whose answer was lost claims once more.
        State::Reserved { hold, .. } if same && same_terms && hold.holder == claim.holder => {
            kept(Some(record), Answer::Reserved)
        }
        State::Owed { hold: Some(hold) } if same && same_terms && hold.holder == claim.holder => {
            let answer = Answer::Redeem { transaction: hash_of(&record) };
            kept(Some(record), answer)
        }
        State::Reserved { hold, trust }
            if claim.only_known
                // What nobody can check keeps nobody from what is proven.
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

/// A payment at work, of which another claim comes in.
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
    // A first call that nobody ended was not counted as open so far.
    let effects = if record.is_open() && !was_open { vec![Effect::Opened] } else { Vec::new() };
    let (call, transaction) = (Arc::clone(&record.call), record.transaction.clone());
    Step { effects, ..became(record, Answer::Call { epoch, call, transaction }) }
}

/// Proven, whatever the number of the call: money moved for the payment that was claimed.
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
            // Its nonce is used, so the other can never be charged.
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

/// The record of a payment whose settle call is over and that has none: its request may still wait.
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
        // A later call is refused because an earlier one settled: only of the first it is strange.
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

/// What the request behind a settle call is told when the record says more than the call.
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

/// Why nothing was charged, for the books.
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

/// Money moved: proven, whoever says it and whenever.
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
    // No call of it is ever made again.
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
            // Where no byte went out, nothing was fetched.
            let is_used = end == End::Whole || record.redeemed && end == End::Broken;
            let redeemed = record.redeemed && is_used;
            let state = if is_used { State::Delivered } else { State::Owed { hold: None } };
            let before = record.before.filter(|_| !is_used);
            became(Record { state, redeemed, before, ..record }, Answer::Noted)
        }
        State::Reserved { .. }
        | State::Settling { .. }
        | State::Unknown
        | State::Owed { .. }
        | State::Delivered => kept(Some(record), Answer::NotHeld),
    }
}

/// The hold of whoever goes on lasts for longer. That of a settle call does not: the call has its own end.
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
    // Its call may end in another transaction, or in none.
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
    let (gone, effects) = match record.state {
        State::Reserved { hold, trust } => (
            !hold.runs(now.unix_ms) && (trust != Trust::Vouched || window_over || retention_over),
            Vec::new(),
        ),
        State::Unknown => (retention_over, vec![Effect::Closed, Effect::NeverKnown]),
        // Its call may be out. The reconciliation or the next claim ends it.
        State::Settling { .. } => (false, Vec::new()),
        State::Owed { .. } | State::Delivered => (retention_over, Vec::new()),
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
