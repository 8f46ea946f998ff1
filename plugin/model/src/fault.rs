//! Faults put in on purpose, to see that each is found.

use std::sync::Arc;

use farebox_core::Now;
use farebox_core::payment::{
    Answer, Claim, Effect, Event, Hold, Leases, Outcome, Record, State, Step, Trust, step,
};

use crate::cast::Payment;
use crate::model::Bounds;

macro_rules! faults {
    ($($(#[doc = $line:literal])+ $name:ident,)+) => {
        /// What can be wrong with the machine, with its store or with the relay around it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $line])+ $name,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What is wrong.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($line),+),)+
                }
            }
        }
    };
}

faults! {
    // Of the machine.
    /// A claim does not compare what was signed.
    FingerprintIgnored,
    /// A claim does not compare what it is to buy.
    TermsIgnored,
    /// An outcome counts for whichever call is under way.
    CallIgnored,
    /// An outcome counts for whichever request has the call of its number.
    HolderIgnored,
    /// A claim takes a payment over whose lease runs.
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
    /// A claim of an open payment has its own call made instead of the recorded one.
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
    /// A request that no longer waits is still waited for.
    WaitsForgotten,
    /// A second payment for one purchase is taken.
    TwinIgnored,
    /// A payment that failed the checks of a new one is taken as one.
    KnownOnlyIgnored,
    /// The reconciliation asks while a call is under way.
    AskedEarly,
    /// "Settled" is told to whoever made a call, whoever is to be served.
    SettledToldToAnyone,
    /// "Settled" is written to the record there is, whosever it is.
    SettledToAnyRecord,
    // Of the relay around it.
    /// A reservation whose lease is over is no twin, although its request may still begin to settle.
    LapsedTwinForgotten,
    /// The outcome is told before it is written down.
    ToldBeforeCommit,
    /// The call is made before it is written down.
    CalledBeforeCommit,
    /// A payment that was not vouched for is priced again although another request has it by now.
    RefusedUnheld,
    /// A request goes on after its verification although another request has the payment by now.
    ForwardedUnheld,
}

impl Fault {
    /// The smallest world in which it shows.
    pub fn world(self) -> Bounds {
        match self {
            Self::TwinIgnored | Self::LapsedTwinForgotten => Bounds::purchase(),
            Self::SettledToAnyRecord => Bounds::operator(),
            _ => Bounds::nonce(),
        }
    }

    /// A step of the machine with a fault or none.
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

    /// What the machine sees with this fault.
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

    /// What the machine does with this fault where it would do something else altogether.
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

    /// What the machine does wrong afterwards.
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
