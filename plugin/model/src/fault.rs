//! Deliberate faults, to show that the model finds each of them.

use std::sync::Arc;

use farebox_core::Now;
use farebox_core::payment::{
    Answer, Claim, Effect, Event, Hold, Leases, Outcome, Record, State, Step, Trust, step,
};

use crate::cast::Payment;
use crate::model::Bounds;

macro_rules! faults {
    ($($(#[doc = $line:literal])+ $name:ident,)+) => {
        /// A deliberate fault of the machine, of its store or of the relay around it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $line])+ $name,)+
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The description of the fault.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($line),+),)+
                }
            }
        }
    };
}

faults! {
    // Faults of the machine.
    /// A claim does not compare the fingerprint.
    FingerprintIgnored,
    /// A claim does not compare the terms.
    TermsIgnored,
    /// An outcome counts for any call under way.
    CallIgnored,
    /// An outcome counts for any request whose call has the same number.
    HolderIgnored,
    /// A claim takes over a payment whose lease still runs.
    LeaseForgotten,
    /// A lease never ends.
    LeaseEndless,
    /// A redemption is not counted.
    RedemptionUncounted,
    /// A refusal of a later call ends the payment.
    LateRefusalEnds,
    /// A refusal ends a payment that was settled.
    RefusalUndoesSettled,
    /// A call without an answer counts as refused.
    SilenceIsRefusal,
    /// A claim of an open payment makes its own call instead of the recorded one.
    OwnCallMade,
    /// A settlement begins without a verification.
    BegunUnverified,
    /// A settlement is begun twice by its holder.
    BegunTwice,
    /// An owed answer is forgotten when the authorization ends.
    OwedEndsWithWindow,
    /// An open settlement is forgotten when the authorization ends.
    OpenEndsWithWindow,
    /// "Settled" counts only for the newest call.
    OldSettledIgnored,
    /// The machine forgets that a request no longer waits.
    WaitsForgotten,
    /// A second payment for one purchase is taken.
    TwinIgnored,
    /// A payment that failed the checks of a new payment is taken as new.
    KnownOnlyIgnored,
    /// The reconciliation asks while a call is under way.
    AskedEarly,
    /// The caller of any call gets "settled", although another request is served.
    SettledToldToAnyone,
    /// "Settled" is written to the current record, even if it belongs to another payment.
    SettledToAnyRecord,
    // Faults of the relay around the machine.
    /// A reservation whose lease is over does not count as a twin, although its request may still
    /// begin to settle.
    LapsedTwinForgotten,
    /// The outcome is sent before it is recorded.
    ToldBeforeCommit,
    /// The call is made before it is recorded.
    CalledBeforeCommit,
    /// A payment that was not verified gets a price, although another request holds it by now.
    RefusedUnheld,
    /// A request continues after its verification, although another request holds the payment by
    /// now.
    ForwardedUnheld,
}

impl Fault {
    /// The smallest world in which the fault is found.
    pub fn world(self) -> Bounds {
        match self {
            Self::TwinIgnored | Self::LapsedTwinForgotten => Bounds::purchase(),
            Self::SettledToAnyRecord => Bounds::operator(),
            _ => Bounds::nonce(),
        }
    }

    /// Makes a step of the machine, with a fault or without.
    pub(crate) fn step(
        fault: Option<Self>,
        record: Option<Record>,
        event: Event,
        leases: &Leases,
        now: Now,
    ) -> Step {
        match fault {
            None => step(record, event, leases, now),
            Some(fault) => fault.faulty_step(record, event, leases, now),
        }
    }

    fn faulty_step(self, record: Option<Record>, event: Event, leases: &Leases, now: Now) -> Step {
        if let Some(step) = self.instead(record.as_ref(), &event, now) {
            return step;
        }
        let before = record.clone();
        let claim = if let Event::Claim(claim) = &event { Some(claim.clone()) } else { None };
        let (record, event) = self.mistaken(record, event);
        let mut step = step(record, event, leases, now);
        if !step.changed {
            step.record = before;
        }
        self.mistake(&mut step, claim.as_ref());
        step
    }

    /// Changes the input of the machine by this fault.
    fn mistaken(self, mut record: Option<Record>, mut event: Event) -> (Option<Record>, Event) {
        match (self, &mut record, &mut event) {
            (Self::FingerprintIgnored, Some(record), Event::Claim(claim)) => {
                claim.fingerprint = record.fingerprint.unwrap_or(claim.fingerprint);
                claim.proven = claim.fingerprint != Payment::Junk.fingerprint();
                claim.ends = record.ends;
            }
            (Self::TermsIgnored, Some(record), Event::Claim(claim)) => claim.terms = record.terms.clone(),
            (Self::TwinIgnored, _, Event::Claim(claim)) => claim.twin = None,
            (Self::KnownOnlyIgnored, _, Event::Claim(claim)) => claim.only_known = false,
            (Self::LeaseForgotten, Some(record), Event::Claim(claim)) => {
                if let Some(hold) = hold_of(record).filter(|hold| hold.holder != claim.holder) {
                    hold.until_ms = 0;
                }
            }
            (Self::AskedEarly, Some(record), Event::Ask(_)) => {
                if let Some(hold) = hold_of(record) {
                    hold.until_ms = 0;
                }
            }
            (Self::CallIgnored, Some(record), Event::Ended { epoch, holder, .. }) => {
                *epoch = record.epoch;
                if let Some(hold) = hold_of(record) {
                    *holder = hold.holder;
                }
            }
            (Self::HolderIgnored, Some(record), Event::Ended { holder, .. }) => {
                if let Some(hold) = hold_of(record) {
                    *holder = hold.holder;
                }
            }
            (Self::SilenceIsRefusal, _, Event::Ended { outcome, .. }) => {
                if let Outcome::Unknown { reason, .. } = outcome {
                    *outcome = Outcome::Refused { reason: reason.clone(), detail: None };
                }
            }
            (Self::SettledToAnyRecord, _, Event::Ended { claim, .. }) => *claim = None,
            (Self::BegunUnverified, Some(record), Event::Begin(_)) => {
                if let State::Reserved { trust, .. } = &mut record.state {
                    *trust = Trust::Vouched;
                }
            }
            _ => {}
        }
        (record, event)
    }

    /// The step in place of the machine's, if the fault replaces the whole step.
    fn instead(self, record: Option<&Record>, event: &Event, now: Now) -> Option<Step> {
        let record = record?;
        let ends = |answer, effects| Some(Step { answer, record: None, changed: true, effects });
        let stays =
            |answer| Some(Step { answer, record: Some(record.clone()), changed: false, effects: Vec::new() });
        let window_over = record.ends <= now.unix_seconds();
        let refused = || vec![Effect::Refused(String::new())];
        match (self, event, &record.state) {
            (
                Self::LateRefusalEnds,
                Event::Ended { epoch, outcome: Outcome::Refused { .. }, .. },
                State::Settling { .. },
            ) if *epoch == record.epoch => {
                let mut effects = refused();
                effects.extend(record.is_open().then_some(Effect::Closed));
                ends(Answer::Noted, effects)
            }
            (
                Self::RefusalUndoesSettled,
                Event::Ended { outcome: Outcome::Refused { .. }, .. },
                State::Owed { .. },
            ) => ends(Answer::Noted, refused()),
            (
                Self::OldSettledIgnored,
                Event::Ended { epoch, outcome: Outcome::Settled { .. }, .. },
                State::Settling { .. } | State::Unknown,
            ) if *epoch != record.epoch => stays(Answer::NotHeld),
            (Self::WaitsForgotten, Event::Over(..), State::Settling { .. }) => stays(Answer::Noted),
            (Self::BegunTwice, Event::Begin(holder), State::Settling { hold, .. })
                if hold.holder == *holder =>
            {
                let (call, transaction) = (Arc::clone(&record.call), record.transaction.clone());
                stays(Answer::Call { epoch: record.epoch, call, transaction })
            }
            (Self::OwedEndsWithWindow, Event::Sweep { .. }, State::Owed { .. }) if window_over => {
                ends(Answer::Noted, Vec::new())
            }
            (Self::OpenEndsWithWindow, Event::Sweep { .. }, State::Unknown) if window_over => {
                ends(Answer::Noted, vec![Effect::Closed, Effect::NeverKnown])
            }
            _ => None,
        }
    }

    /// Changes the result of the machine by this fault.
    fn mistake(self, step: &mut Step, claim: Option<&Claim>) {
        let changed = step.changed;
        match (self, step.record.as_mut().filter(|_| changed), &mut step.answer) {
            (Self::LeaseEndless, Some(record), _) => {
                if let Some(hold) = hold_of(record) {
                    hold.until_ms = u64::MAX;
                }
            }
            (Self::RedemptionUncounted, Some(record), _) => record.redeemed = false,
            (Self::OwnCallMade, _, Answer::Call { call, .. }) => {
                if let Some(claim) = claim {
                    *call = Arc::clone(&claim.call);
                }
            }
            _ => {}
        }
    }
}

fn hold_of(record: &mut Record) -> Option<&mut Hold> {
    match &mut record.state {
        State::Reserved { hold, .. } | State::Settling { hold, .. } | State::Owed { hold: Some(hold) } => {
            Some(hold)
        }
        State::Unknown | State::Owed { hold: None } | State::Delivered => None,
    }
}
